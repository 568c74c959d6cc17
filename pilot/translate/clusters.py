"""Services x ports x subsets, under their DestinationRules -> clusters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from mesh import config
from mesh.config.cluster import UNLIMITED
from pilot.resources.destination_rule import (
    ClientTlsSettings,
    ConnectionPoolSettings,
    Http2KeepAlive,
    LoadBalancerSettings,
    OutlierDetection,
    PortTrafficPolicy,
    ProxyProtocol,
    TrafficPolicy,
)
from pilot.resources.object import Object
from pilot.store.destination_rules import MergedRule, RuleSubset
from pilot.store.services import Service, ServicePort
from pilot.translate.endpoints import cluster_endpoints
from pilot.translate.services import BLACK_HOLE, PASSTHROUGH, outbound_name
from pilot.translate.upstream_tls import translate_upstream_tls
from pilot.translate.visibility import View

_LB: dict[str, Literal["round_robin", "least_request", "random"]] = {
    "ROUND_ROBIN": "round_robin",
    "RANDOM": "random",
    "LEAST_REQUEST": "least_request",
    "LEAST_CONN": "least_request",
}
_PROXY: dict[str, Literal["v1", "v2"]] = {"V1": "v1", "V2": "v2"}


class Policy(Struct, frozen=True):
    """The blocks of a traffic policy as they act on one cluster."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTlsSettings | None = None
    proxy_protocol: ProxyProtocol | None = None


def compose(policy: TrafficPolicy | None, subset: TrafficPolicy | None, port: int) -> Policy:
    """The policy of one port, or of a subset at that port.

    A port entry replaces all four blocks that it can have as a whole; a subset overrides block by block, unless it
    has an entry of its own for the port (Istio's rules of composition).
    """
    proxied = (subset.proxy_protocol if subset is not None else None) or (
        policy.proxy_protocol if policy is not None else None
    )
    own = _port_entry(subset, port)
    if own is not None:
        return _blocks(own, proxied)
    base = _blocks(_port_entry(policy, port) or policy, proxied)
    if subset is None:
        return base
    return Policy(
        subset.load_balancer or base.load_balancer,
        subset.connection_pool or base.connection_pool,
        subset.outlier_detection or base.outlier_detection,
        subset.tls or base.tls,
        proxied,
    )


def _port_entry(policy: TrafficPolicy | None, port: int) -> PortTrafficPolicy | None:
    for entry in policy.port_level_settings if policy is not None else ():
        if entry.port is not None and entry.port.number == port:
            return entry
    return None


def _blocks(policy: TrafficPolicy | PortTrafficPolicy | None, proxied: ProxyProtocol | None) -> Policy:
    if policy is None:
        return Policy()
    return Policy(policy.load_balancer, policy.connection_pool, policy.outlier_detection, policy.tls, proxied)


def translate_clusters(view: View) -> Iterator[tuple[config.Cluster, config.ClusterEndpoints | None]]:
    """Every visible service port and each of its subsets, then the clusters for destinations that are no service."""
    for service in view.services.values():
        rule = view.rule(service)
        for port in service.ports:
            yield _cluster(view, service, port, rule, None)
            for subset in rule.subsets if rule is not None else ():
                yield _cluster(view, service, port, rule, subset)
    connection = config.ConnectionSettings(connect_timeout=view.settings.connect_timeout)
    plain = config.UpstreamTls("disable")
    yield config.Cluster(PASSTHROUGH, "original_dst", connection=connection, tls=plain, mesh_external=True), None
    yield config.Cluster(BLACK_HOLE, "blackhole", tls=plain), None


def _cluster(
    view: View, service: Service, port: ServicePort, rule: MergedRule | None, subset: RuleSubset | None
) -> tuple[config.Cluster, config.ClusterEndpoints | None]:
    policy = compose(
        rule.policy if rule is not None else None,
        subset.subset.traffic_policy if subset is not None else None,
        port.number,
    )
    name = subset.subset.name if subset is not None else ""
    balancer = policy.load_balancer.simple if policy.load_balancer is not None else None
    original = service.resolution == "none" or balancer == "PASSTHROUGH"
    discovery: Literal["eds", "dns"] = "dns" if service.resolution == "dns" else "eds"
    cluster = config.Cluster(
        name=outbound_name(service.host, port.number, name),
        discovery="original_dst" if original else discovery,
        service=service.host,
        namespace=service.namespace,
        port=port.number,
        subset=name,
        protocol=_protocol(port, policy.connection_pool),
        lb_policy=_LB.get(balancer or "", "least_request"),
        breakers=breakers(policy.connection_pool),
        connection=connection(policy.connection_pool, view.settings.connect_timeout),
        outlier=_outlier(policy.outlier_detection),
        tls=translate_upstream_tls(
            view, service, port.number, name, policy.tls, is_http=port.is_http, written=_written(rule, subset)
        ),
        mesh_external=service.external,
        origin=_origin(service, rule, subset),
        proxy_protocol=_PROXY[policy.proxy_protocol.version] if policy.proxy_protocol is not None else "off",
    )
    if original:
        return cluster, None
    labels = subset.subset.labels if subset is not None else {}
    return cluster, cluster_endpoints(view, service, port.number, name, labels)


def _written(rule: MergedRule | None, subset: RuleSubset | None) -> tuple[Object, str] | None:
    """The object whose policy acts, and where in it."""
    if subset is not None and subset.subset.traffic_policy is not None:
        return subset.obj, f"{subset.path}.trafficPolicy"
    if rule is not None and rule.policy is not None:
        return rule.policy_object, "spec.trafficPolicy"
    return None


def _origin(service: Service, rule: MergedRule | None, subset: RuleSubset | None) -> config.Origin:
    if subset is not None:
        return subset.obj.origin(subset.path)
    if rule is not None and rule.policy is not None:
        return rule.policy_object.origin("spec.trafficPolicy")
    return service.origin


def _protocol(port: ServicePort, pool: ConnectionPoolSettings | None) -> Literal["http1", "http2", "downstream", "tcp"]:
    if not port.is_http:
        return "tcp"
    http = pool.http if pool is not None else None
    if http is not None and http.use_client_protocol:
        return "downstream"
    if port.is_http2 or (http is not None and http.h2_upgrade_policy == "UPGRADE"):
        return "http2"
    return "http1"


def breakers(pool: ConnectionPoolSettings | None) -> config.CircuitBreakers:
    """Limits of a connectionPool; 0 is unset."""
    tcp = pool.tcp if pool is not None else None
    http = pool.http if pool is not None else None
    return config.CircuitBreakers(
        max_connections=(tcp.max_connections if tcp else 0) or UNLIMITED,
        max_pending_requests=(http.http1_max_pending_requests if http else 0) or UNLIMITED,
        max_requests=(http.http2_max_requests if http else 0) or UNLIMITED,
        max_retries=(http.max_retries if http else 0) or UNLIMITED,
    )


def connection(pool: ConnectionPoolSettings | None, connect_timeout: float) -> config.ConnectionSettings:
    """Life of connections under a connectionPool. The HTTP idle timeout falls back to TCP's, that to one hour."""
    tcp = pool.tcp if pool is not None else None
    http = pool.http if pool is not None else None
    idle = tcp.idle_timeout if tcp is not None else None
    if http is not None and http.idle_timeout is not None:
        idle = http.idle_timeout
    keepalive = tcp.tcp_keepalive if tcp is not None else None
    return config.ConnectionSettings(
        connect_timeout=(tcp.connect_timeout if tcp is not None else None) or connect_timeout,
        idle_timeout=3600.0 if idle is None else float(idle),
        max_requests_per_connection=http.max_requests_per_connection if http is not None else 0,
        max_concurrent_streams=http.max_concurrent_streams if http is not None else 0,
        http2_keepalive=_pings(http.http2_keep_alive if http is not None else None),
        max_connection_duration=float((tcp.max_connection_duration if tcp is not None else None) or 0.0),
        # The kernel's own defaults, as Linux documents them in tcp(7).
        tcp_keepalive=(keepalive.probes or 9, float(keepalive.time or 7200.0), float(keepalive.interval or 75.0))
        if keepalive is not None
        else None,
    )


def _pings(keepalive: Http2KeepAlive | None) -> tuple[float, float] | None:
    """Interval and timeout; a timeout that is not given is Envoy's."""
    if keepalive is None or not keepalive.interval:
        return None
    return float(keepalive.interval), float(keepalive.timeout or 20.0)


def _outlier(detection: OutlierDetection | None) -> config.OutlierDetection | None:
    if detection is None:
        return None
    default = config.OutlierDetection()

    def given(value: float | None, otherwise: float) -> float:
        return otherwise if value is None else float(value)

    return config.OutlierDetection(
        consecutive_5xx=int(given(detection.consecutive_5xx_errors, default.consecutive_5xx)),
        consecutive_gateway_errors=int(given(detection.consecutive_gateway_errors, 0)),
        consecutive_local_origin_failures=int(given(detection.consecutive_local_origin_failures, 5)),
        split_external_local_origin_errors=detection.split_external_local_origin_errors,
        interval=given(detection.interval, default.interval),
        base_ejection_time=given(detection.base_ejection_time, default.base_ejection_time),
        max_ejection_percent=float(detection.max_ejection_percent or default.max_ejection_percent),
        min_health_percent=float(detection.min_health_percent),
    )
