"""Which endpoint takes the next request: round robin, random, least request.

`hosts` is always the tuple of usable endpoints that the cluster keeps; a balancer remembers what it derived
from it as long as the very same tuple comes back. Weighted picks use an earliest-deadline queue (Envoy's
EDF scheduler): a host's next turn is 1/weight after its last.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heapify, heapreplace
from random import Random
from typing import Literal, Protocol

from agent.upstream.endpoint import Endpoint

RE_PICKS = 5
"""How often a retry tries to avoid the hosts of earlier attempts (Istio's hostSelectionRetryMaxAttempts)."""


class Balancer(Protocol):
    """A pick strategy."""

    def pick(self, hosts: Sequence[Endpoint], rng: Random, excluded: Collection[Endpoint] = ()) -> Endpoint | None:
        """An endpoint of `hosts`; None when there is none. `excluded` is avoided with up to RE_PICKS re-picks."""


def compile_balancer(policy: Literal["round_robin", "least_request", "random"]) -> Balancer:
    """The balancer for a cluster's `lb_policy`."""
    if policy == "round_robin":
        return RoundRobin()
    return RandomPick() if policy == "random" else LeastRequest()


def usable(endpoints: Sequence[Endpoint], min_health_percent: float = 0.0) -> tuple[Endpoint, ...]:
    """The endpoints that may be picked: the healthy ones, or in panic all.

    Panic is when less than `min_health_percent` of them are healthy; 0 switches it off. With panic possible,
    endpoints that discovery reports as not ready take no part at all, as Istio does not send them then.
    """
    if min_health_percent > 0:
        ready = tuple(endpoint for endpoint in endpoints if endpoint.config.health == "healthy")
        healthy = tuple(endpoint for endpoint in ready if endpoint.healthy)
        return ready if 100 * len(healthy) < min_health_percent * len(ready) else healthy
    return tuple(endpoint for endpoint in endpoints if endpoint.healthy)


class Schedule:
    """Earliest deadline first over weighted hosts; starts at random phases so that proxies do not march in step."""

    __slots__ = ("_queue",)

    def __init__(self, hosts: Sequence[Endpoint], rng: Random) -> None:
        self._queue = [((1 - rng.random()) / host.weight, n, host) for n, host in enumerate(hosts)]
        heapify(self._queue)

    def next(self) -> Endpoint:
        """The host whose turn it is; its next one comes 1/weight later."""
        deadline, n, host = self._queue[0]
        heapreplace(self._queue, (deadline + 1 / host.weight, n, host))
        return host

    def next_by_load(self) -> Endpoint:
        """As `next`, but a busy host's turn comes later: weight / (active + 1)."""
        deadline, n, host = self._queue[0]
        heapreplace(self._queue, (deadline + (host.active + 1) / host.weight, n, host))
        return host


def _equal_weights(hosts: Sequence[Endpoint]) -> bool:
    first = hosts[0].weight
    return all(host.weight == first for host in hosts)


class RoundRobin:
    """Every host in turn, in proportion to its weight."""

    __slots__ = ("_at", "_hosts", "_schedule")

    def __init__(self) -> None:
        self._hosts: Sequence[Endpoint] = ()
        self._schedule: Schedule | None = None
        self._at = -1

    def pick(self, hosts: Sequence[Endpoint], rng: Random, excluded: Collection[Endpoint] = ()) -> Endpoint | None:
        if not hosts:
            return None
        if hosts is not self._hosts:
            self._adopt(hosts, rng)
        host = self._next(hosts)
        if excluded:
            for _ in range(RE_PICKS):
                if host not in excluded:
                    break
                host = self._next(hosts)
        return host

    def _next(self, hosts: Sequence[Endpoint]) -> Endpoint:
        if self._schedule is not None:
            return self._schedule.next()
        self._at = at = (self._at + 1) % len(hosts)
        return hosts[at]

    def _adopt(self, hosts: Sequence[Endpoint], rng: Random) -> None:
        if self._at < 0:
            self._at = rng.randrange(len(hosts))
        self._hosts = hosts
        self._schedule = None if _equal_weights(hosts) else Schedule(hosts, rng)


class RandomPick:
    """Uniformly random; weights play no part."""

    __slots__ = ()

    def pick(self, hosts: Sequence[Endpoint], rng: Random, excluded: Collection[Endpoint] = ()) -> Endpoint | None:
        if not hosts:
            return None
        host = _any_of(hosts, rng)
        return _avoid(host, hosts, rng, excluded) if excluded else host


class LeastRequest:
    """The less busy of two random hosts; with unequal weights a schedule by weight / (active + 1)."""

    __slots__ = ("_hosts", "_schedule")

    def __init__(self) -> None:
        self._hosts: Sequence[Endpoint] = ()
        self._schedule: Schedule | None = None

    def pick(self, hosts: Sequence[Endpoint], rng: Random, excluded: Collection[Endpoint] = ()) -> Endpoint | None:
        if hosts is not self._hosts:
            self._hosts = hosts
            self._schedule = None if not hosts or _equal_weights(hosts) else Schedule(hosts, rng)
        size = len(hosts)
        if size < 2:
            return hosts[0] if hosts else None
        if self._schedule is not None:
            host = self._schedule.next_by_load()
        else:
            draw = rng.random
            one = int(draw() * size)
            two = int(draw() * (size - 1))
            if two >= one:
                two += 1
            host, other = hosts[one], hosts[two]
            if other.active < host.active:
                host = other
        # Two choices out of few would keep finding the same idle host, so re-picks are plainly random.
        return _avoid(host, hosts, rng, excluded) if excluded else host


def _any_of(hosts: Sequence[Endpoint], rng: Random) -> Endpoint:
    return hosts[int(rng.random() * len(hosts))]


def _avoid(host: Endpoint, hosts: Sequence[Endpoint], rng: Random, excluded: Collection[Endpoint]) -> Endpoint:
    for _ in range(RE_PICKS):
        if host not in excluded:
            break
        host = _any_of(hosts, rng)
    return host
