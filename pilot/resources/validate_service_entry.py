"""Rules of a ServiceEntry beyond its schema: what each resolution needs and refuses."""

from __future__ import annotations

from pilot.resources.meta import ObjectMeta
from pilot.resources.names import (
    domain_fault,
    is_ip,
    partial_wildcard_fault,
    port_fault,
    port_name_fault,
    subnet_fault,
)
from pilot.resources.report import Report
from pilot.resources.rules import check_export_to, check_labels, check_selector, check_unix_address, tell
from pilot.resources.service_entry import ServiceEntry
from pilot.resources.validate_istio_gateway import HTTP
from pilot.resources.validate_istio_gateway import PROTOCOLS as GATEWAY_PROTOCOLS
from pilot.resources.workload import WorkloadEntry
from pilot.resources.yaml import Path

PROTOCOLS = (*GATEWAY_PROTOCOLS, "UDP", "HBONE", "HTTP_PROXY")
DYNAMIC_PROTOCOLS = ("HTTP", "HTTP2", "GRPC", "TLS")
MAX_HOSTS = 256


def validate(spec: ServiceEntry, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    root: Path = ("spec",)
    _check_hosts(spec, root, report)
    _check_addresses(spec, root, report)
    _check_ports(spec, root, report)
    if spec.workload_selector is not None:
        if spec.endpoints:
            report((*root, "workloadSelector"), "cannot stand beside endpoints", "keep one of them")
        check_selector(spec.workload_selector.labels, (*root, "workloadSelector", "labels"), report)
        if spec.resolution != "STATIC":
            what = f"has no effect with resolution {spec.resolution}"
            report.warn((*root, "workloadSelector"), what, "write resolution: STATIC")
    _RESOLUTIONS[spec.resolution](spec, root, report)
    for index, endpoint in enumerate(spec.endpoints):
        _check_endpoint(endpoint, spec, (*root, "endpoints", index), report)
    _check_shared_ports(spec, root, report)
    check_export_to(spec.export_to, meta, (*root, "exportTo"), report, nobody=True)


def _check_hosts(spec: ServiceEntry, root: Path, report: Report) -> None:
    if not spec.hosts:
        report((*root, "hosts"), "an entry needs a host", "name it")
    if len(spec.hosts) > MAX_HOSTS:
        report((*root, "hosts"), f"more than {MAX_HOSTS} hosts", "split the entry")
    for index, host in enumerate(spec.hosts):
        here = (*root, "hosts", index)
        if host == "*":
            report(here, "* stands for everything", "name the host, or write *.example.com")
        elif not tell(report, here, domain_fault(host, wildcard=True)) and (fault := partial_wildcard_fault(host)):
            report.warn(here, *fault)


def _check_addresses(spec: ServiceEntry, root: Path, report: Report) -> None:
    blocks = False
    for index, address in enumerate(spec.addresses):
        tell(report, (*root, "addresses", index), subnet_fault(address))
        blocks = blocks or "/" in address
    if blocks and spec.resolution not in ("NONE", "STATIC"):
        what = f"CIDR blocks do not go with resolution {spec.resolution}"
        report((*root, "addresses"), what, "write addresses, or resolution NONE or STATIC")


def _check_ports(spec: ServiceEntry, root: Path, report: Report) -> None:
    numbers: set[int] = set()
    names: set[str] = set()
    for index, port in enumerate(spec.ports):
        here = (*root, "ports", index)
        tell(report, (*here, "number"), port_fault(port.number))
        if port.number in numbers:
            report((*here, "number"), f"port {port.number} is defined twice", "remove one")
        numbers.add(port.number)
        if not port.name:
            report((*here, "name"), "is required", "name the port")
        elif port.name in names:
            report((*here, "name"), f"port name {port.name} is taken", "give each port its own name")
        else:
            tell(report, (*here, "name"), port_name_fault(port.name))
        names.add(port.name)
        if port.target_port:
            tell(report, (*here, "targetPort"), port_fault(port.target_port))
        if port.protocol and port.protocol.upper() not in PROTOCOLS:
            report((*here, "protocol"), f"{port.protocol} is not a protocol", "write one of " + ", ".join(PROTOCOLS))
        if port.protocol.upper() in ("", "TCP") and not spec.addresses and spec.resolution != "NONE":
            report.warn(here, "without addresses, TCP on this port is told apart by the port alone", "give addresses")


def _check_none(spec: ServiceEntry, root: Path, report: Report) -> None:
    if spec.endpoints:
        report((*root, "endpoints"), "resolution NONE goes where the client goes", "write resolution: STATIC")


def _check_static(spec: ServiceEntry, root: Path, report: Report) -> None:
    for index, endpoint in enumerate(spec.endpoints):
        here = (*root, "endpoints", index, "address")
        if endpoint.address.startswith("unix://"):
            if len(spec.ports) != 1:
                report(here, "a unix socket serves exactly one port", "define one port")
        elif endpoint.address and not is_ip(endpoint.address):
            report(here, f"{endpoint.address} is not an IP address", "write one, or resolution: DNS")


def _check_dns(spec: ServiceEntry, root: Path, report: Report) -> None:
    if spec.resolution == "DNS_ROUND_ROBIN" and len(spec.endpoints) > 1:
        report((*root, "endpoints"), "DNS_ROUND_ROBIN takes one endpoint", "write resolution: DNS")
    if not spec.endpoints:
        for index, host in enumerate(spec.hosts):
            if "*" in host:
                report((*root, "hosts", index), f"{host} cannot be looked up", "name endpoints, or a host")
    for index, endpoint in enumerate(spec.endpoints):
        here = (*root, "endpoints", index, "address")
        if endpoint.address.startswith("unix://"):
            report(here, "a unix socket does not go with DNS", "write resolution: STATIC")
        elif (endpoint.address or endpoint.network) and not is_ip(endpoint.address):
            tell(report, here, domain_fault(endpoint.address))


def _check_shared_ports(spec: ServiceEntry, root: Path, report: Report) -> None:
    opaque = [p.number for p in spec.ports if p.protocol.upper() not in (*HTTP, "HTTP_PROXY", "HTTPS", "TLS")]
    if spec.resolution != "NONE" and len(spec.hosts) > 1 and opaque:
        what = f"several hosts share port {opaque[0]}, which carries no host name"
        report((*root, "hosts"), what, "write an entry for each host, or the protocol HTTP or TLS")


def _check_dynamic(spec: ServiceEntry, root: Path, report: Report) -> None:
    for index, host in enumerate(spec.hosts):
        if not host.startswith("*"):
            report((*root, "hosts", index), "DYNAMIC_DNS takes wildcard hosts only", "write *.example.com")
    for name, value in (("endpoints", spec.endpoints), ("addresses", spec.addresses)):
        if value:
            report((*root, name), "DYNAMIC_DNS finds addresses by the request's host", "remove it")
    for index, port in enumerate(spec.ports):
        if port.protocol.upper() not in DYNAMIC_PROTOCOLS:
            here = (*root, "ports", index, "protocol")
            report(here, f'"{port.protocol}" does not go with DYNAMIC_DNS', "write " + ", ".join(DYNAMIC_PROTOCOLS))


_RESOLUTIONS = {
    "NONE": _check_none,
    "STATIC": _check_static,
    "DNS": _check_dns,
    "DNS_ROUND_ROBIN": _check_dns,
    "DYNAMIC_DNS": _check_dynamic,
}


def _check_endpoint(endpoint: WorkloadEntry, spec: ServiceEntry, path: Path, report: Report) -> None:
    defined = {port.name for port in spec.ports}
    if endpoint.address.startswith("unix://"):
        check_unix_address(endpoint.address, (*path, "address"), report)
        if endpoint.ports:
            report((*path, "ports"), "a unix socket has no ports", "remove it")
        return
    if not endpoint.address:
        if endpoint.network:
            report.warn((*path, "address"), f"no address in network {endpoint.network}", "give the address")
        else:
            report((*path, "address"), "is required", "give an address, or a network")
    for name, number in endpoint.ports.items():
        if name not in defined:
            report((*path, "ports", name), f"the entry defines no port {name}", "name one of the entry's ports")
        else:
            tell(report, (*path, "ports", name), port_fault(number))
    check_labels(endpoint.labels, (*path, "labels"), report)
