"""Reports to the pilot: what is in them, when they go and when they do not; virtual time, living clusters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from agent.exchange.stats import Stats
from agent.reporting import PERIOD, REPEAT, Health, Reporter, RequestDeltas, app_health
from agent.upstream.cluster import Cluster
from agent.upstream.health import Tally
from mesh import config
from mesh.feed.message import Ejection, Report, RequestStatistics
from mesh.telemetry.metrics import Registry
from tests.agent.exchange.test_stats import NODE, exchange
from tests.rig import LOOPBACK, cluster, make_cluster

EPOCH = 1_700_000_000.0
OUTLIER = config.OutlierDetection(consecutive_5xx=1, max_ejection_percent=100.0, base_ejection_time=30.0)
HOST = "reviews.default.svc.cluster.local"


class Rig:
    """The agent and the feed in one, as the reporter sees them; `sent` keeps the time of each report with it."""

    def __init__(self) -> None:
        self.session = "s1"
        self.app: Health = ""
        self.expiry = 0.0
        self.sent: list[tuple[float, Report]] = []
        self.stats = Stats(Registry(), NODE)
        self.reporter = Reporter(
            self, self, self.stats, clock=trio.current_time, wall=lambda: EPOCH + trio.current_time()
        )
        self.cluster = make_cluster(cluster(outlier=OUTLIER), 1, 2)

    def health(self) -> Health:
        return self.app

    def clusters(self) -> Iterable[Cluster]:
        return [self.cluster]

    def certificate_expiry(self) -> float:
        return self.expiry

    def report(self, report: Report) -> None:
        self.sent.append((trio.current_time(), report))

    def take(self) -> list[Report]:
        reports = [report for _, report in self.sent]
        self.sent.clear()
        return reports


@asynccontextmanager
async def reporting() -> AsyncIterator[Rig]:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.reporter.run)
        await trio.sleep(1)
        yield rig
        nursery.cancel_scope.cancel()


async def test_a_report_without_news_is_repeated_only_now_and_then(autojump_clock: MockClock) -> None:
    async with reporting() as rig:
        await trio.sleep(2 * REPEAT + 1)
        times = [round(time - rig.sent[0][0]) for time, _ in rig.sent]
        assert times == [0, REPEAT, 2 * REPEAT]
        assert {report for _, report in rig.sent} == {Report()}


async def test_what_others_wait_for_goes_at_once_and_the_rest_with_the_next_look(autojump_clock: MockClock) -> None:
    async with reporting() as rig:
        rig.take()
        rig.app = "unhealthy"
        rig.reporter.wake()
        await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert rig.take() == [Report(health="unhealthy")]
        rig.expiry = 9.0
        await trio.sleep(PERIOD + 0.1)
        assert rig.take() == [Report(health="unhealthy", certificate_expiry=9.0)]


async def test_flapping_is_told_together(autojump_clock: MockClock) -> None:
    async with reporting() as rig:
        rig.take()
        for number in range(50):
            rig.expiry = float(number)
            rig.reporter.wake()
            await trio.sleep(0.01)
        assert 3 <= len(rig.sent) <= 7


async def test_a_wake_is_not_lost_between_two_looks(autojump_clock: MockClock) -> None:
    async with reporting() as rig:
        rig.take()
        rig.app = "unhealthy"
        rig.reporter.wake()
        await trio.sleep(0.01)
        rig.app = "healthy"
        rig.reporter.wake()
        await trio.sleep(0.3)
        assert [report.health for report in rig.take()] == ["unhealthy", "healthy"]


async def test_ejections_say_why_and_until_when(autojump_clock: MockClock) -> None:
    async with reporting() as rig:
        rig.take()
        now = trio.current_time()
        rig.cluster.observe(rig.cluster.endpoints[LOOPBACK, 1], 503)
        rig.reporter.wake()
        await trio.sleep(1)
        [report] = rig.take()
        assert report.ejections == (Ejection("app", LOOPBACK, 1, "consecutive_5xx", round(EPOCH + now + 30.0, 3)),)
        await trio.sleep(2 * PERIOD)
        assert rig.take() == [], "the same ejection is no news"
        await trio.sleep(60)
        rig.take()
        rig.cluster.tick(trio.current_time())
        await trio.sleep(PERIOD + 0.1)
        assert [report.ejections for report in rig.take()] == [()]


async def test_without_a_session_counts_gather_and_a_new_session_hears_everything(autojump_clock: MockClock) -> None:
    async with reporting() as rig:
        rig.take()
        rig.app, rig.session = "healthy", ""
        for _ in range(3):
            rig.stats.record(exchange())
            await trio.sleep(PERIOD)
        assert rig.take() == []
        rig.session = "s2"
        rig.reporter.wake()
        await trio.sleep(0.1)
        [report] = rig.take()
        assert (report.health, [row.requests for row in report.requests]) == ("healthy", [3])
        rig.session = "s3"
        rig.reporter.wake()
        await trio.sleep(1)
        assert rig.take() == [Report(health="healthy")], "another session may be another pilot"


def test_requests_are_summed_by_edge_and_class_of_response() -> None:
    stats = Stats(Registry(), NODE)
    deltas = RequestDeltas(stats)
    assert deltas.take() == ()
    for code in (200, 201, 404, 503, 500, 0):
        stats.record(exchange(response_code=code))
    rows = {row.response_class: row for row in deltas.take()}
    assert rows[2] == RequestStatistics("cart-v1", HOST, 2, 0, 0.024, "reviews-v1", 2)
    assert {cls: (row.requests, row.errors) for cls, row in rows.items()} == {
        2: (2, 0),
        4: (1, 0),
        5: (2, 2),
        0: (1, 1),
    }
    assert deltas.take() == ()
    stats.record(exchange())
    assert [row.requests for row in deltas.take()] == [1]


def test_calls_are_classed_by_their_grpc_status() -> None:
    stats = Stats(Registry(), NODE)
    for status in ("0", "5", "14"):
        stats.record(exchange(grpc=True, grpc_status=status))
    rows = RequestDeltas(stats).take()
    assert {row.response_class: (row.requests, row.errors) for row in rows} == {2: (1, 0), 4: (1, 0), 5: (1, 1)}


def test_both_directions_are_told_apart_and_outside_hosts_by_their_word() -> None:
    stats = Stats(Registry(), NODE)
    deltas = RequestDeltas(stats)
    stats.record(exchange(inbound=True, source=config.Workload("web-v1", "default")))
    stats.record(exchange(service=None, destination=None, cluster="PassthroughCluster", authority=b""))
    rows = [(row.reporter, row.source, row.destination, row.destination_workload) for row in deltas.take()]
    assert rows == [
        ("destination", "web-v1", HOST, "cart-v1"),
        ("source", "cart-v1", "PassthroughCluster", "unknown"),
    ]


def test_requests_beyond_the_room_of_the_metrics_are_counted_together() -> None:
    stats = Stats(Registry(limit=1), NODE)
    deltas = RequestDeltas(stats)
    for code in (200, 404, 503):
        stats.record(exchange(response_code=code))
    assert [(row.destination, row.requests) for row in deltas.take()] == [(HOST, 1), ("unknown", 2)]


def test_the_apps_health_is_that_of_all_its_checked_ports() -> None:
    check = config.HealthCheck()
    one = make_cluster(cluster("inbound|80||", health_check=check), 80)
    two = make_cluster(cluster("inbound|81||", health_check=check), 81)
    elsewhere = make_cluster(cluster("outbound|80||a", health_check=check), 1)
    unchecked = make_cluster(cluster("inbound|82||"), 82)
    assert app_health([elsewhere, unchecked]) == ""
    assert app_health([one, two]) == "", "no verdict yet"
    for each in (one, two):
        [endpoint] = each.endpoints.values()
        endpoint.check = Tally()
        endpoint.check.observe("", check)
    assert app_health([one, two, elsewhere, unchecked]) == "healthy"
    for _ in range(check.unhealthy_threshold):
        endpoint.check.observe("refused", check)
    assert app_health([one, two]) == "unhealthy"
