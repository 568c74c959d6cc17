"""Rules of how a policy says which workloads it is for: a selector, or references to objects, never both."""

from __future__ import annotations

from typing import Final

from pilot.resources.meta import MatchLabels
from pilot.resources.report import Report
from pilot.resources.rules import check_match_labels
from pilot.resources.target_ref import TargetRef
from pilot.resources.yaml import Path

MAX_REFS: Final = 16
_TARGETS: Final = (
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
)


def check_attachment(
    selector: MatchLabels | None,
    target_refs: tuple[TargetRef, ...],
    root: Path,
    report: Report,
    *,
    target_ref: TargetRef | None = None,
) -> None:
    """Report every broken rule; `target_ref` is the older form for a single reference."""
    check_match_labels(selector, (*root, "selector"), report)
    check_targets(target_refs, root, report, target_ref=target_ref, beside="selector" if selector else "")


def check_targets(
    target_refs: tuple[TargetRef, ...],
    root: Path,
    report: Report,
    *,
    target_ref: TargetRef | None = None,
    beside: str = "",
) -> None:
    """The references alone; `beside` names the selector's field where one is given."""
    written = [((*root, "targetRefs", index), ref) for index, ref in enumerate(target_refs)]
    if target_ref is not None:
        written.append(((*root, "targetRef"), target_ref))
        if target_refs:
            report((*root, "targetRef"), "stands beside targetRefs", "put all targets into targetRefs")
    if written and beside:
        report((*root, beside), "stands beside a target reference", f"write either {beside} or targetRefs")
    if len(target_refs) > MAX_REFS:
        report((*root, "targetRefs"), f"more than {MAX_REFS} targets", "split the policy")
    for path, ref in written:
        _check_target(ref, path, report)


def _check_target(ref: TargetRef, path: Path, report: Report) -> None:
    if (ref.group, ref.kind) not in _TARGETS:
        what = f"policies do not attach to {ref.group or 'core'}/{ref.kind}"
        report((*path, "kind"), what, "name a Gateway, GatewayClass, Service or ServiceEntry with its group")
    if ref.namespace:
        report((*path, "namespace"), "a target is always of the policy's own namespace", "remove it")
