"""Clusters: a set of endpoints that serve the same thing, and the rules for talking to them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from mesh.config.route import Origin

UNLIMITED = 2**32 - 1


class CircuitBreakers(Struct, frozen=True, omit_defaults=True):
    """Limits of this proxy towards this cluster (DestinationRule connectionPool; the unset value is 2^32-1)."""

    max_connections: int = UNLIMITED
    max_pending_requests: int = UNLIMITED
    max_requests: int = UNLIMITED
    max_retries: int = UNLIMITED


class ConnectionSettings(Struct, frozen=True, omit_defaults=True):
    """How connections of the pool live. `max_requests_per_connection` 0 is unlimited; durations 0 are off.

    `max_concurrent_streams` 0: as many on one HTTP/2 connection as the peer allows.
    """

    connect_timeout: float = 10.0
    idle_timeout: float = 3600.0
    max_requests_per_connection: int = 0
    max_connection_duration: float = 0.0
    tcp_keepalive: tuple[int, float, float] | None = None
    """(probes, time, interval) or off."""
    max_concurrent_streams: int = 0
    http2_keepalive: tuple[float, float] | None = None
    """Seconds of silence after which a PING is sent, and for which its answer is waited for; or off."""


class OutlierDetection(Struct, frozen=True, omit_defaults=True):
    """Passive ejection (DestinationRule outlierDetection; 0 switches a counter off)."""

    consecutive_5xx: int = 5
    consecutive_gateway_errors: int = 0
    consecutive_local_origin_failures: int = 5
    split_external_local_origin_errors: bool = False
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_percent: float = 10.0
    min_health_percent: float = 0.0


class HealthCheck(Struct, frozen=True, omit_defaults=True):
    """Active checks: grpc.health.v1 with `grpc` (`grpc_service` "" asks for the whole server), GET `path` when given
    (200..399 is healthy), else a TCP connect.

    `unhealthy_interval` takes the place of `interval` while an endpoint fails; 0 is the same.
    """

    interval: float = 10.0
    unhealthy_interval: float = 0.0
    timeout: float = 1.0
    unhealthy_threshold: int = 3
    healthy_threshold: int = 1
    path: str = ""
    host: str = ""
    grpc: bool = False
    grpc_service: str = ""


class UpstreamTls(Struct, frozen=True, omit_defaults=True):
    """Encryption towards the cluster.

    `auto`: mesh mTLS to endpoints whose `tls` says istio, plaintext to the others; `istio_mutual`: mesh mTLS
    to all; `disable`: plaintext to all. `subject_alt_names`: SPIFFE ids of which the peer must hold one;
    empty accepts any identity of the trust domain.

    `simple` and `mutual` originate TLS: the peer's chain must lead to the roots of the secret `trust` (the
    system's, when empty), and its certificate must hold one of `subject_alt_names` or, with `verify_host`, be for
    the name `sni`. `certificate` is the secret shown in mode `mutual`.
    """

    mode: Literal["auto", "istio_mutual", "disable", "simple", "mutual"] = "auto"
    sni: str = ""
    subject_alt_names: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    """In order of preference; empty for mesh mTLS: as the cluster's protocol wants it."""
    certificate: str = ""
    trust: str = ""
    verify_host: bool = False
    skip_verify: bool = False

    def secrets(self) -> tuple[str, ...]:
        """Names of the secrets that it takes."""
        return tuple(name for name in (self.certificate, self.trust) if name)


class Cluster(Struct, frozen=True, omit_defaults=True):
    """Everything about a destination but its endpoints. `name` keeps Istio's form
    (`outbound|9080|v1|reviews.default.svc.cluster.local`, `inbound|9080||`).

    `discovery`: `eds` endpoints come by their own lane under the cluster's name; `dns` the endpoints'
    addresses are names to resolve; `original_dst` connect where the request says (PassthroughCluster);
    `blackhole` refuse. `protocol` downstream: HTTP/2 for requests that came by it, HTTP/1.1 for others.
    `proxy_protocol`: the header that each new connection begins with; such a connection speaks for one client and is
    not used for another.
    """

    name: str
    discovery: Literal["eds", "dns", "original_dst", "blackhole"] = "eds"
    service: str = ""
    namespace: str = ""
    port: int = 0
    subset: str = ""
    protocol: Literal["http1", "http2", "downstream", "tcp"] = "http1"
    lb_policy: Literal["round_robin", "least_request", "random"] = "least_request"
    breakers: CircuitBreakers = CircuitBreakers()
    connection: ConnectionSettings = ConnectionSettings()
    outlier: OutlierDetection | None = None
    health_check: HealthCheck | None = None
    tls: UpstreamTls = UpstreamTls()
    mesh_external: bool = False
    proxy_protocol: Literal["off", "v1", "v2"] = "off"
    origin: Origin = Origin()
