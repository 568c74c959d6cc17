from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from agent.exchange.record import Record
from agent.exchange.stats import MAX_ENTRIES, MAX_HOSTS, Stats
from mesh import config
from mesh.feed.node import Node
from mesh.telemetry.metrics import Registry

NAME = "outbound|9080||reviews.default.svc.cluster.local"
REVIEWS = config.Cluster(NAME, service="reviews.default.svc.cluster.local", namespace="default", port=9080)
V1 = config.Workload("reviews-v1", "default", "reviews", "v1")
NODE = Node(id="n", role="sidecar", service="cart", workload="cart-v1", agent_version="0.1.0")
OWN = "spiffe://cluster.local/ns/default/sa/cart"


def exchange(**fields: object) -> Record:
    record = Record(10.0)
    record.end = 10.012
    record.service, record.cluster, record.destination = REVIEWS, NAME, V1
    record.response_code, record.details, record.attempts = 200, "via_upstream", 1
    record.bytes_received, record.bytes_sent = 300, 4000
    record.authority = b"reviews:9080"
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def make(node: Node = NODE, **limits: int) -> Stats:
    return Stats(Registry(**limits), node, OWN)


def total(stats: Stats, name: str, **labels: str) -> float:
    """Sum of the samples of that name with these labels, as Prometheus would read them.

    Without the TYPE lines, as the reference parser renames counters that do not end in _total.
    """
    lines = stats.registry.exposition().decode().splitlines()
    text = "".join(f"{line}\n" for line in lines if line.startswith((f"{name}{{", f"{name} ")))
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if labels.items() <= sample.labels.items()
    )


def test_an_exchange_counts_once_in_each_of_istios_metrics() -> None:
    stats = make()
    for _ in range(3):
        stats.record(exchange())
    stats.record(exchange(response_code=503, flags=("UH",), details="no_healthy_upstream"))
    labels = {"destination_workload": "reviews-v1", "response_code": "200"}
    assert total(stats, "istio_requests_total", **labels) == 3
    assert total(stats, "istio_requests_total", response_code="503", response_flags="UH") == 1
    assert total(stats, "istio_request_duration_milliseconds_bucket", le="10", **labels) == 0
    assert total(stats, "istio_request_duration_milliseconds_bucket", le="25", **labels) == 3
    assert total(stats, "istio_request_bytes_sum", **labels) == 900
    assert total(stats, "istio_response_bytes_sum", **labels) == 12000
    assert total(stats, "istio_build", component="proxy", tag="0.1.0") == 1


def test_the_proxy_statistics_follow_the_exchange() -> None:
    stats = make()
    stats.record(exchange())
    stats.record(exchange(response_code=503, attempts=3, flags=("URX", "UF"), details="upstream_reset{x}"))
    stats.record(exchange(attempts=2))
    stats.record(exchange(response_code=503, attempts=0, flags=("UH",), details="no_healthy_upstream"))
    assert total(stats, "envoy_cluster_upstream_rq_total", cluster_name=NAME) == 6
    assert total(stats, "envoy_cluster_upstream_rq", cluster_name=NAME, response_code="200") == 2
    assert total(stats, "envoy_cluster_upstream_rq_xx", cluster_name=NAME, response_code_class="5") == 2
    assert total(stats, "envoy_cluster_upstream_rq_retry", cluster_name=NAME) == 3
    assert total(stats, "envoy_cluster_upstream_rq_retry_success", cluster_name=NAME) == 1
    assert total(stats, "envoy_cluster_upstream_rq_retry_limit_exceeded", cluster_name=NAME) == 1
    assert total(stats, "envoy_cluster_upstream_cx_none_healthy", cluster_name=NAME) == 1
    assert total(stats, "envoy_http_downstream_rq_total", http_conn_manager_prefix="outbound") == 4
    assert total(stats, "envoy_http_downstream_rq_xx", response_code_class="2") == 2


def test_answers_of_the_proxy_itself_are_counted_by_their_reason() -> None:
    stats = make()
    local = {"service": None, "cluster": "", "destination": None, "attempts": 0}
    stats.record(exchange(**local, response_code=404, flags=("NR",), details="route_not_found"))
    stats.record(exchange(**local, response_code=503, flags=("NC",), details="cluster_not_found"))
    stats.record(exchange(**local, response_code=0, flags=("DC",), details="downstream_remote_disconnect"))
    stats.record(exchange(**local, response_code=403, details="rbac_access_denied_matched_policy[ns[a]-policy[b]]"))
    stats.record(exchange(**local, response_code=503, flags=("DI", "FI"), details="fault_filter_abort"))
    assert total(stats, "envoy_http_no_route") == 1
    assert total(stats, "envoy_http_no_cluster") == 1
    assert total(stats, "envoy_http_fault_delays_injected") == total(stats, "envoy_http_fault_aborts_injected") == 1
    assert total(stats, "trioweave_local_replies_total", details="rbac_access_denied_matched_policy") == 1
    assert total(stats, "trioweave_local_replies_total", details="downstream_remote_disconnect") == 1
    assert total(stats, "istio_requests_total", response_code="0", destination_service="reviews:9080") == 1


def test_inbound_exchanges_are_reported_by_the_destination() -> None:
    stats = make()
    peer = "spiffe://cluster.local/ns/front/sa/web"
    stats.record(exchange(inbound=True, cluster="inbound|9080||", service=None, mtls=True, peer_principal=peer))
    labels = {"reporter": "destination", "source_principal": peer, "connection_security_policy": "mutual_tls"}
    assert total(stats, "istio_requests_total", **labels, destination_service="cart.default.svc.cluster.local") == 1
    assert total(stats, "envoy_http_downstream_rq_total", http_conn_manager_prefix="inbound") == 1


def test_equal_records_share_series_even_when_their_objects_are_new() -> None:
    stats = make()
    for _ in range(2):
        workload = config.Workload("reviews-v1", "default", "reviews", "v1")
        service = config.Cluster(NAME, service="reviews.default.svc.cluster.local", namespace="default", port=9080)
        stats.record(exchange(service=service, destination=workload))
    assert total(stats, "istio_requests_total", destination_workload="reviews-v1") == 2


def test_a_new_principal_is_in_the_labels_from_then_on() -> None:
    stats = make()
    stats.set_principal("")
    stats.record(exchange(mtls=True, peer_principal="spiffe://x/ns/a/sa/b"))
    stats.set_principal(OWN)
    stats.set_principal(OWN)
    stats.record(exchange(mtls=True, peer_principal="spiffe://x/ns/a/sa/b"))
    assert total(stats, "istio_requests_total", source_principal="unknown") == 1
    assert total(stats, "istio_requests_total", source_principal=OWN) == 1


def test_invented_hosts_are_bounded_and_the_rest_is_counted_as_refused() -> None:
    stats = make(limit=10_000)
    for n in range(MAX_HOSTS + 50):
        stats.record(
            exchange(
                service=None, cluster="", destination=None, authority=b"Host-%d" % n, response_code=404, attempts=0
            )
        )
    assert total(stats, "istio_requests_total", destination_service="host-0") == 1
    assert total(stats, "istio_requests_total", destination_service="unknown") == 50
    assert total(stats, "trioweave_refused_total", where="stats", reason="too_many_hosts") == 50


def test_a_gateway_never_makes_a_label_of_the_host() -> None:
    stats = make(Node(id="g", role="gateway"))
    stats.record(exchange(service=None, cluster="", destination=None, response_code=404))
    assert total(stats, "istio_requests_total", destination_service="unknown") == 1


def test_the_cache_starts_anew_when_full_and_loses_no_count() -> None:
    stats = make(limit=4)
    for n in range(MAX_ENTRIES + 10):
        stats.record(exchange(details=f"invented_{n}"))
    assert total(stats, "istio_requests_total") == MAX_ENTRIES + 10
    assert total(stats, "trioweave_local_replies_total", overflow="true") == MAX_ENTRIES + 10 - 4


def test_refusals_are_counted_by_place_and_reason() -> None:
    stats = make()
    stats.refused("listener", "max_connections")
    stats.refused("listener", "max_connections")
    assert total(stats, "trioweave_refused_total", where="listener", reason="max_connections") == 2


def test_downstream_statistics_are_one_object_per_prefix() -> None:
    stats = make()
    downstream = stats.downstream("inbound")
    assert stats.downstream("inbound") is downstream
    downstream.cx_total.inc()
    downstream.cx_active.inc()
    downstream.cx_active.dec()
    assert total(stats, "envoy_http_downstream_cx_total", http_conn_manager_prefix="inbound") == 1
    assert total(stats, "envoy_http_downstream_cx_active", http_conn_manager_prefix="inbound") == 0


def test_requests_under_way_are_asked_for_by_prefix() -> None:
    stats = make()
    stats.downstream("inbound")
    stats.watch_exchanges({"inbound": 3, "outbound": 5}.__getitem__)
    stats.downstream("outbound")
    assert total(stats, "envoy_http_downstream_rq_active", http_conn_manager_prefix="inbound") == 3
    assert total(stats, "envoy_http_downstream_rq_active", http_conn_manager_prefix="outbound") == 5


def test_a_forgotten_cluster_keeps_its_istio_series_only() -> None:
    stats = make()
    stats.record(exchange())
    assert stats.cluster(NAME) is stats.cluster(NAME)
    stats.forget_cluster(NAME)
    stats.forget_cluster(NAME)
    text = stats.registry.exposition().decode()
    assert "envoy_cluster_" not in text
    assert "istio_requests_total" in text
    stats.record(exchange())
    assert total(stats, "envoy_cluster_upstream_rq_total", cluster_name=NAME) == 1


def test_a_tcp_connection_reports_its_bytes_as_they_come() -> None:
    stats = make()
    connection = exchange(response_code=0, bytes_received=0, bytes_sent=0, details="")
    stats.tcp_opened(connection)
    connection.bytes_received, connection.bytes_sent = 10, 100
    stats.tcp_reported(connection)
    assert total(stats, "istio_tcp_received_bytes_total", request_protocol="tcp") == 10
    assert total(stats, "istio_tcp_connections_closed_total") == 0
    connection.bytes_received, connection.bytes_sent = 15, 150
    connection.flags = ("UC",)
    stats.tcp_closed(connection)
    stats.tcp_reported(connection)
    assert total(stats, "istio_tcp_received_bytes_total") == 15
    assert total(stats, "istio_tcp_sent_bytes_total") == 150
    opened = total(stats, "istio_tcp_connections_opened_total", destination_workload="reviews-v1", response_flags="-")
    assert opened == total(stats, "istio_tcp_connections_closed_total", response_flags="-") == 1


def test_a_connection_that_never_got_through_counts_as_opened_and_closed() -> None:
    stats = make()
    stats.tcp_closed(exchange(flags=("UF",)))
    assert total(stats, "istio_tcp_connections_opened_total", response_flags="UF") == 1
    assert total(stats, "istio_tcp_connections_closed_total", response_flags="UF") == 1
