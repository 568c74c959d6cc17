"""Rules of a TrafficExtension beyond its schema."""

from __future__ import annotations

from pilot.resources.meta import ObjectMeta
from pilot.resources.report import Report
from pilot.resources.rules import check_one_of
from pilot.resources.traffic_extension import TrafficExtension
from pilot.resources.validate_target_ref import check_attachment
from pilot.resources.validate_wasm_plugin import check_module, check_traffic
from pilot.resources.yaml import Path


def validate(spec: TrafficExtension, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    root: Path = ("spec",)
    check_attachment(spec.selector, spec.target_refs, root, report)
    if not check_one_of(spec, ("wasm", "lua"), root, report):
        report(root, "extends nothing", "give wasm or lua")
    if spec.wasm is not None:
        check_module(spec.wasm.url, spec.wasm.vm_config, (*root, "wasm"), report)
    check_traffic(spec.match, (*root, "match"), report)
