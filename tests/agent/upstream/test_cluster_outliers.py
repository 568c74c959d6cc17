"""What answers and faults tell a cluster about its endpoints: charges, ejections and their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.exchange import faults
from agent.exchange.faults import ProxyFault
from agent.upstream.cluster import Cluster
from agent.upstream.endpoint import Endpoint
from agent.upstream.outlier import LocalFailure
from mesh import config
from tests.rig import cluster, endpoint, make_cluster

OUTLIER = config.OutlierDetection(consecutive_5xx=2, base_ejection_time=30.0, max_ejection_percent=100.0)


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(clock: Callable[[], float], **outlier: Any) -> Cluster:
    settings = config.OutlierDetection(
        **{"consecutive_5xx": 2, "base_ejection_time": 30.0, "max_ejection_percent": 100.0, **outlier}
    )
    return make_cluster(cluster(lb_policy="round_robin", outlier=settings), 1, 2, clock=clock)


def fail(made: Cluster, outcome: int | LocalFailure = 503, times: int = 2) -> Endpoint:
    bad = next(iter(made.endpoints.values()))
    for _ in range(times):
        made.observe(bad, outcome)
    return bad


def test_an_ejected_endpoint_is_not_picked_until_its_time_is_over() -> None:
    clock = Clock()
    made = watched(clock)
    bad = fail(made)
    assert bad.state == "ejected"
    assert {made.pick().port for _ in range(6)} == {2}
    assert made.stats.outlier_detection_ejections_active.value == 1
    assert made.stats.outlier_detection_ejections_enforced_total.value == 1
    clock.now = 20.0
    made.tick(20.0)
    assert made.ejected == {bad}
    made.tick(40.0)
    assert made.ejected == set()
    assert {made.pick().port for _ in range(6)} == {1, 2}
    assert made.stats.outlier_detection_ejections_active.value == 0


def test_an_ejection_beyond_the_share_is_counted() -> None:
    made = watched(Clock(), max_ejection_percent=50.0)
    first, second = made.endpoints.values()
    for each in (first, first, second, second):
        made.observe(each, 503)
    assert made.ejected == {first}
    assert made.stats.outlier_detection_ejections_overflow.value == 1


def test_removing_outlier_detection_releases_the_ejected() -> None:
    made = watched(Clock())
    bad = fail(made)
    made.reconfigure(cluster(lb_policy="round_robin"))
    assert (bad.state, made.ejected, made.outlier) == ("healthy", set(), None)
    assert made.stats.outlier_detection_ejections_active.value == 0
    fail(made)
    assert bad.state == "healthy"


def test_changing_outlier_detection_keeps_the_ejected() -> None:
    made = watched(Clock())
    bad = fail(made)
    made.reconfigure(cluster(outlier=config.OutlierDetection(consecutive_5xx=9, max_ejection_percent=100.0)))
    assert bad.state == "ejected"


def test_outlier_detection_may_come_later() -> None:
    made = make_cluster(cluster(), 1, 2, clock=Clock())
    fail(made)
    made.reconfigure(cluster(outlier=OUTLIER))
    assert fail(made).state == "ejected"


def test_ejections_survive_pushes_of_endpoints_and_end_with_their_endpoint() -> None:
    made = watched(Clock())
    bad = fail(made)
    made.set_endpoints((endpoint(1), endpoint(2), endpoint(3)))
    assert made.ejected == {bad}
    made.set_endpoints((endpoint(2),))
    assert made.ejected == set()


@pytest.mark.parametrize(
    ("fault", "counter"),
    [
        (faults.connect_failed("refused"), "rq_error"),
        (faults.connect_failed("", timeout=True), "rq_error"),
        (faults.terminated(sent=True, reused=False), "rq_error"),
        (faults.per_try_timeout(), "rq_timeout"),
        (faults.route_timeout(), "rq_timeout"),
    ],
)
def test_faults_of_the_upstream_charge_the_endpoint(fault: ProxyFault, counter: str) -> None:
    made = watched(Clock())
    bad = next(iter(made.endpoints.values()))
    made.observe_fault(bad, fault)
    assert getattr(bad, counter) == 1
    made.observe_fault(bad, fault)
    assert bad.state == "ejected"


@pytest.mark.parametrize("fault", [faults.client_gone(), faults.overflow(), faults.no_healthy_upstream()])
def test_faults_of_others_charge_nobody(fault: ProxyFault) -> None:
    made = watched(Clock())
    bad = next(iter(made.endpoints.values()))
    for _ in range(5):
        made.observe_fault(bad, fault)
    assert (bad.rq_error, bad.rq_timeout, bad.state) == (0, 0, "healthy")


def test_ejections_are_listed_with_reason_and_end_and_told() -> None:
    clock = Clock()
    told: list[int] = []
    made = make_cluster(cluster(outlier=OUTLIER), 1, 2, clock=clock, ejections_changed=lambda: told.append(1))
    assert list(made.ejections()) == []
    bad = fail(made)
    assert list(made.ejections()) == [(bad, "consecutive_5xx", 30.0)]
    assert len(told) == 1
    made.tick(40.0)
    assert list(made.ejections()) == []
    assert len(told) == 2


def test_a_push_that_ends_ejections_tells_it() -> None:
    told: list[int] = []
    made = make_cluster(
        cluster(outlier=OUTLIER), 1, 2, clock=Clock(), ejections_changed=lambda: told.append(len(made.ejected))
    )
    fail(made)
    made.set_endpoints((endpoint(1), endpoint(2), endpoint(3)))
    made.set_endpoints((endpoint(1), endpoint(2)))
    assert told == [1]
    made.set_endpoints((endpoint(2),))
    assert told == [1, 0]
    fail(made)
    made.reconfigure(cluster())
    assert told == [1, 0, 1, 0]
    made.reconfigure(cluster(outlier=OUTLIER))
    assert told == [1, 0, 1, 0]
