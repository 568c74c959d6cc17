from pilot.store.services import Service
from pilot.translate.services import domains, inbound_name, outbound_name, parse_outbound

REVIEWS = Service("reviews.prod.svc.cluster.local", "reviews", "prod", (), short_names=True, addresses=("10.0.0.1",))


def test_cluster_names_are_istios():
    assert outbound_name("reviews.default.svc.cluster.local", 9080, "v1") == (
        "outbound|9080|v1|reviews.default.svc.cluster.local"
    )
    assert inbound_name(9080) == "inbound|9080||"
    assert parse_outbound("outbound|80||a.b") == ("a.b", 80, "")
    assert parse_outbound("inbound|80||") is None
    assert parse_outbound("PassthroughCluster") is None


def test_the_bare_name_is_for_the_own_namespace():
    certain, short = domains(REVIEWS, "prod")
    assert certain == ["reviews.prod.svc.cluster.local", "reviews.prod.svc.cluster.local.", "10.0.0.1"]
    assert short == ["reviews", "reviews.prod", "reviews.prod.svc"]
    assert domains(REVIEWS, "other")[1] == ["reviews.prod", "reviews.prod.svc"]


def test_a_headless_service_is_reached_by_its_pods_names_too():
    certain, short = domains(Service("h.a.svc.cluster.local", "h", "a", (), short_names=True, headless=True), "a")
    assert "*.h.a.svc.cluster.local" in certain
    assert "*.h" in short


def test_aliases_and_hosts_that_are_no_kubernetes_names():
    aliased = Service("a.n.svc.cluster.local", "a", "n", (), aliases=("b.n.svc.cluster.local",), short_names=True)
    certain, short = domains(aliased, "n")
    assert "b.n.svc.cluster.local." in certain
    assert "b" in short
    assert domains(Service("example.com", "e", "n", ()), "n") == (["example.com", "example.com."], [])
    assert domains(Service("*.example.com", "e", "n", ()), "n") == (["*.example.com"], [])
