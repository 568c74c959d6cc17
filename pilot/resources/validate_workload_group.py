"""Rules of a WorkloadGroup beyond its schema."""

from __future__ import annotations

from pilot.resources.meta import ObjectMeta
from pilot.resources.names import port_fault, strict_header_fault
from pilot.resources.report import Report
from pilot.resources.rules import check_labels, check_one_of, tell
from pilot.resources.validate_workload import check_template
from pilot.resources.workload_group import ReadinessProbe, WorkloadGroup
from pilot.resources.yaml import Path


def validate(spec: WorkloadGroup, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule of a WorkloadGroup."""
    root: Path = ("spec",)
    if spec.template.address:
        report.warn((*root, "template", "address"), "each workload brings its own address", "remove it")
    check_template(spec.template, (*root, "template"), report)
    if spec.metadata is not None:
        check_labels(spec.metadata.labels, (*root, "metadata", "labels"), report)
    if spec.probe is not None:
        _check_probe(spec.probe, (*root, "probe"), report)


def _check_probe(probe: ReadinessProbe, path: Path, report: Report) -> None:
    if not check_one_of(probe, ("http_get", "tcp_socket", "exec", "grpc"), path, report):
        report(path, "names no method", "give httpGet, tcpSocket, exec or grpc")
    ports = {"httpGet": probe.http_get, "tcpSocket": probe.tcp_socket}
    for name, method in ports.items():
        if method is not None:
            tell(report, (*path, name, "port"), port_fault(method.port))
    if probe.grpc is not None and probe.grpc.port:
        tell(report, (*path, "grpc", "port"), port_fault(probe.grpc.port))
    if probe.http_get is not None:
        _check_http(probe, (*path, "httpGet"), report)
    if probe.exec is not None and not any(probe.exec.command):
        report((*path, "exec", "command"), "is required", "write the command as a list")


def _check_http(probe: ReadinessProbe, path: Path, report: Report) -> None:
    http = probe.http_get
    if http is None:
        return
    if http.scheme not in ("", "HTTP", "HTTPS"):
        report((*path, "scheme"), f"{http.scheme} is not a scheme of a probe", "write HTTP or HTTPS")
    for index, header in enumerate(http.http_headers):
        tell(report, (*path, "httpHeaders", index, "name"), strict_header_fault(header.name))
