"""Rules of a PeerAuthentication beyond its schema."""

from __future__ import annotations

from pilot.resources.meta import ObjectMeta
from pilot.resources.names import port_fault
from pilot.resources.peer_authentication import PeerAuthentication
from pilot.resources.report import Report
from pilot.resources.rules import check_match_labels, tell


def validate_peer_authentication(spec: PeerAuthentication, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    check_match_labels(spec.selector, ("spec", "selector"), report)
    path = ("spec", "portLevelMtls")
    selects = spec.selector is not None and bool(spec.selector.match_labels)
    if spec.port_level_mtls and not selects:
        report(path, "ports belong to workloads, and none is selected", "add selector.matchLabels")
    for port in spec.port_level_mtls:
        tell(report, (*path, str(port)), port_fault(port))
