from __future__ import annotations

import inspect

import pytest

from agent.upstream.stats import ClusterStats
from mesh.telemetry.metrics import Registry

NAME = "outbound|9080||reviews.default.svc.cluster.local"


def test_attributes_are_exposed_under_envoys_names() -> None:
    registry = Registry()
    stats = ClusterStats(registry, NAME)
    stats.upstream_cx_total.inc()
    stats.upstream_cx_total.inc()
    stats.upstream_cx_active.set(2)
    text = registry.exposition().decode()
    assert f'envoy_cluster_upstream_cx_total{{cluster_name="{NAME}"}} 2\n' in text
    assert f'envoy_cluster_upstream_cx_active{{cluster_name="{NAME}"}} 2\n' in text
    assert "# TYPE envoy_cluster_upstream_cx_active gauge\n" in text


def test_a_cluster_without_traffic_has_no_series() -> None:
    registry = Registry()
    ClusterStats(registry, NAME)
    assert NAME not in registry.exposition().decode()


def test_an_unknown_statistic_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no statistic upstream_cx_totl"):
        ClusterStats(Registry(), NAME).upstream_cx_totl  # type: ignore[attr-defined]  # noqa: B018


def test_responses_count_by_code_and_by_class() -> None:
    registry = Registry()
    stats = ClusterStats(registry, NAME)
    for code in (200, 201, 503):
        for counter in stats.responses(code):
            counter.inc()
    text = registry.exposition().decode()
    assert f'envoy_cluster_upstream_rq_xx{{response_code_class="2",cluster_name="{NAME}"}} 2\n' in text
    assert f'envoy_cluster_upstream_rq{{response_code="503",cluster_name="{NAME}"}} 1\n' in text


def test_a_forgotten_cluster_leaves_nothing_and_may_come_back() -> None:
    registry = Registry()
    stats, other = ClusterStats(registry, NAME), ClusterStats(registry, "other")
    stats.upstream_rq_retry.inc()
    stats.membership_total.set(3)
    stats.responses(200)[0].inc()
    other.upstream_rq_retry.inc()
    stats.forget()
    text = registry.exposition().decode()
    assert NAME not in text
    assert 'cluster_name="other"' in text
    stats.upstream_rq_retry.inc()
    assert f'{NAME}"}} 1\n' in registry.exposition().decode()


def test_every_annotated_statistic_can_be_counted() -> None:
    registry = Registry()
    stats = ClusterStats(registry, NAME)
    source = inspect.getsource(ClusterStats).splitlines()
    annotated = [line.split(":")[0].strip() for line in source if line.endswith((": Counter", ": Gauge"))]
    assert len(annotated) > 30
    for attribute in annotated:
        getattr(stats, attribute).inc()
    assert sum(NAME in line for line in registry.exposition().decode().splitlines()) == len(annotated)
