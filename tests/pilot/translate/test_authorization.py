import pytest

from mesh import config
from pilot.store import decode_mesh_config
from pilot.translate import Proxy, translate
from pilot.translate.authorization import applicable, authz_policies
from pilot.translate.visibility import View
from tests.pilot.worlds import gateway, istio, node, service, world

ALL = "  rules: [{}]"


def policy(name, spec=ALL, namespace="default", created=""):
    return istio("AuthorizationPolicy", name, spec, namespace=namespace, created=created)


def view(text, proxy=None, **settings):
    return View(world(text, settings=decode_mesh_config(settings)), proxy or Proxy(node("a", app="a")))


def names(given):
    return [f"{each.namespace}/{each.name}" for each in given]


TEXT = "".join(
    (
        policy("young", created="2023-01-01T00:00:00Z"),
        policy("old", created="2020-01-01T00:00:00Z"),
        policy("mine", "  selector: {matchLabels: {app: a}}\n" + ALL, created="2024-01-01T00:00:00Z"),
        policy("other", "  selector: {matchLabels: {app: b}}\n" + ALL),
        policy("mesh", namespace="istio-system"),
        policy("edge", "  selector: {matchLabels: {istio: ingressgateway}}\n" + ALL, namespace="istio-system"),
        policy("foreign", namespace="elsewhere"),
        policy("aimed", "  targetRef: {kind: Service, name: a}\n" + ALL),
    )
)


def test_policies_of_the_root_namespace_and_the_own_one_that_select_the_workload():
    found = applicable(world(TEXT), "default", {"app": "a"})
    assert names(found) == ["istio-system/mesh", "default/old", "default/young", "default/mine"]


def test_gateways_are_selected_like_workloads():
    edge = gateway(istio="ingressgateway")
    assert sorted(names(authz_policies(view(TEXT, edge)))) == ["istio-system/edge", "istio-system/mesh"]


def test_a_gateway_alone_stands_before_every_namespace():
    alone = Proxy(gateway(istio="ingressgateway").node, match_all_gateways=True)
    found = names(authz_policies(view(TEXT, alone)))
    assert found[0].startswith("istio-system/")
    assert {"default/old", "elsewhere/foreign"} <= set(found)
    assert not {"default/mine", "default/other"} & set(found)


def rules(spec, **settings):
    (found,) = authz_policies(view(policy("p", "  rules:\n" + spec), **settings))
    return found.rules


def test_sources_operations_and_conditions():
    (rule,) = rules("""
  - from:
    - source: {namespaces: [n], notIpBlocks: [10.0.0.0/8]}
    - source: {serviceAccounts: [s, m/t]}
    to: [{operation: {paths: [/a], notPorts: ["80"]}}]
    when:
    - {key: "request.headers[X-A]", values: [a], notValues: [b]}
    - {key: connection.sni, values: [s]}
""")
    condition = config.AuthzCondition
    assert rule.sources == (
        (condition("source.namespace", ("n",)), condition("source.ip", ("10.0.0.0/8",), negated=True)),
        (condition("source.serviceAccount", ("default/s", "m/t")),),
    )
    assert rule.operations == (
        (condition("destination.port", ("80",), negated=True), condition("request.path", ("/a",))),
    )
    assert rule.conditions == (
        condition("request.header", ("a",), name="x-a"),
        condition("request.header", ("b",), negated=True, name="x-a"),
        condition("connection.sni", ("s",)),
    )


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("cluster.local/ns/a/sa/b", ("td1/ns/a/sa/b", "td2/ns/a/sa/b")),
        ("td2/ns/a/*", ("td1/ns/a/*", "td2/ns/a/*")),
        ("*/ns/a/sa/b", ("*/ns/a/sa/b",)),
        ("foreign/ns/a/sa/b", ("foreign/ns/a/sa/b",)),
        ("*", ("*",)),
    ],
)
def test_a_principal_of_the_mesh_is_one_under_each_name_of_its_trust_domain(written, expected):
    (rule,) = rules(
        f'  - when: [{{key: source.principal, values: ["{written}"]}}]', trustDomain="td1", trustDomainAliases=["td2"]
    )
    assert rule.conditions[0].values == expected


def test_what_decides_and_what_does_not():
    text = "".join(
        (
            policy("audit", "  action: AUDIT\n" + ALL),
            policy("custom", "  action: CUSTOM\n  provider: {name: opa}\n" + ALL),
            policy("deny", "  action: DENY\n" + ALL),
            policy("empty", "  {}"),
            policy("watched").replace("name: watched", 'name: watched, annotations: {istio.io/dry-run: "true"}'),
        )
    )
    found = {each.name: (each.action, len(each.rules)) for each in authz_policies(view(text))}
    assert found == {"custom": ("DENY", 1), "deny": ("DENY", 1), "empty": ("ALLOW", 0)}


def test_every_inbound_chain_has_them_with_the_apps_port():
    proxy = Proxy(node("a", app="a", port=9080, sidecar_port=4000))
    found = translate(world(service("a") + policy("p")), proxy).snapshot.listeners
    (inbound,) = (each for each in found.values() if each.direction == "inbound")
    assert [(chain.name, names(chain.policies), chain.destination_port) for chain in inbound.chains] == [
        ("mtls-http", ["default/p"], 9080),
        ("raw-http", ["default/p"], 9080),
    ]
    assert not any(c.policies for each in found.values() if each.direction == "outbound" for c in each.chains)


def test_a_policy_says_where_it_was_written():
    (found,) = authz_policies(view(policy("p")))
    assert (found.origin.kind, found.origin.name, found.origin.file) == ("AuthorizationPolicy", "p", "in.yaml")
