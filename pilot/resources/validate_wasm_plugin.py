"""Rules of a WasmPlugin beyond its schema, and of what a TrafficExtension shares with it."""

from __future__ import annotations

from collections.abc import Iterable

from pilot.resources.meta import ObjectMeta
from pilot.resources.report import Report
from pilot.resources.rules import check_unique
from pilot.resources.url import scheme_of
from pilot.resources.validate_target_ref import check_attachment
from pilot.resources.wasm_plugin import TrafficSelector, VmConfig, WasmPlugin
from pilot.resources.yaml import Path

SCHEMES = ("http", "https", "file", "oci")


def validate(spec: WasmPlugin, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    root: Path = ("spec",)
    check_attachment(spec.selector, spec.target_refs, root, report, target_ref=spec.target_ref)
    check_module(spec.url, spec.vm_config, root, report)
    check_traffic(spec.match, (*root, "match"), report)


def check_module(url: str, vm: VmConfig | None, path: Path, report: Report) -> None:
    """Where a module comes from, and the environment of its machine."""
    # Without a scheme it is an image (oci); a name and a port before it look like a scheme, as to Istio.
    if (scheme_of(url) or scheme_of(f"http://{url}")) not in SCHEMES and not url.startswith("/"):
        report(
            (*path, "url"), f'"{url}" is not a URL of ' + ", ".join(SCHEMES), "write for example oci://host/image:tag"
        )
    if vm is None:
        return
    here = (*path, "vmConfig", "env")
    check_unique([variable.name for variable in vm.env], here, "name", report)
    for index, variable in enumerate(vm.env):
        if variable.value is not None and variable.value_from == "HOST":
            report((*here, index, "value"), "does not go with valueFrom: HOST", "remove one of the two")


def check_traffic(match: Iterable[TrafficSelector], path: Path, report: Report) -> None:
    """No port twice in a selector."""
    for index, selector in enumerate(match):
        check_unique([port.number for port in selector.ports], (*path, index, "ports"), "number", report)
