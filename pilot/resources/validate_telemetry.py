"""Rules of a Telemetry beyond its schema (Istio's webhook and the CRD's expressions)."""

from __future__ import annotations

from pilot.resources.cel import CelError
from pilot.resources.cel import check as check_cel
from pilot.resources.meta import ObjectMeta
from pilot.resources.report import Report
from pilot.resources.rules import check_duration, check_one_of
from pilot.resources.telemetry import AccessLogging, Metrics, MetricsOverride, Telemetry, Tracing
from pilot.resources.validate_target_ref import check_attachment
from pilot.resources.yaml import Path


def validate(spec: Telemetry, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    root: Path = ("spec",)
    check_attachment(spec.selector, spec.target_refs, root, report, target_ref=spec.target_ref)
    if len(spec.tracing) > 1:
        report.warn((*root, "tracing", 1), "only the first tracing counts", "put all into one")
    for index, tracing in enumerate(spec.tracing):
        _check_tracing(tracing, (*root, "tracing", index), report)
    for index, metrics in enumerate(spec.metrics):
        _check_metrics(metrics, (*root, "metrics", index), report)
    for index, logging in enumerate(spec.access_logging):
        _check_logging(logging, (*root, "accessLogging", index), report)


def _check_tracing(tracing: Tracing, path: Path, report: Report) -> None:
    if len(tracing.providers) > 1:
        report.warn((*path, "providers", 1), "only the first provider counts", "name one")
    for name, tag in tracing.custom_tags.items():
        here = (*path, "customTags", name)
        if not name:
            report(here, "a tag without a name", "name it")
        check_one_of(tag, ("literal", "environment", "header", "formatter"), here, report)


def _check_metrics(metrics: Metrics, path: Path, report: Report) -> None:
    check_duration(metrics.reporting_interval, (*path, "reportingInterval"), report)
    for index, override in enumerate(metrics.overrides):
        _check_override(override, (*path, "overrides", index), report)


def _check_override(override: MetricsOverride, path: Path, report: Report) -> None:
    if override.match is not None:
        check_one_of(override.match, ("metric", "custom_metric"), (*path, "match"), report)
    for name, tag in override.tag_overrides.items():
        here = (*path, "tagOverrides", name)
        if not name:
            report.warn(here, "a tag without a name", "name it")
        if tag.operation == "UPSERT" and not tag.value:
            report((*here, "value"), "is required for UPSERT", "write a CEL expression, or operation: REMOVE")
        if tag.operation == "REMOVE" and tag.value:
            report((*here, "value"), "does not go with REMOVE", "remove one of the two")


def _check_logging(logging: AccessLogging, path: Path, report: Report) -> None:
    if logging.filter is None:
        return
    try:
        check_cel(logging.filter.expression)
    except CelError as exc:
        what = f"not a CEL expression: {exc}"
        report((*path, "filter", "expression"), what, "write for example response.code >= 400")
