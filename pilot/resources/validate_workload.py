"""Rules of a WorkloadEntry beyond its schema."""

from __future__ import annotations

from pilot.resources.meta import ObjectMeta
from pilot.resources.names import domain_fault, is_ip
from pilot.resources.report import Report
from pilot.resources.rules import check_labels, check_port_map, check_unix_address, tell
from pilot.resources.workload import WorkloadEntry
from pilot.resources.yaml import Path


def validate(spec: WorkloadEntry, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule of a WorkloadEntry."""
    root: Path = ("spec",)
    here = (*root, "address")
    if not spec.address:
        if spec.network:
            report.warn(here, f"no address in network {spec.network}", "give the address")
        else:
            report(here, "is required", "give an IP address, a host name or unix:///path")
    elif not spec.address.startswith("unix://") and not is_ip(spec.address):
        tell(report, here, domain_fault(spec.address))
    check_template(spec, root, report)


def check_template(spec: WorkloadEntry, path: Path, report: Report) -> None:
    """The part that an entry and a group's template share."""
    if spec.address.startswith("unix://"):
        check_unix_address(spec.address, (*path, "address"), report)
        if spec.ports:
            report((*path, "ports"), "a unix socket has no ports", "remove it")
    check_port_map(spec.ports, (*path, "ports"), report)
    check_labels(spec.labels, (*path, "labels"), report)
