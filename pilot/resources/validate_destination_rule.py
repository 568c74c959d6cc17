"""Rules of a DestinationRule beyond its schema: host, subsets, and which policies go together.

Load balancers and connection pools have files of their own. Source: Istio's validating webhook.
"""

from __future__ import annotations

from typing import Final

from pilot.resources.destination_rule import (
    ClientTlsSettings,
    DestinationRule,
    OutlierDetection,
    PortTrafficPolicy,
    Subset,
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
    is_host_address,
    tell,
)
from pilot.resources.validate_connection_pool import check_connection_pool
from pilot.resources.validate_load_balancer import check_load_balancer
from pilot.resources.yaml import Path

_CONFIG_MAP: Final = "configmap://"


def validate(spec: DestinationRule, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    root: Path = ("spec",)
    tell(report, (*root, "host"), domain_fault(spec.host, wildcard=True))
    if spec.traffic_policy is not None:
        _check_policy(spec.traffic_policy, meta, (*root, "trafficPolicy"), report)
    seen: set[str] = set()
    for index, subset in enumerate(spec.subsets):
        if subset.name in seen:
            report((*root, "subsets", index, "name"), f"subset {subset.name} is defined twice", "rename or remove one")
        seen.add(subset.name)
        _check_subset(subset, meta, (*root, "subsets", index), report)
    check_export_to(spec.export_to, meta, (*root, "exportTo"), report)
    check_match_labels(spec.workload_selector, (*root, "workloadSelector"), report)
    if spec.workload_selector is not None and any(entry not in (".", meta.namespace) for entry in spec.export_to):
        report(
            (*root, "exportTo"), "a rule with workloadSelector stays in its namespace", 'write ["."] or leave it out'
        )


def _check_subset(subset: Subset, meta: ObjectMeta, path: Path, report: Report) -> None:
    tell(report, (*path, "name"), label_fault(subset.name))
    check_labels(subset.labels, (*path, "labels"), report)
    if subset.traffic_policy is not None:
        _check_policy(subset.traffic_policy, meta, (*path, "trafficPolicy"), report)


def _check_policy(policy: TrafficPolicy, meta: ObjectMeta, path: Path, report: Report) -> None:
    if policy == TrafficPolicy():
        report(path, "the policy is empty", "give it a field, or remove it")
    _check_blocks(policy, meta, path, report)
    for index, port_policy in enumerate(policy.port_level_settings):
        here = (*path, "portLevelSettings", index)
        if port_policy.port is None:
            report((*here, "port"), "names no port", "write port: {number: …}")
        elif port_fault(port_policy.port.number):
            what = f"port {port_policy.port.number} is none that a service has"
            report.warn((*here, "port", "number"), what, "write a port from 1 to 65535")
        if port_policy == PortTrafficPolicy(port=port_policy.port):
            report(here, "the policy is empty", "give it a field, or remove it")
        _check_blocks(port_policy, meta, here, report)
    if policy.tunnel is not None:
        _check_tunnel(policy.tunnel, (*path, "tunnel"), report)
        if policy.proxy_protocol is not None:
            report((*path, "proxyProtocol"), "cannot stand beside tunnel", "keep one of them")
    if policy.retry_budget is not None and policy.retry_budget.percent is not None:
        check_percent(policy.retry_budget.percent, (*path, "retryBudget", "percent"), report)


def _check_blocks(policy: TrafficPolicy | PortTrafficPolicy, meta: ObjectMeta, path: Path, report: Report) -> None:
    """The four blocks that a destination, a subset and a port have."""
    if policy.connection_pool is not None:
        check_connection_pool(policy.connection_pool, (*path, "connectionPool"), report)
    if policy.outlier_detection is not None:
        _check_outlier(policy.outlier_detection, (*path, "outlierDetection"), report)
    if policy.load_balancer is not None:
        outlier = policy.outlier_detection is not None
        check_load_balancer(policy.load_balancer, (*path, "loadBalancer"), report, outlier=outlier)
    if policy.tls is not None:
        _check_tls(policy.tls, meta, (*path, "tls"), report)


def _check_tunnel(tunnel: TunnelSettings, path: Path, report: Report) -> None:
    if tunnel.protocol not in ("", "CONNECT", "POST"):
        report((*path, "protocol"), f"{tunnel.protocol} is not a tunnel protocol", "write CONNECT or POST")
    if not is_host_address(tunnel.target_host):
        report((*path, "targetHost"), f'"{tunnel.target_host}" is not a host', "write a host name or an address")
    tell(report, (*path, "targetPort"), port_fault(tunnel.target_port))


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


def _check_tls(tls: ClientTlsSettings, meta: ObjectMeta, path: Path, report: Report) -> None:
    if tls.credential_name.startswith(_CONFIG_MAP):
        _check_config_map(tls.credential_name, meta, (*path, "credentialName"), report)
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


def _check_config_map(name: str, meta: ObjectMeta, path: Path, report: Report) -> None:
    """A bundle of CAs in a ConfigMap is always of the rule's own namespace."""
    namespace, _, config_map = name.removeprefix(_CONFIG_MAP).partition("/")
    if namespace != meta.namespace or not config_map or "/" in config_map:
        report(path, f'"{name}" is not a ConfigMap of {meta.namespace}', f"write {_CONFIG_MAP}{meta.namespace}/NAME")
