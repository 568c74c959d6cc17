import msgspec
import pytest

from mesh import config
from pilot.store import MeshSettings
from pilot.translate import Proxy, translate
from tests.pilot.worlds import istio, node, service, sidecar, world


def snapshot(text="", proxy=None, settings=None):
    return translate(world(text, settings=settings), proxy or Proxy(node("reviews"))).snapshot


def mode(name):
    return istio("PeerAuthentication", "p", f"  mtls: {{mode: {name}}}")


def inbound(text):
    return snapshot(text).listeners["inbound|9080||"]


def test_an_app_port_is_served_at_the_agents_own_address():
    listener = inbound(service("reviews"))
    assert (listener.direction, listener.address, listener.port) == ("inbound", "127.0.0.1", 4000)


def test_the_chains_follow_the_mode():
    assert [chain.transport for chain in inbound(service("reviews")).chains] == ["mtls", "raw"]
    assert [chain.transport for chain in inbound(service("reviews") + mode("STRICT")).chains] == ["tls"]
    assert [chain.transport for chain in inbound(service("reviews") + mode("DISABLE")).chains] == ["any"]
    mtls = inbound(service("reviews")).chains[0]
    assert mtls.tls == config.DownstreamTls("istio_mutual", trust_domains=("cluster.local",))
    assert mtls.http == config.HttpChain(route_config="inbound|9080||", server_name="istio-envoy")


def test_the_meshs_path_normalization_is_every_http_chains():
    found = snapshot(service("reviews"), settings=MeshSettings(path_normalization="merge_slashes"))
    chains = [chain.http for listener in found.listeners.values() for chain in listener.chains if chain.http]
    assert len(chains) == 3
    assert {chain.path_normalization for chain in chains} == {"merge_slashes"}


def test_requests_go_to_the_app_and_are_retried_when_they_never_reached_it():
    found = snapshot(service("reviews"))
    (host,) = found.routes["inbound|9080||"].virtual_hosts
    assert host.domains == ("*",)
    action = host.routes[0].action
    assert action.clusters == (config.WeightedCluster("inbound|9080||"),)
    assert action.retries == config.RetryPolicy(2, ("reset-before-request",))
    assert found.endpoints["inbound|9080||"].endpoints == (config.Endpoint("127.0.0.1", 9080),)
    assert found.clusters["inbound|9080||"].tls.mode == "disable"


def test_a_grpc_port_is_not_retried_and_speaks_http2():
    found = snapshot(service("reviews", port_name="grpc"))
    assert found.routes["inbound|9080||"].virtual_hosts[0].routes[0].action.retries is None
    assert found.clusters["inbound|9080||"].protocol == "http2"


def test_a_tcp_port_is_relayed():
    found = snapshot(service("reviews", port_name="tcp"))
    chain = found.listeners["inbound|9080||"].chains[0]
    assert chain.http is None
    assert chain.tcp.clusters == (("inbound|9080||", 1),)
    assert "inbound|9080||" not in found.routes
    assert found.clusters["inbound|9080||"].protocol == "tcp"


@pytest.mark.parametrize(
    ("mtls", "chains"),
    [
        ("STRICT", ["mtls-http tls http", "mtls-tcp tls any"]),
        ("PERMISSIVE", ["mtls-http mtls http", "mtls-tcp mtls any", "raw-http raw http", "raw-tcp any any"]),
        ("DISABLE", ["raw-http any http", "raw-tcp any any"]),
    ],
)
@pytest.mark.parametrize("text", ["", service("reviews", port_name="web")], ids=["no service", "no protocol"])
def test_a_port_without_a_protocol_takes_both(text, mtls, chains):
    found = snapshot(text + mode(mtls))
    listener = found.listeners["inbound|9080||"]
    assert [f"{chain.name} {chain.transport} {chain.application}" for chain in listener.chains] == chains
    for chain in listener.chains:
        assert (chain.tls is not None) is chain.name.startswith("mtls")
        assert (chain.http is not None, chain.tcp is not None) == (
            chain.name.endswith("http"),
            chain.name.endswith("tcp"),
        )
    assert "inbound|9080||" in found.routes
    assert listener.detection_timeout == 0


@pytest.mark.parametrize(
    ("port_name", "mtls", "configured", "expected"),
    [
        ("mysql", "PERMISSIVE", 0.0, 1.0),
        ("mysql", "STRICT", 0.0, 0.0),
        ("http", "PERMISSIVE", 0.0, 0.0),
        ("web", "PERMISSIVE", 0.0, 0.0),
        ("mysql", "PERMISSIVE", 0.1, 0.1),
        ("web", "PERMISSIVE", 0.1, 0.1),
    ],
)
def test_how_long_first_bytes_are_waited_for(port_name, mtls, configured, expected):
    settings = MeshSettings(protocol_detection_timeout=configured)
    found = snapshot(service("reviews", port_name=port_name) + mode(mtls), settings=settings)
    assert found.listeners["inbound|9080||"].detection_timeout == expected


def test_the_target_port_leads_to_the_declaration():
    text = service("reviews", 80, target=9080, port_name="tcp")
    assert snapshot(text).listeners["inbound|9080||"].chains[0].tcp is not None


def test_a_workload_selector_and_a_name_lead_to_a_service_too():
    entry = istio(
        "ServiceEntry",
        "e",
        "  hosts: [x.com]\n  resolution: STATIC\n  location: MESH_INTERNAL\n"
        "  ports: [{number: 9080, name: tcp, protocol: TCP}]\n  workloadSelector: {labels: {app: reviews}}",
    )
    assert snapshot(entry).listeners["inbound|9080||"].chains[0].tcp is not None
    bare = service("reviews", port_name="tcp").replace("selector: {app: reviews}", "selector: {}")
    assert snapshot(bare).listeners["inbound|9080||"].chains[0].tcp is not None


def test_only_the_connection_pool_of_a_rule_acts_on_the_servers_side():
    rule = istio(
        "DestinationRule",
        "d",
        "  host: reviews\n"
        "  trafficPolicy: {connectionPool: {http: {http1MaxPendingRequests: 3}}, outlierDetection: {}}",
    )
    cluster = snapshot(service("reviews") + rule).clusters["inbound|9080||"]
    assert cluster.breakers.max_pending_requests == 3
    assert cluster.outlier is None


def test_a_registered_workload_sees_its_own_implied_service():
    proxy = Proxy(node("reviews"))
    made, _ = world().with_workload(proxy.node)
    assert translate(made, proxy).snapshot.clusters["inbound|9080||"].service == "reviews.default.svc.cluster.local"


def test_the_http_proxy_routes_by_port_and_follows_the_outbound_policy():
    listener = snapshot().listeners["http_proxy"]
    assert (listener.direction, listener.address, listener.port) == ("outbound", "127.0.0.1", 0)
    assert listener.chains[0].http == config.HttpChain(route_by_port=True, unknown_host="allow_any")
    closed = snapshot(settings=MeshSettings(outbound_policy="REGISTRY_ONLY")).listeners["http_proxy"]
    assert closed.chains[0].http.unknown_host == "registry_only"


def test_each_tcp_port_has_a_loopback_listener():
    rule = istio("DestinationRule", "d", "  host: db\n  trafficPolicy: {connectionPool: {tcp: {idleTimeout: 5s}}}")
    found = snapshot(service("db", 3306, port_name="mysql") + rule, sidecar())
    listener = found.listeners["tcp_db.default.svc.cluster.local:3306"]
    assert listener.service == "db.default.svc.cluster.local:3306"
    assert listener.chains[0].tcp.clusters == (("outbound|3306||db.default.svc.cluster.local", 1),)
    assert listener.chains[0].tcp.idle_timeout == 5.0
    wild = istio("ServiceEntry", "w", "  hosts: ['*.x.com']\n  ports: [{number: 443, name: tls, protocol: TLS}]")
    assert set(snapshot(wild, sidecar()).listeners) == {"http_proxy"}


def test_a_port_without_a_protocol_has_one_that_takes_requests_too():
    rule = istio("VirtualService", "v", "  hosts: [web]\n  http: [{timeout: 3s, route: [{destination: {host: web}}]}]")
    settings = MeshSettings(protocol_detection_timeout=0.2)
    found = snapshot(service("web", 7000, port_name="x") + rule, sidecar(), settings)
    listener = found.listeners["tcp_web.default.svc.cluster.local:7000"]
    http, tcp = listener.chains
    assert (http.application, tcp.application, listener.detection_timeout) == ("http", "any", 0.2)
    assert tcp.tcp.clusters == (("outbound|7000||web.default.svc.cluster.local", 1),)
    (host,) = found.routes[http.http.route_config].virtual_hosts
    assert host.domains == ("*",)
    assert host.routes[0].action.timeout == 3.0
    assert found.dangling() == []


@pytest.mark.parametrize(
    ("asked", "interval", "check"),
    [
        ("", 10.0, None),
        ("tcp", 10.0, config.HealthCheck(unhealthy_interval=0.5)),
        ("grpc", 10.0, config.HealthCheck(unhealthy_interval=0.5, grpc=True)),
        ("grpc:pkg.Books", 10.0, config.HealthCheck(unhealthy_interval=0.5, grpc=True, grpc_service="pkg.Books")),
        ("/a:b", 10.0, config.HealthCheck(unhealthy_interval=0.5, path="/a:b")),
        ("/ready", 0.2, config.HealthCheck(interval=0.2, unhealthy_interval=0.2, path="/ready")),
    ],
)
def test_the_app_is_checked_as_its_agent_asks(asked, interval, check):
    proxy = Proxy(msgspec.structs.replace(node("reviews"), health_check=asked, health_check_interval=interval))
    assert snapshot(service("reviews"), proxy).clusters["inbound|9080||"].health_check == check


@pytest.mark.parametrize("port_name", ["http2", "grpc", "grpc-web-x"])
def test_a_service_that_no_http1_proxy_reaches_has_a_loopback_port_of_its_own(port_name):
    found = snapshot(service("ratings", port_name=port_name), settings=MeshSettings(path_normalization="merge_slashes"))
    host = "ratings.default.svc.cluster.local:9080"
    listener = found.listeners[f"http_{host}"]
    assert (listener.direction, listener.address, listener.port) == ("outbound", "127.0.0.1", 0)
    assert listener.service == host
    (chain,) = listener.chains
    assert chain.tcp is None
    assert chain.http == msgspec.structs.replace(found.listeners["http_proxy"].chains[0].http, authority=host)
    assert "9080" in found.routes


def test_a_service_that_an_http1_proxy_reaches_has_none():
    assert {*snapshot(service("ratings"), sidecar()).listeners} == {"http_proxy"}
