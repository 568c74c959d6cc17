"""`/stats` of any families; over the agent's admin port it is tested in tests/agent/test_admin.py."""

import json
import re
from collections.abc import Callable

import pytest

from mesh.errors import MeshError
from mesh.telemetry.metrics import Registry
from mesh.telemetry.stats_page import stats_format, stats_page


def compile_full(pattern: str) -> Callable[[bytes], bool]:
    compiled = re.compile(pattern.encode())
    return lambda value: compiled.fullmatch(value) is not None


def page(**query: str) -> str:
    registry = Registry()
    registry.counter("requests_total", "Requests.").child((("code", "200"),)).inc(3)
    registry.gauge("idle", "Idle.").child().set(0)
    return stats_page(registry.families(), query, compile_full).body.decode()


def test_as_text_with_filter_and_without_what_was_not_used() -> None:
    assert 'requests_total{code="200"}: 3\n' in page()
    assert "idle: 0\n" in page()
    assert page(usedonly="") == 'requests_total{code="200"}: 3\n'
    assert page(filter="^idle$") == "idle: 0\n"


def test_as_json() -> None:
    stats = json.loads(page(format="json", filter="requests"))["stats"]
    assert stats == [{"name": 'requests_total{code="200"}', "value": 3}]


def test_a_format_that_is_none() -> None:
    with pytest.raises(MeshError, match="'xml' is no format; write one of text, json, prometheus"):
        stats_format({"format": "xml"})
