import pytest

from pilot.store import MeshSettings
from pilot.translate import Proxy, translate
from tests.pilot.worlds import gateway, istio, node, service, world


def server(port=80, protocol="HTTP", extra="", host="*"):
    return f"{{port: {{number: {port}, name: p{port}, protocol: {protocol}}}, hosts: ['{host}']{extra}}}"


def gw(name, *servers, selector="{app: in}", created=""):
    return istio("Gateway", name, f"  selector: {selector}\n  servers: [{', '.join(servers)}]", created=created)


def serve(text, proxy=None):
    return translate(world(text), proxy or gateway(app="in"))


def test_a_selected_gateways_http_server_is_a_listener_with_its_route_table():
    route = istio(
        "VirtualService",
        "v",
        "  hosts: [a.com]\n  gateways: [default/gw]\n  http: [{route: [{destination: {host: reviews}}]}]",
    )
    translation = serve(service("reviews") + gw("gw", server()) + route)
    snapshot = translation.snapshot
    (listener,) = snapshot.listeners.values()
    assert (listener.name, listener.direction, listener.address, listener.port) == (
        "0.0.0.0_80",
        "gateway",
        "0.0.0.0",
        80,
    )
    chain = listener.chains[0].http
    assert (chain.route_config, chain.unknown_host, chain.use_remote_address) == ("http.80", "reject", True)
    assert chain.server_name == "istio-envoy"
    assert [host.domains for host in snapshot.routes["http.80"].virtual_hosts] == [("a.com",)]
    assert "outbound|9080||reviews.default.svc.cluster.local" in snapshot.clusters
    assert translation.reports == ()
    assert snapshot.dangling() == []


def test_paths_are_normalized_as_the_mesh_says():
    settings = MeshSettings(path_normalization="decode_and_merge_slashes")
    found = translate(world(gw("gw", server()), settings=settings), gateway(app="in")).snapshot
    (listener,) = found.listeners.values()
    assert listener.chains[0].http.path_normalization == "decode_and_merge_slashes"


@pytest.mark.parametrize("told", ["off", "require"])
def test_a_proxy_header_is_asked_for_as_the_mesh_says(told):
    settings = MeshSettings(gateway_proxy_protocol=told)
    found = translate(world(gw("gw", server()), settings=settings), gateway(app="in")).snapshot
    assert [listener.proxy_protocol for listener in found.listeners.values()] == [told]


def test_selectors_choose_and_standalone_gateways_take_all():
    text = gw("gw", server())
    assert serve(text, gateway(app="other")).snapshot.listeners == {}
    assert len(serve(text, Proxy(node(role="gateway"), match_all_gateways=True)).snapshot.listeners) == 1
    assert len(serve(gw("gw", server(), selector="{}"), gateway()).snapshot.listeners) == 1


def test_the_address_is_the_proxys_unless_the_server_has_its_own():
    text = gw("gw", server(), server(extra=", bind: 127.0.0.5").replace("p80", "other"))
    found = serve(text, Proxy(node(role="gateway", app="in"), bind="127.0.0.1")).snapshot
    assert set(found.listeners) == {"127.0.0.1_80", "127.0.0.5_80"}
    assert set(found.routes) == {"http.80", "http.80.127.0.0.5"}


def test_a_server_without_a_route_for_its_connections_is_reported():
    translation = serve(gw("gw", server(9, "TCP"), server(8, "TLS", ", tls: {mode: PASSTHROUGH}")))
    assert translation.snapshot.listeners == {}
    assert [(report.field, report.remedy) for report in translation.reports] == [
        ("spec.servers[1]", "bind a VirtualService with tls routes to default/gw"),
        ("spec.servers[0]", "bind a VirtualService with tcp routes to default/gw"),
    ]


def test_the_first_server_of_a_port_decides_its_protocol():
    text = gw("one", server(80, "TCP"), created="2020-01-01T00:00:00Z") + gw(
        "two", server(80), created="2021-01-01T00:00:00Z"
    )
    translation = serve(text)
    assert translation.snapshot.listeners == {}
    assert "belongs to Gateway default/one with protocol TCP" in translation.reports[0].message


def test_a_virtual_service_of_a_gateway_that_is_not_there_is_reported():
    text = istio(
        "VirtualService", "v", "  hosts: [a.com]\n  gateways: [gone]\n  http: [{directResponse: {status: 200}}]"
    )
    (report,) = serve(text).reports
    assert report.message.startswith("no Gateway default/gone exists")
