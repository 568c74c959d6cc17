"""Endpoints read from an agent's /clusters, as the agent itself writes it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

import msgspec
import pytest

from agent.cluster_status import cluster_status
from agent.codec.message import Limits
from agent.upstream import endpoint
from agent.upstream.cluster import Cluster
from agent.upstream.stats import ClusterStats
from mesh import config
from mesh.ctl.endpoints import Endpoint, endpoints, parse_endpoints
from mesh.errors import MeshError
from mesh.telemetry.metrics import Registry

NAME = "outbound|9080|v3|reviews.default.svc.cluster.local"


def seen(
    health: Literal["healthy", "unhealthy"] = "healthy",
    change: Callable[[endpoint.Endpoint], object] = bool,
    *,
    name: str = NAME,
) -> Endpoint:
    cluster = Cluster(
        config.Cluster(name),
        clock=lambda: 0.0,
        rng=random.Random(1),
        identity=lambda: None,
        stats=ClusterStats(Registry(), name),
        codec_limits=Limits(),
    )
    cluster.set_endpoints([config.Endpoint("10.0.0.1", 80, health=health, workload=config.Workload(version="v3"))])
    change(cluster.endpoints["10.0.0.1", 80])
    [found] = parse_endpoints(msgspec.json.encode({"cluster_statuses": [cluster_status(cluster)]}))
    return found


def test_a_healthy_endpoint_is_told_with_service_and_version() -> None:
    found = seen()
    assert found == Endpoint(NAME, "10.0.0.1:80", "v3", healthy=True, ejected=False)
    assert found.service == "reviews"


def test_a_cluster_that_leads_to_no_service_has_none() -> None:
    assert [seen(name=name).service for name in ("inbound|9080||", "PassthroughCluster")] == ["", ""]


def test_each_reason_for_bad_health_keeps_requests_away() -> None:
    assert not seen("unhealthy").healthy
    assert not seen(change=lambda living: living.set_checked(False)).healthy
    ejected = seen(change=lambda living: living.eject(30.0))
    assert (ejected.healthy, ejected.ejected) == (False, True)


def test_an_agent_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(MeshError, match=r"the agent at .* does not answer"):
        endpoints("http://127.0.0.1:1")
