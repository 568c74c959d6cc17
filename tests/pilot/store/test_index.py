from pilot.store.index import gateway_name
from tests.pilot.worlds import istio, node, service, world


def virtual_service(name, hosts="[reviews]", extra="", created=""):
    rule = "  http: [{route: [{destination: {host: reviews}}]}]"
    return istio("VirtualService", name, f"  hosts: {hosts}\n{extra}\n{rule}", created=created)


def test_gateway_names_as_they_may_be_written():
    assert gateway_name("mesh", "ns") == "mesh"
    assert gateway_name("gw", "ns") == "ns/gw"
    assert gateway_name("./gw", "ns") == "ns/gw"
    assert gateway_name("other/gw", "ns") == "other/gw"
    assert gateway_name("gw.other.svc.cluster.local", "ns") == "other/gw"


def test_virtual_services_are_by_gateway_in_order_of_creation():
    text = (
        virtual_service("b", created="2020-01-01T00:00:00Z")
        + virtual_service("a", extra="  gateways: [gw, mesh]", created="2021-01-01T00:00:00Z")
        + virtual_service("c", created="2021-01-01T00:00:00Z")
        + istio("VirtualService", "delegate", "  http: [{route: [{destination: {host: reviews}}]}]")
    )
    bound = world(text).index.virtual_services
    assert [obj.name for obj in bound["mesh"]] == ["b", "a", "c"]
    assert [obj.name for obj in bound["default/gw"]] == ["a"]


def test_workloads_that_no_service_selects_make_one_of_their_own():
    made, _ = world(service("reviews")).with_workload(node("ratings", port=9080))
    made, _ = made.with_workload(node("ratings", port=9081, sidecar_port=4001))
    made, _ = made.with_workload(node("reviews"))
    index = made.index
    assert set(index.services) == {"reviews.default.svc.cluster.local", "ratings.default.svc.cluster.local"}
    (ratings,) = index.services["ratings.default.svc.cluster.local"]
    assert [port.number for port in ratings.ports] == [9080, 9081]
    instances = index.instances[("default", ratings.host)]
    assert [item.port for item in instances[9080]] == [4000]
    assert [item.port for item in instances[9081]] == [4001]


def test_a_workload_of_another_label_does_not_make_a_service_of_a_taken_name():
    made, _ = world(service("reviews")).with_workload(node("reviews", app="other"))
    assert len(made.index.services) == 1
    assert made.index.instances[("default", "reviews.default.svc.cluster.local")] == {}


def test_external_names_of_mesh_services_are_aliases_even_in_chains_and_not_in_circles():
    alias = """
---
apiVersion: v1
kind: Service
metadata: {name: %s}
spec: {type: ExternalName, externalName: %s}
"""
    text = (
        service("reviews")
        + alias % ("one", "two.default.svc.cluster.local")
        + alias % ("two", "reviews.default.svc.cluster.local")
        + alias % ("x", "y.default.svc.cluster.local")
        + alias % ("y", "x.default.svc.cluster.local")
    )
    services = world(text).index.services
    (reviews,) = services["reviews.default.svc.cluster.local"]
    assert sorted(reviews.aliases) == ["one.default.svc.cluster.local", "two.default.svc.cluster.local"]
    assert "one.default.svc.cluster.local" not in services


def test_accounts_are_those_of_the_workloads():
    made, _ = world(service("reviews")).with_workload(node("reviews", account="b"))
    made, _ = made.with_workload(node("reviews", account="a", sidecar_port=4001))
    assert made.index.accounts[("default", "reviews.default.svc.cluster.local")] == (("default", "a"), ("default", "b"))


def test_only_labels_that_rules_ask_for_tell_clients_apart():
    text = istio(
        "VirtualService",
        "v",
        "  hosts: [reviews]\n  http: [{match: [{sourceLabels: {app: web}}], route: [{destination: {host: reviews}}]}]",
    ) + istio("DestinationRule", "d", "  host: reviews\n  workloadSelector: {matchLabels: {tier: x}}")
    assert world(text).index.client_labels == {"app", "tier"}


def test_gateways_and_peer_authentications():
    text = istio(
        "Gateway", "gw", "  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]"
    ) + istio("PeerAuthentication", "pa", "  mtls: {mode: STRICT}")
    index = world(text).index
    assert [obj.name for obj in index.gateways] == ["gw"]
    assert [obj.name for obj in index.peer_authentications["default"]] == ["pa"]
