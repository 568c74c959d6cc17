"""Tasks beside requests: names are resolved again and again, checks run, and both stop with their cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from agent.upstream.cluster import Cluster
from agent.upstream.upkeep import Upkeep
from mesh import config
from tests.rig import LOOPBACK, FakeNames, ScriptedUpstream, cluster, endpoint, make_cluster, until

Failures = list[tuple[str, str]]
RATE = 5.0


@asynccontextmanager
async def upkeep() -> AsyncIterator[tuple[Upkeep, Failures]]:
    failures: Failures = []
    async with trio.open_nursery() as nursery:
        yield Upkeep(nursery, dns_refresh_rate=RATE, on_failure=lambda *what: failures.append(what)), failures
        nursery.cancel_scope.cancel()


def names(*hosts: str, port: int = 80) -> dict[str, config.ClusterEndpoints]:
    workload = config.Workload("db", app="db")
    entries = tuple(config.Endpoint(host, port, weight=3, locality="eu", workload=workload) for host in hosts)
    return {"app": config.ClusterEndpoints("app", entries)}


def addresses(made: Cluster) -> list[str]:
    return [address for address, _ in made.endpoints]


def dns(**fields: object) -> Cluster:
    return make_cluster(cluster(discovery="dns", **fields))


async def test_a_name_becomes_all_its_addresses(autojump_clock: trio.testing.MockClock) -> None:
    trio.socket.set_custom_hostname_resolver(FakeNames({"db.example": ["10.0.0.1", "10.0.0.2"]}))
    made = dns()
    async with upkeep() as (keeper, failures):
        keeper.adopt([made], names("db.example", "10.9.9.9"))
        await until(lambda: made.endpoints)
        assert addresses(made) == ["10.0.0.1", "10.0.0.2", "10.9.9.9"]
        first = made.endpoints["10.0.0.1", 80]
        assert (first.weight, first.config.locality, first.config.workload.app) == (3, "eu", "db")
        assert failures == []


async def test_names_are_resolved_again_and_failures_keep_the_last(autojump_clock: trio.testing.MockClock) -> None:
    table = {"db.example": ["10.0.0.1"]}
    trio.socket.set_custom_hostname_resolver(FakeNames(table))
    made = dns()
    async with upkeep() as (keeper, failures):
        keeper.adopt([made], names("db.example"))
        await trio.sleep(1)
        kept = made.endpoints["10.0.0.1", 80]
        table["db.example"] = ["10.0.0.1", "10.0.0.7"]
        await trio.sleep(RATE)
        assert addresses(made) == ["10.0.0.1", "10.0.0.7"]
        assert made.endpoints["10.0.0.1", 80] is kept
        del table["db.example"]
        await trio.sleep(RATE)
        assert addresses(made) == ["10.0.0.1", "10.0.0.7"]
        assert [name for name, _ in failures] == ["app"]
        assert failures[0][1].startswith("db.example: ")


async def test_a_resolver_that_hangs_is_a_failure(autojump_clock: trio.testing.MockClock) -> None:
    trio.socket.set_custom_hostname_resolver(FakeNames({"db.example": None}))
    async with upkeep() as (keeper, failures):
        keeper.adopt([dns()], names("db.example"))
        await trio.sleep(11)
        assert len(failures) == 1


async def test_a_changed_list_of_names_starts_anew(autojump_clock: trio.testing.MockClock) -> None:
    trio.socket.set_custom_hostname_resolver(FakeNames({"a": ["10.0.0.1"], "b": ["10.0.0.2"]}))
    made = dns()
    async with upkeep() as (keeper, _):
        keeper.adopt([made], names("a"))
        await trio.sleep(1)
        keeper.adopt([made], names("b"))
        await trio.sleep(1)
        assert addresses(made) == ["10.0.0.2"]
        keeper.adopt([made], {})
        await trio.sleep(1)
        assert addresses(made) == []


async def test_a_dropped_cluster_is_left_alone(autojump_clock: trio.testing.MockClock) -> None:
    fake_names = FakeNames({"a": ["10.0.0.1"]})
    trio.socket.set_custom_hostname_resolver(fake_names)
    made = dns()
    async with upkeep() as (keeper, _):
        keeper.adopt([made], names("a"))
        await trio.sleep(1)
        asked = fake_names.asked
        keeper.adopt([], {})
        await trio.sleep(3 * RATE)
        assert fake_names.asked == asked


async def test_unchanged_needs_keep_their_task(autojump_clock: trio.testing.MockClock) -> None:
    fake_names = FakeNames({"a": ["10.0.0.1"]})
    trio.socket.set_custom_hostname_resolver(fake_names)
    made = dns()
    async with upkeep() as (keeper, _):
        for _ in range(5):
            keeper.adopt([made], names("a"))
            await trio.sleep(0.1)
        assert fake_names.asked == 1


async def test_active_checks_take_an_endpoint_out_and_let_it_back(autojump_clock: trio.testing.MockClock) -> None:
    upstream = ScriptedUpstream()
    check = config.HealthCheck(interval=2.0, unhealthy_threshold=1)
    async with upstream.running(), upkeep() as (keeper, _):
        made = make_cluster(cluster(health_check=check), upstream.port, 1)
        keeper.adopt([made], {})
        await until(lambda: [each.port for each in made.usable] == [upstream.port], seconds=30)
        keeper.adopt([], {})
        accepted = upstream.accepted
        await trio.sleep(20)
        assert upstream.accepted == accepted


async def test_a_resolved_cluster_may_be_checked_too(autojump_clock: trio.testing.MockClock) -> None:
    upstream = ScriptedUpstream()
    trio.socket.set_custom_hostname_resolver(FakeNames({"app.example": [LOOPBACK]}))
    async with upstream.running(), upkeep() as (keeper, _):
        made = dns(health_check=config.HealthCheck(interval=2.0))
        keeper.adopt([made], names("app.example", port=upstream.port))
        await until(lambda: upstream.accepted > 1, seconds=30)
        assert made.endpoints[endpoint(upstream.port).address, upstream.port].healthy


async def test_clusters_without_needs_have_no_task() -> None:
    async with upkeep() as (keeper, _):
        tasks = trio.lowlevel.current_statistics().tasks_living
        keeper.adopt([make_cluster(cluster(), 1)], {})
        assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_checks_are_counted_and_verdicts_handed_on(autojump_clock: trio.testing.MockClock) -> None:
    verdicts: list[tuple[str, bool]] = []
    async with trio.open_nursery() as nursery:
        keeper = Upkeep(
            nursery,
            dns_refresh_rate=RATE,
            on_failure=lambda *what: None,
            on_verdict=lambda checked, endpoint: verdicts.append((checked.name, endpoint.healthy)),
        )
        made = make_cluster(cluster(health_check=config.HealthCheck()), 1)
        keeper.adopt([made], {})
        await until(lambda: verdicts, seconds=30)
        assert verdicts == [("app", False)]
        assert made.usable == ()
        counted = made.stats
        assert (counted.health_check_attempt.value, counted.health_check_failure.value) == (1, 1)
        made.reconfigure(cluster())
        assert [each.port for each in made.usable] == [1], "without checks no verdict stands"
        nursery.cancel_scope.cancel()
