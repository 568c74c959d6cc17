"""Rules of a ProxyConfig beyond its schema."""

from __future__ import annotations

from pilot.resources.meta import ObjectMeta
from pilot.resources.proxy_config import ProxyConfig
from pilot.resources.report import Report
from pilot.resources.rules import check_match_labels


def validate(spec: ProxyConfig, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    check_match_labels(spec.selector, ("spec", "selector"), report)
