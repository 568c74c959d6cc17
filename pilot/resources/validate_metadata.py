"""Annotations that Istio's webhook refuses, whatever the kind."""

from __future__ import annotations

from typing import Final

from pilot.resources.meta import ObjectMeta
from pilot.resources.report import Report

DRY_RUN: Final = "istio.io/dry-run"
_REFUSED: Final = {
    "internal.istio.io/webhook-always-reject": "asks to be refused",
    "internal.istio.io/parents": "is set by the control plane only",
    "internal.istio.io/parent-namespace": "is set by the control plane only",
}


def check_annotations(kind: str, meta: ObjectMeta, report: Report) -> None:
    """Report annotations that objects of this kind may not have; a policy's own file judges its dry-run."""
    for name in meta.annotations:
        path = ("metadata", "annotations", name)
        if name in _REFUSED:
            report(path, _REFUSED[name], "remove it")
        elif name == DRY_RUN and kind != "AuthorizationPolicy":
            report(path, f"a {kind} is never run dry", "remove it")
