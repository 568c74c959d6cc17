from pilot.store import MeshSettings
from pilot.store.destination_rules import exported, find_rule, merge_rules
from tests.pilot.worlds import istio, objects

HOST = "reviews.shop.svc.cluster.local"


def rules(*texts: str):
    return merge_rules(objects("".join(texts)), MeshSettings())


def rule(name, namespace, subset, host=HOST, extra=""):
    return istio(
        "DestinationRule",
        name,
        f"  host: '{host}'\n  subsets: [{{name: {subset}, labels: {{v: x}}}}]\n{extra}",
        namespace=namespace,
    )


def found(known, client="client", labels=None):
    merged = find_rule(known, HOST, client=client, labels=labels or {}, service="shop", root="istio-system")
    return [item.subset.name for item in merged.subsets] if merged else None


def test_the_clients_namespace_goes_before_the_services_and_that_before_the_root():
    client, owner, root = rule("a", "client", "c"), rule("b", "shop", "s"), rule("c", "istio-system", "r")
    assert found(rules(client, owner, root)) == ["c"]
    assert found(rules(owner, root)) == ["s"]
    assert found(rules(root)) == ["r"]
    assert found(rules()) is None


def test_a_rule_that_is_not_exported_to_the_client_does_not_count():
    assert found(rules(rule("b", "shop", "s", extra="  exportTo: ['.']"))) is None
    assert found(rules(rule("b", "shop", "s", extra="  exportTo: [client]"))) == ["s"]


def test_the_root_namespaces_own_proxies_use_private_rules_first():
    private = rule("p", "istio-system", "private", extra="  exportTo: ['.']")
    public = rule("q", "istio-system", "public")
    assert found(rules(private, public), client="istio-system") == ["private"]
    assert found(rules(public), client="istio-system") == ["public"]


def test_an_exact_host_goes_before_a_wildcard_and_a_longer_one_before_a_shorter():
    short = rule("a", "client", "short", "*.cluster.local")
    longer = rule("b", "client", "longer", "*.shop.svc.cluster.local")
    assert found(rules(short, longer)) == ["longer"]
    assert found(rules(short, longer, rule("c", "client", "exact"))) == ["exact"]


def test_rules_of_one_host_and_export_merge_and_the_first_policy_wins():
    policy = "  trafficPolicy: {loadBalancer: {simple: %s}}"
    known = rules(
        rule("a", "shop", "one"),
        rule("b", "shop", "two", extra=policy % "RANDOM"),
        rule("c", "shop", "two", extra=policy % "ROUND_ROBIN"),
    )
    merged = find_rule(known, HOST, client="x", labels={}, service="shop", root="r")
    assert [item.subset.name for item in merged.subsets] == ["one", "two"]
    assert merged.policy.load_balancer.simple == "RANDOM"
    assert merged.policy_object.name == "b"
    assert [obj.name for obj in merged.objects] == ["a", "b", "c"]
    assert merged.subset("two").obj.name == "b"
    assert merged.subset("nine") is None


def test_a_rule_for_selected_clients_beats_the_plain_one():
    selected = rule("a", "client", "mine", extra="  workloadSelector: {matchLabels: {app: web}}")
    plain = rule("b", "client", "all")
    known = rules(selected, plain)
    assert found(known, labels={"app": "web"}) == ["mine"]
    assert found(known, labels={"app": "other"}) == ["all"]


def test_short_hosts_belong_to_the_rules_namespace():
    assert found(rules(rule("a", "shop", "s", "reviews"))) == ["s"]


def test_export_lists():
    assert exported("a", (), ("*",)) == ("*",)
    assert exported("a", (".", "b"), ("*",)) == ("a", "b")
    assert exported("a", ("~",), ("*",)) == ()
    assert exported("a", ("x", "*"), ()) == ("*",)
