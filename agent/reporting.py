"""What the agent tells the pilot of itself: its app's health, ejections, requests, the end of its certificate.

A look every few seconds, and at once when something that others wait for has changed (`wake`). A report goes out
when it says something new; otherwise only now and then. While there is no session the counts gather.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal, Protocol, TypeAlias

import trio

from agent.exchange.grpc import http_of_status
from agent.exchange.labels import UNKNOWN
from agent.exchange.stats import Stats
from agent.upstream.cluster import Cluster
from mesh.feed.message import Ejection, Report, RequestStatistics
from mesh.telemetry.metrics import Labels

PERIOD: Final = 5.0
"""Seconds between two looks."""
REPEAT: Final = 30.0
"""Seconds after which a report without news is sent again."""
_GAP: Final = 0.1  # seconds between two looks at least: endpoints that flap are told together

Health: TypeAlias = Literal["", "healthy", "unhealthy", "draining"]


class Subject(Protocol):
    """Whom the report is about: the agent."""

    def health(self) -> Health: ...

    def clusters(self) -> Iterable[Cluster]: ...

    def certificate_expiry(self) -> float:
        """Seconds since the epoch; 0 without a certificate."""


class Feed(Protocol):
    """Where reports go."""

    @property
    def session(self) -> str: ...

    def report(self, report: Report) -> None: ...


class Reporter:
    """Reports of one agent. `run` is its task."""

    def __init__(
        self, subject: Subject, feed: Feed, stats: Stats, *, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._subject = subject
        self._feed = feed
        self._requests = RequestDeltas(stats)
        self._clock = clock
        self._wall = wall
        self._woken = trio.Event()
        self._told: object = None
        self._repeat_at = 0.0

    def wake(self) -> None:
        """Something has changed that is worth a look now."""
        self._woken.set()

    async def run(self) -> None:
        """Look and report until cancelled."""
        while True:
            woken = self._woken = trio.Event()
            self._look()
            await trio.sleep(_GAP)
            with trio.move_on_after(PERIOD - _GAP):
                await woken.wait()

    def _look(self) -> None:
        session = self._feed.session
        if not session:
            return
        now = self._clock()
        subject = self._subject
        ejected = [(cluster.name, *ejection) for cluster in subject.clusters() for ejection in cluster.ejections()]
        # Ejections by the agent's own clock: the wall's seconds for the same moment vary from look to look.
        news = (session, subject.health(), frozenset(ejected), subject.certificate_expiry())
        requests = self._requests.take()
        if news == self._told and not requests and now < self._repeat_at:
            return
        self._told = news
        self._repeat_at = now + REPEAT
        epoch = self._wall() - now
        ejections = tuple(
            Ejection(cluster, endpoint.address, endpoint.port, reason, round(epoch + until, 3))
            for cluster, endpoint, reason, until in ejected
        )
        self._feed.report(Report(news[1], ejections, requests, news[3]))


class RequestDeltas:
    """What was counted since the last `take`."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._taken: dict[Labels, tuple[float, float]] = {}

    def take(self) -> tuple[RequestStatistics, ...]:
        """Requests since the last call, summed by caller, callee and class of response."""
        sums: dict[tuple[str, str, str, int, bool], tuple[float, float]] = {}
        for labels, requests, seconds in self._stats.request_totals():
            before = self._taken.get(labels, (0, 0.0))
            if requests != before[0]:
                self._taken[labels] = (requests, seconds)
                key = _edge(labels)
                count, latency = sums.get(key, (0, 0.0))
                sums[key] = (count + requests - before[0], latency + seconds - before[1])
        return tuple(
            RequestStatistics(
                source=source,
                destination=destination,
                requests=int(count),
                errors=int(count) if response_class in (0, 5) else 0,
                latency_sum=round(latency, 6),
                destination_workload=workload,
                response_class=response_class,
                reporter="destination" if inbound else "source",
            )
            for (source, destination, workload, response_class, inbound), (count, latency) in sums.items()
        )


def _edge(labels: Labels) -> tuple[str, str, str, int, bool]:
    """(source workload, destination host, destination workload, response class, counted by the callee)."""
    named = dict(labels)
    host = named.get("destination_service", UNKNOWN)
    if host == UNKNOWN:
        host = named.get("destination_service_name", UNKNOWN)
    return (
        named.get("source_workload", UNKNOWN),
        host,
        named.get("destination_workload", UNKNOWN),
        _status(named) // 100,
        named.get("reporter") == "destination",
    )


def _status(named: dict[str, str]) -> int:
    """A call's HTTP status says nothing of how it ended: its grpc-status does, in the words of HTTP."""
    told = named.get("grpc_response_status")
    return http_of_status(int(told)) if told else int(named.get("response_code", "0"))


def app_health(clusters: Iterable[Cluster]) -> Health:
    """What the active checks say of the app beside a sidecar: the inbound clusters that are checked, all of them.

    "" when nothing is checked, or not everything has been yet.
    """
    checked = [each for each in clusters if each.config.health_check is not None and each.name.startswith("inbound|")]
    verdicts = [
        endpoint.check.passing if endpoint.check is not None else None
        for cluster in checked
        for endpoint in cluster.endpoints.values()
    ]
    if not verdicts or None in verdicts:
        return ""
    return "healthy" if all(verdicts) else "unhealthy"
