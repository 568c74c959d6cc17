"""Rules of a DestinationRule beyond its schema: host, subsets, and which policies go together.

Load balancers have their own file, validate_load_balancer.py. Source: Istio's validating webhook.
"""

from __future__ import annotations

from pilot.resources.destination_rule import (
    ClientTlsSettings,
    ConnectionPoolSettings,
    DestinationRule,
    HttpSettings,
    OutlierDetection,
    PortTrafficPolicy,
    Subset,
    TcpSettings,
    TrafficPolicy,
    TunnelSettings,
)
from pilot.resources.meta import ObjectMeta
from pilot.resources.names import domain_fault, label_fault, port_fault
from pilot.resources.report import Report
from pilot.resources.rules import (
    check_duration,
    check_export_to,
    check_labels,
    check_match_labels,
    check_percent,
    check_port,
    is_host_address,
    tell,
)
from pilot.resources.validate_load_balancer import check_load_balancer
from pilot.resources.yaml import Path


def validate(spec: DestinationRule, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    root: Path = ("spec",)
    tell(report, (*root, "host"), domain_fault(spec.host, wildcard=True))
    if spec.traffic_policy is not None:
        _check_policy(spec.traffic_policy, (*root, "trafficPolicy"), report)
    seen: set[str] = set()
    for index, subset in enumerate(spec.subsets):
        if subset.name in seen:
            report((*root, "subsets", index, "name"), f"subset {subset.name} is defined twice", "rename or remove one")
        seen.add(subset.name)
        _check_subset(subset, (*root, "subsets", index), report)
    check_export_to(spec.export_to, meta, (*root, "exportTo"), report)
    check_match_labels(spec.workload_selector, (*root, "workloadSelector"), report)
    if spec.workload_selector is not None and any(entry != "." for entry in spec.export_to):
        report(
            (*root, "exportTo"), "a rule with workloadSelector stays in its namespace", 'write ["."] or leave it out'
        )


def _check_subset(subset: Subset, path: Path, report: Report) -> None:
    tell(report, (*path, "name"), label_fault(subset.name))
    check_labels(subset.labels, (*path, "labels"), report)
    if subset.traffic_policy is not None:
        _check_policy(subset.traffic_policy, (*path, "trafficPolicy"), report)


def _check_policy(policy: TrafficPolicy, path: Path, report: Report) -> None:
    if policy == TrafficPolicy():
        report(path, "the policy is empty", "give it a field, or remove it")
    _check_blocks(policy, path, report)
    for index, port_policy in enumerate(policy.port_level_settings):
        here = (*path, "portLevelSettings", index)
        if port_policy.port is None or not port_policy.port.number:
            report((*here, "port"), "names no port", "write port: {number: …}")
        else:
            check_port(port_policy.port, (*here, "port"), report)
        _check_blocks(port_policy, here, report)
    if policy.tunnel is not None:
        _check_tunnel(policy.tunnel, (*path, "tunnel"), report)
        if policy.proxy_protocol is not None:
            report((*path, "proxyProtocol"), "cannot stand beside tunnel", "keep one of them")
    if policy.retry_budget is not None and policy.retry_budget.percent is not None:
        check_percent(policy.retry_budget.percent, (*path, "retryBudget", "percent"), report)


def _check_blocks(policy: TrafficPolicy | PortTrafficPolicy, path: Path, report: Report) -> None:
    """The four blocks that a destination, a subset and a port have."""
    if policy.connection_pool is not None:
        _check_pool(policy.connection_pool, (*path, "connectionPool"), report)
    if policy.outlier_detection is not None:
        _check_outlier(policy.outlier_detection, (*path, "outlierDetection"), report)
    if policy.load_balancer is not None:
        outlier = policy.outlier_detection is not None
        check_load_balancer(policy.load_balancer, (*path, "loadBalancer"), report, outlier=outlier)
    if policy.tls is not None:
        _check_tls(policy.tls, (*path, "tls"), report)


def _check_tunnel(tunnel: TunnelSettings, path: Path, report: Report) -> None:
    if tunnel.protocol.upper() not in ("", "CONNECT", "POST"):
        report((*path, "protocol"), f"{tunnel.protocol} is not a tunnel protocol", "write CONNECT or POST")
    if not is_host_address(tunnel.target_host):
        report((*path, "targetHost"), f'"{tunnel.target_host}" is not a host', "write a host name or an address")
    tell(report, (*path, "targetPort"), port_fault(tunnel.target_port))


def _check_pool(pool: ConnectionPoolSettings, path: Path, report: Report) -> None:
    if pool.tcp is None and pool.http is None:
        report(path, "the pool has neither tcp nor http settings", "give one, or remove it")
    if pool.tcp is not None:
        _check_tcp(pool.tcp, (*path, "tcp"), report)
    if pool.http is not None:
        _check_http(pool.http, (*path, "http"), report)


def _check_tcp(tcp: TcpSettings, path: Path, report: Report) -> None:
    _check_not_negative({"maxConnections": tcp.max_connections}, path, report)
    check_duration(tcp.connect_timeout, (*path, "connectTimeout"), report)
    check_duration(tcp.max_connection_duration, (*path, "maxConnectionDuration"), report)
    if tcp.tcp_keepalive is not None:
        check_duration(tcp.tcp_keepalive.time, (*path, "tcpKeepalive", "time"), report)
        check_duration(tcp.tcp_keepalive.interval, (*path, "tcpKeepalive", "interval"), report)


def _check_http(http: HttpSettings, path: Path, report: Report) -> None:
    limits = {
        "http1MaxPendingRequests": http.http1_max_pending_requests,
        "http2MaxRequests": http.http2_max_requests,
        "maxRequestsPerConnection": http.max_requests_per_connection,
        "maxRetries": http.max_retries,
        "maxConcurrentStreams": http.max_concurrent_streams,
    }
    _check_not_negative(limits, path, report)
    if http.idle_timeout:
        check_duration(http.idle_timeout, (*path, "idleTimeout"), report)
    if http.h2_upgrade_policy == "UPGRADE" and http.use_client_protocol:
        report((*path, "useClientProtocol"), "cannot be true with h2UpgradePolicy UPGRADE", "keep one of them")
    if http.http2_keep_alive is not None:
        here = (*path, "http2KeepAlive")
        for name, value in (("interval", http.http2_keep_alive.interval), ("timeout", http.http2_keep_alive.timeout)):
            if value is None:
                report((*here, name), "is required", "add it")
            check_duration(value, (*here, name), report)


def _check_not_negative(values: dict[str, int], path: Path, report: Report) -> None:
    for name, value in values.items():
        if value < 0:
            report((*path, name), f"{value} is negative", "write 0 (unset) or more")


def _check_outlier(outlier: OutlierDetection, path: Path, report: Report) -> None:
    check_duration(outlier.interval, (*path, "interval"), report)
    check_duration(outlier.base_ejection_time, (*path, "baseEjectionTime"), report)
    check_percent(outlier.max_ejection_percent, (*path, "maxEjectionPercent"), report)
    check_percent(outlier.min_health_percent, (*path, "minHealthPercent"), report)
    if outlier.consecutive_errors:
        remedy = "write consecutive5xxErrors or consecutiveGatewayErrors"
        report.warn((*path, "consecutiveErrors"), "is deprecated and has no effect", remedy)
    if outlier.consecutive_local_origin_failures and not outlier.split_external_local_origin_errors:
        what = "has no effect while splitExternalLocalOriginErrors is false"
        report((*path, "consecutiveLocalOriginFailures"), what, "set splitExternalLocalOriginErrors: true")
    for index, code in enumerate(outlier.outlier_detection_http_error_codes):
        if not 100 <= code <= 599:
            here = (*path, "outlierDetectionHttpErrorCodes", index)
            report(here, f"{code} is not an HTTP status", "write 100 to 599")


def _check_tls(tls: ClientTlsSettings, path: Path, report: Report) -> None:
    if tls.insecure_skip_verify and tls.mode in ("SIMPLE", "MUTUAL"):
        unused = {"caCertificates": tls.ca_certificates, "subjectAltNames": tls.subject_alt_names}
        if tls.mode == "SIMPLE":
            unused["credentialName"] = tls.credential_name
        for name, value in unused.items():
            if value:
                report((*path, name), "has no meaning with insecureSkipVerify: true", "remove one of the two")
    if tls.mode in ("SIMPLE", "MUTUAL") and tls.credential_name:
        files = {
            "clientCertificate": tls.client_certificate,
            "privateKey": tls.private_key,
            "caCertificates": tls.ca_certificates,
            "caCrl": tls.ca_crl,
        }
        for name, value in files.items():
            if value:
                report((*path, name), "cannot stand beside credentialName", "keep one of the two")
    elif tls.mode == "MUTUAL":
        for name, value in (("clientCertificate", tls.client_certificate), ("privateKey", tls.private_key)):
            if not value:
                report((*path, name), "is required for mode MUTUAL", "add it, or credentialName")
