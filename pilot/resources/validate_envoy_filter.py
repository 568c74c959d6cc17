"""Rules of an EnvoyFilter: do what is patched, where, and how go together? The patch itself is Envoy's and not read.

Source: Istio's validating webhook and the CRD's expressions.
"""

from __future__ import annotations

from typing import Final

from pilot.resources.envoy_filter import ConfigPatch, EnvoyFilter, FilterChainMatch, ObjectMatch
from pilot.resources.meta import ObjectMeta
from pilot.resources.regex import regex_fault
from pilot.resources.report import Report
from pilot.resources.rules import check_one_of, check_selector, tell
from pilot.resources.validate_target_ref import check_targets
from pilot.resources.yaml import Path

_MATCHES: Final = ("listener", "route_configuration", "cluster", "waypoint")
_LISTENERS: Final = ("LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER")
_ROUTES: Final = ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")
_MANAGERS: Final = ("envoy.filters.network.http_connection_manager", "envoy.http_connection_manager")


def validate(spec: EnvoyFilter, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    root: Path = ("spec",)
    if spec.workload_selector is not None:
        check_selector(spec.workload_selector.labels, (*root, "workloadSelector", "labels"), report)
    beside = "workloadSelector" if spec.workload_selector is not None else ""
    check_targets(spec.target_refs, root, report, beside=beside)
    for index, patch in enumerate(spec.config_patches):
        _check_patch(patch, (*root, "configPatches", index), report)


def _check_patch(patch: ConfigPatch, path: Path, report: Report) -> None:
    if patch.apply_to == "INVALID":
        report((*path, "applyTo"), "is required", "name the class of objects, for example HTTP_FILTER")
    if patch.patch is None:
        report((*path, "patch"), "is required", "add it")
    elif patch.patch.operation == "INVALID":
        report((*path, "patch", "operation"), "is required", "write for example MERGE")
    elif patch.patch.operation != "REMOVE" and patch.patch.value is None:
        report((*path, "patch", "value"), f"is required for {patch.patch.operation}", "add it")
    if patch.match is not None:
        _check_match(patch.match, patch.apply_to, (*path, "match"), report)


def _check_match(match: ObjectMatch, apply_to: str, path: Path, report: Report) -> None:
    check_one_of(match, _MATCHES, path, report)
    if (match.context == "WAYPOINT") != (match.waypoint is not None):
        report((*path, "context"), "context WAYPOINT and a waypoint match go together", "write both or neither")
    if match.proxy is not None and match.proxy.proxy_version:
        tell(report, (*path, "proxy", "proxyVersion"), regex_fault(match.proxy.proxy_version))
    wanted = _wanted(apply_to)
    given = [name for name in _MATCHES if getattr(match, name) is not None]
    if wanted and given and getattr(match, wanted[0]) is None and given != ["waypoint"]:
        report(path, f"{apply_to} is not matched by {given[0]}", f"write {wanted[1]}")
    if match.listener is not None and match.listener.filter_chain is not None and apply_to in _LISTENERS:
        _check_chain(match.listener.filter_chain, apply_to, (*path, "listener", "filterChain"), report)


def _wanted(apply_to: str) -> tuple[str, str] | None:
    """(attribute, written name) of the match that fits a class of objects; None where any does."""
    if apply_to in _LISTENERS:
        return "listener", "listener"
    if apply_to in _ROUTES:
        return "route_configuration", "routeConfiguration"
    return ("cluster", "cluster") if apply_to == "CLUSTER" else None


def _check_chain(chain: FilterChainMatch, apply_to: str, path: Path, report: Report) -> None:
    if chain.filter is None:
        return
    here = (*path, "filter")
    if apply_to in ("LISTENER", "FILTER_CHAIN"):
        report.warn(here, f"has no effect for {apply_to}", "remove it")
    if not chain.filter.name:
        report((*here, "name"), "is required", "name the filter")
    elif chain.filter.sub_filter is not None:
        if apply_to != "HTTP_FILTER":
            report((*here, "subFilter"), f"does not go with {apply_to}", "write applyTo: HTTP_FILTER")
        elif chain.filter.name not in _MANAGERS:
            report((*here, "name"), "a subFilter is one of the connection manager", f"write {_MANAGERS[0]}")
        elif not chain.filter.sub_filter.name:
            report((*here, "subFilter", "name"), "is required", "name the filter")
