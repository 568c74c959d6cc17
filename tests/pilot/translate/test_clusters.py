import pytest

from mesh import config
from mesh.config.cluster import UNLIMITED
from pilot.store import MeshSettings
from pilot.translate import translate
from tests.pilot.worlds import istio, node, service, sidecar, world

HOST = "reviews.default.svc.cluster.local"
NAME = f"outbound|9080||{HOST}"


def clusters(*texts, settings=None, client=None, port_name="http"):
    made = world(service("reviews", port_name=port_name) + "".join(texts), settings=settings)
    return translate(made, client or sidecar()).snapshot.clusters


def rule(spec):
    return istio("DestinationRule", "reviews", "  host: reviews\n" + spec)


def test_a_cluster_for_the_service_port_with_istios_defaults():
    cluster = clusters()[NAME]
    assert cluster.lb_policy == "least_request"
    assert cluster.breakers == config.CircuitBreakers()
    assert cluster.connection == config.ConnectionSettings(connect_timeout=10.0)
    assert cluster.outlier is None
    assert (cluster.service, cluster.namespace, cluster.port) == (HOST, "default", 9080)
    assert cluster.tls == config.UpstreamTls("auto", f"outbound_.9080_._.{HOST}")
    assert (cluster.origin.kind, cluster.origin.name) == ("Service", "reviews")


def test_the_two_clusters_for_what_is_no_service():
    found = clusters(settings=MeshSettings(connect_timeout=2.0))
    assert found["PassthroughCluster"].discovery == "original_dst"
    assert found["PassthroughCluster"].connection.connect_timeout == 2.0
    assert found["BlackHoleCluster"].discovery == "blackhole"


def test_every_field_of_a_traffic_policy_acts():
    cluster = clusters(
        rule(
            """
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool:
      tcp: {maxConnections: 1, connectTimeout: 2s, idleTimeout: 3s, maxConnectionDuration: 60s,
        tcpKeepalive: {time: 5s}}
      http: {http1MaxPendingRequests: 4, http2MaxRequests: 5, maxRequestsPerConnection: 6, maxRetries: 7}
    outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 3, interval: 1s, baseEjectionTime: 2s,
      maxEjectionPercent: 100, minHealthPercent: 20, splitExternalLocalOriginErrors: true,
      consecutiveLocalOriginFailures: 9}
    tls: {mode: ISTIO_MUTUAL}
"""
        )
    )[NAME]
    assert cluster.lb_policy == "round_robin"
    assert cluster.breakers == config.CircuitBreakers(1, 4, 5, 7)
    assert cluster.connection == config.ConnectionSettings(2.0, 3.0, 6, 60.0, (9, 5.0, 75.0))
    assert cluster.outlier == config.OutlierDetection(0, 3, 9, True, 1.0, 2.0, 100.0, 20.0)
    assert cluster.tls.mode == "istio_mutual"
    assert cluster.origin.field == "spec.trafficPolicy"


def test_an_empty_outlier_block_is_detection_with_the_defaults():
    assert clusters(rule("  trafficPolicy: {outlierDetection: {}}"))[NAME].outlier == config.OutlierDetection()


def test_the_http_idle_timeout_goes_before_tcps():
    found = clusters(rule("  trafficPolicy: {connectionPool: {tcp: {idleTimeout: 3s}, http: {idleTimeout: 7s}}}"))
    assert found[NAME].connection.idle_timeout == 7.0
    assert found[NAME].breakers.max_connections == UNLIMITED


def test_a_port_entry_replaces_the_destinations_blocks_as_a_whole():
    cluster = clusters(
        rule(
            """
  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    connectionPool: {tcp: {maxConnections: 3}}
    portLevelSettings: [{port: {number: 9080}, connectionPool: {tcp: {connectTimeout: 1s}}}]
"""
        )
    )[NAME]
    assert cluster.lb_policy == "least_request"
    assert cluster.breakers.max_connections == UNLIMITED
    assert cluster.connection.connect_timeout == 1.0


def test_a_proxy_header_is_the_destinations_whatever_a_port_says_and_a_subsets_own():
    found = clusters(
        rule(
            """
  trafficPolicy:
    proxyProtocol: {}
    portLevelSettings: [{port: {number: 9080}, connectionPool: {tcp: {connectTimeout: 1s}}}]
  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: {proxyProtocol: {version: V2}}}
  - {name: v2, labels: {version: v2}}
"""
        )
    )
    told = {name: cluster.proxy_protocol for name, cluster in found.items() if HOST in name}
    assert told == {NAME: "v1", f"outbound|9080|v1|{HOST}": "v2", f"outbound|9080|v2|{HOST}": "v1"}
    assert clusters("")[NAME].proxy_protocol == "off"


SUBSETS = """
  trafficPolicy: {loadBalancer: {simple: RANDOM}, outlierDetection: {}}
  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
  - name: v2
    labels: {version: v2}
    trafficPolicy: {portLevelSettings: [{port: {number: 9080}, tls: {mode: DISABLE}}]}
"""


def test_a_subset_overrides_block_by_block_unless_it_has_an_entry_for_the_port():
    found = clusters(rule(SUBSETS))
    v1, v2 = found[f"outbound|9080|v1|{HOST}"], found[f"outbound|9080|v2|{HOST}"]
    assert v1.lb_policy == "round_robin"
    assert v1.outlier is not None
    assert v1.subset == "v1"
    assert v1.origin.field == "spec.subsets[0]"
    assert v1.tls.sni == f"outbound_.9080_.v1_.{HOST}"
    assert v2.lb_policy == "least_request"
    assert v2.outlier is None
    assert v2.tls.mode == "disable"


def test_passthrough_balancing_connects_where_the_request_says():
    found = clusters(rule("  trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}"))
    assert found[NAME].discovery == "original_dst"


@pytest.mark.parametrize(
    ("port_name", "policy", "expected"),
    [
        ("http", "", "http1"),
        ("web", "", "http1"),
        ("grpc", "", "http2"),
        ("tcp", "", "tcp"),
        ("https", "", "tcp"),
        ("http", "  trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}", "http2"),
        ("http", "  trafficPolicy: {connectionPool: {http: {useClientProtocol: true}}}", "downstream"),
    ],
)
def test_the_protocol_towards_the_service(port_name, policy, expected):
    assert clusters(*([rule(policy)] if policy else []), port_name=port_name)[NAME].protocol == expected


def test_the_peer_must_be_one_of_the_services_accounts():
    settings = MeshSettings(trust_domain="new", trust_domain_aliases=("old",))
    made, _ = world(service("reviews"), settings=settings).with_workload(node("reviews", account="sa"))
    assert translate(made, sidecar()).snapshot.clusters[NAME].tls.subject_alt_names == (
        "spiffe://new/ns/default/sa/sa",
        "spiffe://old/ns/default/sa/sa",
    )


def test_an_unknown_account_leaves_the_peer_open():
    entry = "  address: 10.0.0.1\n  labels: {app: reviews, security.istio.io/tlsMode: istio}"
    assert clusters(istio("WorkloadEntry", "vm", entry))[NAME].tls.subject_alt_names == ()


EXTERNAL = istio(
    "ServiceEntry",
    "ext",
    """
  hosts: [ext.example.com]
  ports: [{number: 443, name: tls, protocol: TLS}, {number: 80, name: http, protocol: HTTP}]
  resolution: DNS
  subjectAltNames: [ext]
""",
)


def test_external_services_are_spoken_to_in_plaintext_unless_a_rule_says_otherwise():
    cluster = clusters(EXTERNAL)["outbound|80||ext.example.com"]
    assert (cluster.discovery, cluster.mesh_external, cluster.tls.mode) == ("dns", True, "disable")
    simple = istio("DestinationRule", "e", "  host: ext.example.com\n  trafficPolicy: {tls: {mode: SIMPLE, sni: x}}")
    cluster = clusters(EXTERNAL, simple)["outbound|80||ext.example.com"]
    assert cluster.tls == config.UpstreamTls("simple", "x", ("ext",))


def test_without_auto_mtls_services_are_spoken_to_in_plaintext():
    assert clusters(settings=MeshSettings(enable_auto_mtls=False))[NAME].tls.mode == "disable"
    disabled = rule("  trafficPolicy: {tls: {mode: DISABLE}}")
    assert clusters(disabled)[NAME].tls == config.UpstreamTls("disable")


def test_an_entry_without_resolution_connects_where_the_request_says():
    text = EXTERNAL.replace("resolution: DNS", "resolution: NONE")
    made = world(text)
    snapshot = translate(made, sidecar()).snapshot
    assert snapshot.clusters["outbound|80||ext.example.com"].discovery == "original_dst"
    assert "outbound|80||ext.example.com" not in snapshot.endpoints
