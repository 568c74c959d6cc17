"""Balancers, counted exactly where they are exact."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.upstream.balancer import Balancer, LeastRequest, RandomPick, RoundRobin, compile_balancer, usable
from agent.upstream.endpoint import Endpoint
from mesh import config


def endpoints(*weights: int) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(config.Endpoint("10.0.0.1", n, weight=weight)) for n, weight in enumerate(weights))


def counts(balancer: Balancer, hosts: tuple[Endpoint, ...], picks: int) -> list[int]:
    rng = random.Random(7)
    picked = Counter(balancer.pick(hosts, rng) for _ in range(picks))
    return [picked[host] for host in hosts]


def test_policies_have_their_balancers() -> None:
    assert isinstance(compile_balancer("round_robin"), RoundRobin)
    assert isinstance(compile_balancer("random"), RandomPick)
    assert isinstance(compile_balancer("least_request"), LeastRequest)


@pytest.mark.parametrize("balancer", [RoundRobin(), RandomPick(), LeastRequest()])
def test_no_host_no_pick_and_one_host_always(balancer: Balancer) -> None:
    assert balancer.pick((), random.Random(1)) is None
    only = endpoints(1)
    assert balancer.pick(only, random.Random(1)) is only[0]
    assert balancer.pick(only, random.Random(1), only) is only[0]  # better a tried host than none


def test_round_robin_visits_everyone_once_a_round() -> None:
    assert counts(RoundRobin(), endpoints(1, 1, 1), 300) == [100, 100, 100]
    assert counts(RoundRobin(), endpoints(3, 3), 10) == [5, 5]


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6), st.integers(1, 5))
def test_weighted_round_robin_keeps_every_host_within_one_of_its_share(weights: list[int], rounds: int) -> None:
    hosts = endpoints(*weights)
    for got, weight in zip(counts(RoundRobin(), hosts, rounds * sum(weights)), weights, strict=True):
        share = rounds * weight if len(set(weights)) > 1 else rounds * sum(weights) / len(weights)
        assert abs(got - share) <= 1


def test_round_robin_goes_on_when_hosts_change() -> None:
    balancer = RoundRobin()
    rng = random.Random(3)
    hosts = endpoints(1, 1, 1)
    first = balancer.pick(hosts, rng)
    assert first is not None
    fewer = tuple(host for host in hosts if host is not first)
    assert balancer.pick(fewer, rng) is not balancer.pick(fewer, rng)


def test_least_request_takes_the_less_busy_of_two() -> None:
    hosts = endpoints(1, 1)
    hosts[0].active = 5
    assert counts(LeastRequest(), hosts, 50) == [0, 50]


def test_least_request_never_takes_the_busiest_of_many() -> None:
    hosts = endpoints(1, 1, 1, 1)
    hosts[2].active = 1
    got = counts(LeastRequest(), hosts, 200)
    assert got[2] == 0
    assert sum(got) == 200


def test_least_request_with_unequal_weights_follows_them_when_idle() -> None:
    assert all(
        abs(got - share) <= 1
        for got, share in zip(counts(LeastRequest(), endpoints(3, 1), 400), (300, 100), strict=True)
    )


def test_least_request_with_unequal_weights_shuns_the_busy() -> None:
    hosts = endpoints(3, 1)
    hosts[0].active = 5  # 3 / (5 + 1) = 0.5 against 1
    got = counts(LeastRequest(), hosts, 300)
    assert abs(got[0] - 100) <= 2


def test_random_reaches_everyone() -> None:
    assert all(60 < got < 140 for got in counts(RandomPick(), endpoints(1, 9, 1), 300))


@pytest.mark.parametrize("balancer", [RoundRobin(), RandomPick(), LeastRequest()])
def test_retries_avoid_the_hosts_already_tried(balancer: Balancer) -> None:
    hosts = endpoints(1, 1, 1, 1)
    hosts[1].active = 9
    rng = random.Random(5)
    picked = [balancer.pick(hosts, rng, (hosts[0],)) for _ in range(200)]
    assert picked.count(hosts[0]) <= 1  # five re-picks may all fail; with four hosts hardly ever


@pytest.mark.parametrize("balancer", [RoundRobin(), RandomPick(), LeastRequest()])
def test_with_everyone_tried_the_last_pick_stands(balancer: Balancer) -> None:
    hosts = endpoints(1, 1)
    assert balancer.pick(hosts, random.Random(5), hosts) in hosts


def test_weighted_schedules_avoid_tried_hosts_too() -> None:
    hosts = endpoints(5, 1)
    assert RoundRobin().pick(hosts, random.Random(5), (hosts[1],)) is hosts[0]
    assert LeastRequest().pick(hosts, random.Random(5), (hosts[1],)) is hosts[0]


def test_only_healthy_endpoints_are_usable() -> None:
    hosts = endpoints(1, 1, 1)
    hosts[0].eject(1.0)
    assert usable(hosts) == hosts[1:]
    for host in hosts:
        host.eject(1.0)
    assert usable(hosts) == ()


def test_panic_spreads_over_everyone_who_is_ready() -> None:
    hosts = endpoints(1, 1, 1, 1)
    hosts[3].reconfigure(config.Endpoint("10.0.0.1", 3, health="unhealthy"))
    hosts[0].eject(1.0)
    assert usable(hosts, 50) == hosts[1:3]  # two of three are healthy
    hosts[1].eject(1.0)
    assert usable(hosts, 50) == hosts[:3]
    assert usable(hosts, 0) == hosts[2:3]
