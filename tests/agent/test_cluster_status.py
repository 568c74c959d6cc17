from __future__ import annotations

import random

from agent.cluster_status import cluster_lines, cluster_status
from agent.codec.message import Limits
from agent.upstream.cluster import Cluster
from agent.upstream.stats import ClusterStats
from mesh import config
from mesh.telemetry.metrics import Registry

NAME = "outbound|9080||reviews.default.svc.cluster.local"


def make(*endpoints: config.Endpoint) -> Cluster:
    cluster = Cluster(
        config.Cluster(NAME, breakers=config.CircuitBreakers(max_requests=5)),
        clock=lambda: 0.0,
        rng=random.Random(1),
        identity=lambda: None,
        stats=ClusterStats(Registry(), NAME),
        codec_limits=Limits(),
    )
    cluster.set_endpoints(endpoints)
    return cluster


def test_lines_are_envoys() -> None:
    endpoint = config.Endpoint("10.0.0.1", 80, weight=3, locality="eu/a/1", workload=config.Workload("reviews-v1"))
    cluster = make(endpoint)
    living = cluster.endpoints["10.0.0.1", 80]
    living.cx_total, living.rq_error = 4, 2
    lines = list(cluster_lines(cluster))
    assert lines[2] == f"{NAME}::default_priority::max_requests::5\n"
    for stat in ("cx_total::4", "rq_error::2", "health_flags::healthy", "weight::3", "zone::a", "hostname::reviews-v1"):
        assert f"{NAME}::10.0.0.1:80::{stat}\n" in lines


def test_each_reason_for_bad_health_has_its_flag() -> None:
    cluster = make(config.Endpoint("::1", 80, health="unhealthy"))
    living = cluster.endpoints["::1", 80]
    living.set_checked(False)
    living.eject(30.0)
    flags = "/failed_active_hc/failed_outlier_check/failed_eds_health"
    assert f"{NAME}::[::1]:80::health_flags::{flags}\n" in list(cluster_lines(cluster))
    (host,) = cluster_status(cluster)["host_statuses"]
    assert host["health_status"] == {
        "eds_health_status": "UNHEALTHY",
        "failed_active_health_check": True,
        "failed_outlier_check": True,
    }


def test_the_object_holds_counters_and_limits() -> None:
    status = cluster_status(make(config.Endpoint("10.0.0.1", 80)))
    assert status["circuit_breakers"].max_requests == 5
    (host,) = status["host_statuses"]
    assert host["address"]["socket_address"] == {"address": "10.0.0.1", "port_value": 80}
    assert set(host["stats"]) == {
        *("cx_active", "cx_connect_fail", "cx_total"),
        *("rq_active", "rq_error", "rq_success", "rq_timeout", "rq_total"),
    }


def test_a_cluster_without_endpoints_still_shows_its_limits() -> None:
    assert len(list(cluster_lines(make()))) == 5
