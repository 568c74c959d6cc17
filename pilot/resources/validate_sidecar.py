"""Rules of a Sidecar beyond its schema: what its listeners need, and which hosts they may import.

Source: Istio's validating webhook.
"""

from __future__ import annotations

import re
from typing import Final

from pilot.resources.istio_gateway import ServerTlsSettings
from pilot.resources.meta import ObjectMeta
from pilot.resources.names import (
    domain_fault,
    is_ip,
    label_fault,
    partial_wildcard_fault,
    port_fault,
    port_name_fault,
)
from pilot.resources.report import Report
from pilot.resources.rules import check_selector, check_unix_address, tell
from pilot.resources.sidecar import EgressListener, IngressListener, OutboundTrafficPolicy, Sidecar, SidecarPort
from pilot.resources.validate_connection_pool import check_connection_pool
from pilot.resources.validate_http_route import check_destination
from pilot.resources.validate_istio_gateway import HTTP, TLS, check_server_tls
from pilot.resources.validate_service_entry import PROTOCOLS
from pilot.resources.yaml import Path

_ENDPOINT: Final = re.compile(r"(?:127\.0\.0\.1|0\.0\.0\.0|\[::1\]|\[::\]|):(?P<port>[^:]*)\Z")


def validate(spec: Sidecar, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    root: Path = ("spec",)
    if spec.workload_selector is not None:
        check_selector(spec.workload_selector.labels, (*root, "workloadSelector", "labels"), report)
    pool, policy = spec.inbound_connection_pool, spec.outbound_traffic_policy
    if not spec.egress and not spec.ingress and policy is None and pool is None:
        report(root, "says nothing", "give egress, ingress, inboundConnectionPool or outboundTrafficPolicy")
    _check_ingress(spec.ingress, (*root, "ingress"), report)
    if pool is not None:
        check_connection_pool(pool, (*root, "inboundConnectionPool"), report)
    _check_egress(spec.egress, meta, (*root, "egress"), report)
    if policy is not None:
        _check_outbound_policy(policy, (*root, "outboundTrafficPolicy"), report)


def _check_ingress(listeners: tuple[IngressListener, ...], path: Path, report: Report) -> None:
    numbers: set[int] = set()
    for index, listener in enumerate(listeners):
        here = (*path, index)
        _check_port(listener.port, (*here, "port"), report)
        tell(report, (*here, "port", "number"), port_fault(listener.port.number))
        _check_taken(listener.port.number, numbers, here, report)
        _check_bind(listener.bind, (*here, "bind"), report)
        _check_endpoint(listener.default_endpoint, (*here, "defaultEndpoint"), report)
        if listener.tls is not None:
            _check_ingress_tls(listener.tls, listener.port, (*here, "tls"), report)
        if listener.connection_pool is not None:
            check_connection_pool(listener.connection_pool, (*here, "connectionPool"), report)
            if listener.connection_pool.http is not None and listener.port.protocol.upper() not in HTTP:
                what = f"the port carries {listener.port.protocol or 'what is not declared'}: only tcp settings apply"
                report.warn((*here, "connectionPool", "http"), what, "remove it, or write protocol HTTP")


def _check_port(port: SidecarPort, path: Path, report: Report) -> None:
    if port.name:
        tell(report, (*path, "name"), port_name_fault(port.name))
    if port.protocol and port.protocol.upper() not in PROTOCOLS:
        report((*path, "protocol"), f"{port.protocol} is not a protocol", "write one of " + ", ".join(PROTOCOLS))
    if port.target_port:
        report((*path, "targetPort"), "has no effect in a Sidecar", "write ingress.defaultEndpoint")


def _check_taken(number: int, numbers: set[int], path: Path, report: Report) -> None:
    if number in numbers:
        report((*path, "port", "number"), f"port {number} has a listener already", "give each port one listener")
    numbers.add(number)


def _check_bind(bind: str, path: Path, report: Report) -> None:
    if bind and not is_ip(bind):
        report(path, f"{bind} is not an IP address", "write one, or leave it out")


def _check_endpoint(endpoint: str, path: Path, report: Report) -> None:
    if endpoint.startswith("unix://"):
        check_unix_address(endpoint, path, report)
    elif endpoint:
        match = _ENDPOINT.match(endpoint)
        if match is None:
            remedy = "write 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix:///path"
            report(path, f"{endpoint} is not an endpoint of the workload", remedy)
        elif not (match["port"].isascii() and match["port"].isdigit()):
            report(path, f'"{match["port"]}" is not a port', "write its number")
        else:
            tell(report, path, port_fault(int(match["port"])))


def _check_ingress_tls(tls: ServerTlsSettings, port: SidecarPort, path: Path, report: Report) -> None:
    if port.protocol.upper() not in TLS:
        report(
            path, f"a port of protocol {port.protocol or 'TCP'} takes no TLS settings", "write protocol HTTPS or TLS"
        )
    if tls.mode in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH"):
        report((*path, "mode"), f"a sidecar does not take {tls.mode}", "write SIMPLE or MUTUAL")
    unused = {
        "subjectAltNames": tls.subject_alt_names,
        "httpsRedirect": tls.https_redirect,
        "credentialName": tls.credential_name,
        "credentialNames": tls.credential_names,
        "tlsCertificates": tls.tls_certificates,
    }
    for name, value in unused.items():
        if value:
            report((*path, name), "is not for sidecars", "write serverCertificate and privateKey")
    check_server_tls(tls, path, report)


def _check_egress(listeners: tuple[EgressListener, ...], meta: ObjectMeta, path: Path, report: Report) -> None:
    numbers: set[int] = set()
    sockets: set[str] = set()
    for index, listener in enumerate(listeners):
        here = (*path, index)
        if listener.port is None:
            if index != len(listeners) - 1:
                report(here, "takes every port and is not the last listener", "give it a port, or move it to the end")
        elif listener.port.number:
            _check_port(listener.port, (*here, "port"), report)
            tell(report, (*here, "port", "number"), port_fault(listener.port.number))
            _check_taken(listener.port.number, numbers, here, report)
            _check_bind(listener.bind, (*here, "bind"), report)
        else:
            _check_port(listener.port, (*here, "port"), report)
            _check_socket(listener, sockets, here, report)
        _check_hosts(listener.hosts, meta, (*here, "hosts"), report)


def _check_socket(listener: EgressListener, sockets: set[str], path: Path, report: Report) -> None:
    if listener.bind.startswith("unix://"):
        check_unix_address(listener.bind, (*path, "bind"), report)
    else:
        report((*path, "bind"), "a listener without a port number needs a unix socket", "write unix:///path")
    if listener.bind in sockets:
        report((*path, "bind"), f"{listener.bind} has a listener already", "give each socket one listener")
    sockets.add(listener.bind)
    if listener.capture_mode == "IPTABLES":
        report((*path, "captureMode"), "a unix socket cannot be captured", "write DEFAULT or NONE")


def _check_hosts(hosts: tuple[str, ...], meta: ObjectMeta, path: Path, report: Report) -> None:
    if not hosts:
        report(path, "names no host", 'name them, or write ["~/*"] for none')
    imported: dict[str, set[str]] = {}
    for index, entry in enumerate(hosts):
        here = (*path, index)
        namespace, slash, host = entry.partition("/")
        if not slash:
            report(here, f'"{entry}" has no namespace', f"write ./{entry}, */{entry} or namespace/{entry}")
            continue
        _check_namespace(namespace, here, report)
        _check_host(host, here, report)
        others = imported.setdefault(meta.namespace if namespace == "." else namespace, set())
        if others if host == "*" else (host in others or "*" in others):
            report.warn(here, f"{entry} is imported twice", "remove one")
        others.add(host)
    if "*" in imported.get("*", ()) and len(imported) > 1:
        report.warn(path, "*/* imports all that the others name", "remove the others")


def _check_namespace(namespace: str, path: Path, report: Report) -> None:
    """`*`, `.`, `~` or a name; with `~` before it, what it names is left out."""
    if namespace != "~" and namespace.removeprefix("~") not in ("*", ".") and label_fault(namespace.removeprefix("~")):
        report(path, f'"{namespace}" is not a namespace', "write a namespace's name, *, . or ~")


def _check_host(host: str, path: Path, report: Report) -> None:
    if host == "*" or tell(report, path, domain_fault(host, wildcard=True)):
        return
    if "." not in host:
        report(path, f"{host} is a short name", "write the full host name")
    tell(report, path, partial_wildcard_fault(host))


def _check_outbound_policy(policy: OutboundTrafficPolicy, path: Path, report: Report) -> None:
    proxy, here = policy.egress_proxy, (*path, "egressProxy")
    if proxy is None:
        return
    if policy.mode != "ALLOW_ANY":
        report(here, f"does not go with mode {policy.mode}", "write mode: ALLOW_ANY")
        return
    if proxy.port is None:
        report((*here, "port"), "is required", "write port: {number: …}")
    if "*" in proxy.host:
        report((*here, "host"), f"{proxy.host} is not one host", "name the proxy's host")
    else:
        check_destination(proxy, here, report)
