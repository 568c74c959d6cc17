"""DestinationRule: the whole field set of networking.istio.io v1.

Integers of a connection pool are 0 when unset, as in Istio. Rules between fields stand in
validate_destination_rule.py.
"""

from typing import Literal

from msgspec import Struct, field

from pilot.resources.fields import Duration, Int32, UInt32, UInt64
from pilot.resources.meta import MatchLabels
from pilot.resources.virtual_service import PortSelector


class HttpCookieAttribute(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One extra attribute of a generated cookie."""

    name: str
    value: str = ""


class HttpCookie(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Cookie to hash; generated when `ttl` is given and the request has none."""

    name: str
    path: str = ""
    ttl: Duration | None = None
    attributes: tuple[HttpCookieAttribute, ...] = ()


class RingHash(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Ring hash sizes."""

    minimum_ring_size: UInt64 = 0


class Maglev(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Maglev table size, a prime."""

    table_size: UInt64 = 0


class ConsistentHash(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What to hash, and how."""

    http_header_name: str | None = None
    http_cookie: HttpCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: str | None = None
    ring_hash: RingHash | None = None
    maglev: Maglev | None = None
    minimum_ring_size: UInt64 = 0


class Distribute(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Where clients of a locality send their traffic, in per cent."""

    from_: str = field(name="from", default="")
    to: dict[str, UInt32] = {}


class Failover(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Region to use when the own one is unhealthy."""

    from_: str = field(name="from", default="")
    to: str = ""


class LocalityLbSetting(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Locality-aware load balancing."""

    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    enabled: bool | None = None


class ZoneAwareLbSetting(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Zone-proportional load balancing."""

    enabled: bool | None = None
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    min_cluster_size: UInt64 | None = None


class Warmup(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Slow start of new endpoints."""

    duration: Duration | None = None
    minimum_percent: float | None = None
    aggression: float | None = None


SimpleLb = Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"]


class LoadBalancerSettings(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """How to choose an endpoint."""

    simple: SimpleLb | None = None
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalityLbSetting | None = None
    zone_aware_lb_setting: ZoneAwareLbSetting | None = None
    warmup_duration_secs: Duration | None = None
    warmup: Warmup | None = None


class TcpKeepalive(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """SO_KEEPALIVE of upstream sockets; unset values are the system's."""

    probes: UInt32 = 0
    time: Duration | None = None
    interval: Duration | None = None


class TcpSettings(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Settings common to HTTP and TCP upstream connections."""

    max_connections: Int32 = 0
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class Http2KeepAlive(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """PING keep-alive of HTTP/2 upstream connections."""

    interval: Duration | None = None
    timeout: Duration | None = None


class HttpSettings(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Settings of HTTP upstream connections."""

    http1_max_pending_requests: Int32 = 0
    http2_max_requests: Int32 = 0
    max_requests_per_connection: Int32 = 0
    max_retries: Int32 = 0
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] = "DEFAULT"
    use_client_protocol: bool = False
    max_concurrent_streams: Int32 = 0
    http2_keep_alive: Http2KeepAlive | None = None


class ConnectionPoolSettings(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Limits and life of upstream connections."""

    tcp: TcpSettings | None = None
    http: HttpSettings | None = None


class OutlierDetection(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Passive ejection; None is "take the default"."""

    consecutive_errors: Int32 = 0
    split_external_local_origin_errors: bool = False
    consecutive_local_origin_failures: UInt32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: UInt32 | None = field(name="consecutive5xxErrors", default=None)
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: Int32 = 0
    min_health_percent: Int32 = 0
    outlier_detection_http_error_codes: tuple[UInt32, ...] = ()


class ClientTlsSettings(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Encryption towards the destination."""

    mode: Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] = "DISABLE"
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: bool | None = None
    ca_crl: str = ""


class TunnelSettings(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Wrap connections in an HTTP tunnel."""

    protocol: str = ""
    target_host: str = ""
    target_port: UInt32 = 0


class ProxyProtocol(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """PROXY protocol towards the destination."""

    version: Literal["V1", "V2"] = "V1"


class RetryBudget(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Concurrent retries as a share of active requests."""

    percent: float | None = None
    min_retry_concurrency: UInt32 = 0
    budget_interval: Duration | None = None


class PortTrafficPolicy(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Policy of one service port; replaces the destination's blocks as a whole."""

    port: PortSelector | None = None
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTlsSettings | None = None


class TrafficPolicy(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Policy of a destination or of a subset."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTlsSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


class Subset(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A named part of the endpoints."""

    name: str
    labels: dict[str, str] = {}
    traffic_policy: TrafficPolicy | None = None


class DestinationRule(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a DestinationRule."""

    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: MatchLabels | None = None
