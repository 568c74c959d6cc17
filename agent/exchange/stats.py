"""What is counted of every exchange and connection: Istio's standard metrics and the proxy statistics of Envoy.

`record` runs once per exchange: one look-up finds the series of this combination of labels, then they are
incremented. A new combination is resolved by labels.py. What a record cannot tell (connections, pools, ejections)
is counted where it happens, on `cluster(name)` and `downstream(prefix)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from agent.exchange.labels import destination_service, http_labels, labels_of, own_place, tcp_labels
from agent.exchange.record import Record
from agent.upstream.stats import ClusterStats
from mesh.feed.node import Node
from mesh.telemetry.metrics import Counter, Gauge, Histogram, Labels, Registry

# Envoy's default buckets, used by Istio for milliseconds and for bytes.
BUCKETS: Final = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000),
    *(300000, 600000, 1800000, 3600000),
)
# Beyond these bounds the caches start anew (entries) or fall back to `unknown` (hosts): both grow by what clients send.
MAX_ENTRIES: Final = 4096
MAX_HOSTS: Final = 256
# Details that end in words of the peer or in policy names are cut here before they become a label.
_DETAIL_TAILS = ("{", "[")


class DownstreamStats:
    """One direction's listeners taken together, as Envoy's `http.<prefix>.` statistics."""

    def __init__(self, registry: Registry, prefix: str) -> None:
        labels: Labels = (("http_conn_manager_prefix", prefix),)

        def counter(name: str, help: str) -> Counter:
            return registry.counter(f"envoy_http_{name}", help).child(labels)

        self.cx_total: Counter = counter("downstream_cx_total", "Connections accepted.")
        self.rq_timeout: Counter = counter("downstream_rq_timeout", "Requests that were not read in time.")
        self.rq_idle_timeout: Counter = counter("downstream_rq_idle_timeout", "Streams closed because they were idle.")
        self.protocol_error: Counter = counter("downstream_cx_protocol_error", "Connections that broke the protocol.")
        self.rbac_allowed: Counter = counter("rbac_allowed", "Requests that policies allowed.")
        self.rbac_denied: Counter = counter("rbac_denied", "Requests that policies denied.")
        self.cx_active: Gauge = registry.gauge("envoy_http_downstream_cx_active", "Connections open now.").child(labels)
        self.rq_active: Gauge = registry.gauge("envoy_http_downstream_rq_active", "Requests under way.").child(labels)


class _Entry:
    """The series of one combination of labels. `held` keeps the objects alive whose id() is in the key."""

    __slots__ = ("cluster", "counters", "duration", "held", "request_bytes", "requests", "response_bytes")

    def __init__(
        self,
        requests: Counter,
        duration: Histogram,
        request_bytes: Histogram,
        response_bytes: Histogram,
        counters: tuple[Counter, ...],
        cluster: ClusterStats | None,
        held: tuple[object, ...],
    ) -> None:
        self.requests = requests
        self.duration = duration
        self.request_bytes = request_bytes
        self.response_bytes = response_bytes
        self.counters = counters
        self.cluster = cluster
        self.held = held


class _TcpMeter:
    """The series of one open connection and how many bytes they hold of it."""

    __slots__ = ("closed", "received", "received_total", "sent", "sent_total")

    def __init__(self, closed: Counter, received: Counter, sent: Counter) -> None:
        self.closed = closed
        self.received = received
        self.sent = sent
        self.received_total = 0
        self.sent_total = 0

    def report(self, record: Record) -> None:
        self.received.inc(record.bytes_received - self.received_total)
        self.sent.inc(record.bytes_sent - self.sent_total)
        self.received_total = record.bytes_received
        self.sent_total = record.bytes_sent


class Stats:
    """Everything that one proxy counts. `principal` is its own SPIFFE id, "" while it has none."""

    def __init__(self, registry: Registry, node: Node, principal: str = "") -> None:
        self.registry = registry
        self._node = node
        self._here = own_place(node)
        self._principal = principal
        # A gateway's Host headers are the internet's; Istio switches this fallback off there too.
        self._host_fallback = node.role == "sidecar"
        self._hosts: set[str] = set()
        self._entries: dict[tuple[object, ...], _Entry] = {}
        self._tcp: dict[Record, _TcpMeter] = {}
        self._clusters: dict[str, ClusterStats] = {}
        self._downstreams: dict[str, DownstreamStats] = {}
        self._under_way: Callable[[str], int] = lambda prefix: 0
        counter, histogram = registry.counter, registry.histogram
        self._requests = counter("istio_requests_total", "Requests, counted at their end.")
        self._duration = histogram("istio_request_duration_milliseconds", "Duration of exchanges.", BUCKETS)
        self._request_bytes = histogram("istio_request_bytes", "Size of requests, heads included.", BUCKETS)
        self._response_bytes = histogram("istio_response_bytes", "Size of responses, heads included.", BUCKETS)
        self._tcp_opened = counter("istio_tcp_connections_opened_total", "TCP connections opened.")
        self._tcp_closed = counter("istio_tcp_connections_closed_total", "TCP connections closed.")
        self._tcp_sent = counter("istio_tcp_sent_bytes_total", "Bytes sent back to clients of TCP connections.")
        self._tcp_received = counter("istio_tcp_received_bytes_total", "Bytes received of clients of TCP connections.")
        self._refused = counter("trioweave_refused_total", "What was dropped or refused, where and why.")
        tag = node.agent_version or "unknown"
        registry.gauge("istio_build", "Version.", merge="max").child((("component", "proxy"), ("tag", tag))).set(1)

    def set_principal(self, principal: str) -> None:
        """Take a new own SPIFFE id (first certificate, another trust domain)."""
        if principal != self._principal:
            self._principal = principal
            self._entries.clear()

    def cluster(self, name: str) -> ClusterStats:
        """The cluster's statistics; the same object until `forget_cluster`."""
        stats = self._clusters.get(name)
        if stats is None:
            stats = self._clusters[name] = ClusterStats(self.registry, name)
        return stats

    def forget_cluster(self, name: str) -> None:
        """Drop the statistics of a cluster that was drained; istio_* series stay, they tell the past."""
        stats = self._clusters.pop(name, None)
        if stats is not None:
            stats.forget()
            self._entries.clear()

    def downstream(self, prefix: str) -> DownstreamStats:
        """Statistics of listeners; `prefix` is inbound, outbound or the gateway's name for them."""
        stats = self._downstreams.get(prefix)
        if stats is None:
            stats = self._downstreams[prefix] = DownstreamStats(self.registry, prefix)
            stats.rq_active.watch(lambda: self._under_way(prefix))
        return stats

    def watch_exchanges(self, under_way: Callable[[str], int]) -> None:
        """Ask `under_way`, at each scrape, how many requests the listeners of a prefix have."""
        self._under_way = under_way

    def refused(self, where: str, reason: str, count: int = 1) -> None:
        """Count drops or refusals. Both words come from a small fixed set, never from a peer."""
        self._refused.child((("where", where), ("reason", reason))).inc(count)

    def record(self, record: Record) -> None:
        """Count a finished exchange. Costs about 2 us once its combination of labels was seen."""
        service = record.service
        host = ""
        key = (
            record.cluster,
            id(service),
            id(record.destination),
            id(record.source),
            record.response_code,
            record.flags,
            record.details,
            record.mtls,
            record.grpc,
            record.grpc_status,
            record.peer_principal,
            record.inbound,
            None if service is not None and service.service else (record.route, host := self._host(record)),
        )
        entry = self._entries.get(key)
        if entry is None:
            entry = self._resolve(key, record, host)
        entry.requests.value += 1
        entry.duration.observe((record.end - record.start) * 1000)
        entry.request_bytes.observe(record.bytes_received)
        entry.response_bytes.observe(record.bytes_sent)
        for counter in entry.counters:
            counter.value += 1
        if record.attempts > 1 and entry.cluster is not None:
            _count_retries(entry.cluster, record)

    def request_totals(self) -> Iterator[tuple[Labels, float, float]]:
        """Of each series of istio_requests_total: labels, number of requests, their seconds taken together."""
        # Both families are grown in one step and never shrink, so they are in the same order.
        for (labels, requests), (_, duration) in zip(self._requests.items(), self._duration.items(), strict=True):
            yield labels, requests.value, duration.sum / 1000

    def _host(self, record: Record) -> str:
        """The Host header as destination_service, for the first MAX_HOSTS unknown hosts."""
        if not self._host_fallback or record.inbound or not record.authority:
            return ""
        host = record.authority[:255].decode("ascii", "replace").lower()
        if host not in self._hosts:
            if len(self._hosts) >= MAX_HOSTS:
                self.refused("stats", "too_many_hosts")
                return ""
            self._hosts.add(host)
        return host

    def _resolve(self, key: tuple[object, ...], record: Record, host: str) -> _Entry:
        if len(self._entries) >= MAX_ENTRIES:
            self._entries.clear()
        labels = http_labels(record, self._shared_labels(record, host))
        entry = self._entries[key] = _Entry(
            self._requests.child(labels),
            self._duration.child(labels),
            self._request_bytes.child(labels),
            self._response_bytes.child(labels),
            (*self._downstream_counters(record), *self._cluster_counters(record)),
            self.cluster(record.cluster) if record.cluster else None,
            (record.service, record.destination, record.source),
        )
        return entry

    def _shared_labels(self, record: Record, host: str) -> Labels:
        service = destination_service(record, host, self._node)
        return labels_of(record, self._here, self._principal, service)

    def _downstream_counters(self, record: Record) -> list[Counter]:
        prefix: Labels = (("http_conn_manager_prefix", "inbound" if record.inbound else "outbound"),)

        def http(name: str, help: str, labels: Labels = ()) -> Counter:
            return self.registry.counter(f"envoy_http_{name}", help).child((*labels, *prefix))

        counters = [http("downstream_rq_total", "Requests received.")]
        if record.response_code:
            code_class = (("response_code_class", str(record.response_code // 100)),)
            counters.append(http("downstream_rq_xx", "Responses by class of status code.", code_class))
        for flag, name, help in (
            ("NR", "no_route", "Requests without a route."),
            ("NC", "no_cluster", "Requests routed to a cluster that does not exist."),
            ("DI", "fault_delays_injected", "Requests delayed on purpose."),
            ("FI", "fault_aborts_injected", "Requests aborted on purpose."),
        ):
            if flag in record.flags:
                counters.append(http(name, help))
        if record.details not in ("", "via_upstream"):
            details = record.details
            for tail in _DETAIL_TAILS:
                details = details.partition(tail)[0]
            replies = self.registry.counter(
                "trioweave_local_replies_total", "Requests that the proxy itself answered or ended, by details."
            )
            counters.append(replies.child((("details", details), *prefix)))
        return counters

    def _cluster_counters(self, record: Record) -> list[Counter]:
        if not record.cluster:
            return []
        stats = self.cluster(record.cluster)
        counters = []
        if record.attempts:
            counters.append(stats.upstream_rq_total)
        if record.response_code:
            counters.extend(stats.responses(record.response_code))
        if "UH" in record.flags:
            counters.append(stats.upstream_cx_none_healthy)
        return counters

    def tcp_opened(self, record: Record) -> None:
        """Count a relayed TCP connection; call it when the upstream is known, `tcp_closed` must follow."""
        self._tcp[record] = self._tcp_meter(record)

    def tcp_reported(self, record: Record) -> None:
        """Count the bytes since the last report; every 5 seconds of a connection's life, as Istio does."""
        meter = self._tcp.get(record)
        if meter is not None:
            meter.report(record)

    def tcp_closed(self, record: Record) -> None:
        """Count the end and the bytes since the last report; a connection never opened counts as both."""
        meter = self._tcp.pop(record, None) or self._tcp_meter(record)
        meter.report(record)
        meter.closed.inc()

    def _tcp_meter(self, record: Record) -> _TcpMeter:
        # Opening and closing carry the same labels (Istio's filter fills them once), so that their difference
        # is the number of open connections.
        labels = tcp_labels(record, self._shared_labels(record, ""))
        self._tcp_opened.child(labels).inc()
        return _TcpMeter(self._tcp_closed.child(labels), self._tcp_received.child(labels), self._tcp_sent.child(labels))


def _count_retries(stats: ClusterStats, record: Record) -> None:
    retries = record.attempts - 1
    stats.upstream_rq_total.inc(retries)
    stats.upstream_rq_retry.inc(retries)
    if "URX" in record.flags:
        stats.upstream_rq_retry_limit_exceeded.inc()
    elif 0 < record.response_code < 500:
        stats.upstream_rq_retry_success.inc()
