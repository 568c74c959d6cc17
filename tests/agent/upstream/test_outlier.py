"""Outlier detection on a clock of plain numbers."""

from __future__ import annotations

import pytest

from agent.upstream.endpoint import Endpoint
from agent.upstream.outlier import Ejection, LocalFailure, Outcome, OutlierDetector
from mesh import config
from mesh.config import OutlierDetection


def endpoint(n: int = 0) -> Endpoint:
    return Endpoint(config.Endpoint("10.0.0.1", n))


def detector(**rules: object) -> OutlierDetector:
    return OutlierDetector(OutlierDetection(**{"max_ejection_percent": 100.0, **rules}))  # type: ignore[arg-type]


def feed(judge: OutlierDetector, host: Endpoint, *outcomes: Outcome, now: float = 0.0, total: int = 1) -> list[str]:
    ejections = [judge.observe(host, outcome, now, total) for outcome in outcomes]
    return [ejection.reason for ejection in ejections if ejection]


def ejected(judge: OutlierDetector, host: Endpoint, now: float) -> Ejection:
    for _ in range(4):
        assert judge.observe(host, 500, now, 10) is None
    ejection = judge.observe(host, 500, now, 10)
    assert ejection is not None
    return ejection


def test_five_errors_in_a_row_eject_at_once() -> None:
    judge, host = detector(), endpoint()
    ejection = ejected(judge, host, 100.0)
    assert (ejection.endpoint, ejection.reason, ejection.duration, ejection.until, ejection.times) == (
        host,
        "consecutive_5xx",
        30.0,
        130.0,
        1,
    )
    assert host.state == "ejected"
    assert (judge.ejected, judge.ejections, judge.overflow) == (1, {"consecutive_5xx": 1}, 0)


def test_a_success_starts_the_count_anew() -> None:
    judge, host = detector(), endpoint()
    assert feed(judge, host, 500, 500, 500, 500, 200, 500, 500, 500, 500) == []
    assert feed(judge, host, 404, 500) == []  # 404 is a success of the endpoint


@pytest.mark.parametrize(
    ("rules", "outcomes", "reasons"),
    [
        ({"consecutive_5xx": 0}, [500] * 9, []),
        ({"consecutive_5xx": 2}, [LocalFailure.RESET, LocalFailure.TIMEOUT], ["consecutive_5xx"]),
        ({"consecutive_gateway_errors": 2}, [502, 504], ["consecutive_gateway_failure"]),
        ({"consecutive_gateway_errors": 2}, [503, 500, 503, 500], []),
        ({"consecutive_gateway_errors": 2}, [LocalFailure.CONNECT_FAILURE] * 2, ["consecutive_gateway_failure"]),
        ({"consecutive_gateway_errors": 5, "consecutive_5xx": 2}, [503, 503], ["consecutive_5xx"]),
        ({"split_external_local_origin_errors": True}, [LocalFailure.RESET] * 4, []),
        (
            {"split_external_local_origin_errors": True},
            [LocalFailure.RESET] * 5,
            ["consecutive_local_origin_failure"],
        ),
        ({"split_external_local_origin_errors": True}, [LocalFailure.RESET] * 4 + [500] + [LocalFailure.RESET], []),
        (
            {"split_external_local_origin_errors": True, "consecutive_local_origin_failures": 0},
            [LocalFailure.RESET] * 9,
            [],
        ),
    ],
)
def test_what_counts(rules: dict[str, object], outcomes: list[Outcome], reasons: list[str]) -> None:
    assert feed(detector(**rules), endpoint(), *outcomes) == reasons


@pytest.mark.parametrize(
    ("hosts", "percent", "already", "ejects"),
    [
        (9, 10.0, 0, False),
        (10, 10.0, 0, True),
        (10, 10.0, 1, False),
        (20, 10.0, 1, True),
        (1, 100.0, 0, True),
        (2, 50.0, 1, False),
    ],
)
def test_at_most_the_given_share_is_ejected(hosts: int, percent: float, already: int, ejects: bool) -> None:
    judge, host = detector(max_ejection_percent=percent, consecutive_5xx=1), endpoint()
    ejection = judge.observe(host, 500, 0.0, hosts, already)
    assert (ejection is not None) is ejects
    assert judge.overflow == (0 if ejects else 1)


def test_a_refused_ejection_starts_the_count_anew() -> None:
    judge, host = detector(max_ejection_percent=10.0), endpoint()
    assert feed(judge, host, *[500] * 9, total=5) == []
    assert judge.overflow == 1
    assert feed(judge, host, 500, total=5) == []
    assert judge.overflow == 2


def test_late_answers_of_an_ejected_endpoint_change_nothing() -> None:
    judge, host = detector(), endpoint()
    ejected(judge, host, 0.0)
    assert feed(judge, host, *[500] * 20) == []
    assert (judge.ejected, judge.overflow) == (1, 0)


def test_ejections_grow_and_are_capped() -> None:
    judge, host = detector(base_ejection_time=100.0), endpoint()
    now = 0.0
    for times, duration in ((1, 100.0), (2, 200.0), (3, 300.0), (4, 300.0)):
        ejection = ejected(judge, host, now)
        assert (ejection.times, ejection.duration) == (times, duration)
        now += duration
        assert judge.sweep(now - 0.5) == []
        now += 10.0
        assert judge.sweep(now) == [host]
        assert host.healthy
    long = detector(base_ejection_time=1000.0)
    assert ejected(long, endpoint(), 0.0).duration == 1000.0


def test_healthy_sweeps_forgive() -> None:
    judge, host = detector(), endpoint()
    ejected(judge, host, 0.0)
    assert judge.sweep(30.0) == [host]
    assert judge.ejected == 0
    assert ejected(judge, host, 31.0).times == 2
    assert judge.sweep(91.0) == [host]
    assert judge.sweep(101.0) == []  # times 2 -> 1
    assert ejected(judge, host, 102.0).times == 2
    assert judge.sweep(170.0) == [host]
    assert judge.sweep(180.0) == judge.sweep(190.0) == judge.sweep(200.0) == []
    assert ejected(judge, host, 201.0).times == 1


def test_sweeps_between_intervals_do_nothing() -> None:
    judge, host = detector(), endpoint()
    assert judge.sweep(25.0) == []
    ejected(judge, host, 0.0)
    assert judge.sweep(31.0) == []  # the time is over, the next sweep is at 35
    assert judge.sweep(35.0) == [host]


def test_an_endpoint_that_leaves_is_forgotten() -> None:
    judge, host = detector(), endpoint()
    ejected(judge, host, 0.0)
    judge.forget(host)
    assert (judge.ejected, host.outlier, host.healthy) == (0, None, True)
    judge.forget(endpoint(9))
    assert judge.sweep(100.0) == []


def test_without_a_rule_everybody_comes_back() -> None:
    judge, one, two = detector(), endpoint(1), endpoint(2)
    ejected(judge, one, 0.0)
    ejected(judge, two, 0.0)
    judge.sweep(30.0)
    ejected(judge, two, 31.0)
    assert judge.release_all() == [two]
    assert two.healthy
    assert judge.ejected == 0


def test_new_rules_act_on_old_counts() -> None:
    judge, host = detector(), endpoint()
    assert feed(judge, host, 500, 500, 500) == []
    judge.reconfigure(OutlierDetection(consecutive_5xx=2, max_ejection_percent=100.0))
    assert feed(judge, host, 500) == ["consecutive_5xx"]
