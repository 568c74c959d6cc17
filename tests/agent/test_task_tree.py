from __future__ import annotations

from collections.abc import Awaitable, Callable

import h2.connection
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agent.task_tree import exchanges_report, in_flight, tree_report
from mesh import config
from mesh.telemetry.tasks import WAITS, InFlight, Report, Task
from tests.rig import (
    LOOPBACK,
    ScriptedUpstream,
    Serving,
    Wire,
    cluster,
    connected,
    endpoint,
    http_listener,
    listening,
    routes_to,
    serving,
    snapshot,
    until,
    web,
)

GET = b"GET /slow HTTP/1.1\r\nhost: app\r\n\r\n"


async def waiting_for_ever() -> None:
    await trio.sleep_forever()


async def parent(task_status: trio.TaskStatus[trio.lowlevel.Task]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiting_for_ever, name="child b")
        nursery.start_soon(waiting_for_ever, name="child a")
        task_status.started(trio.lowlevel.current_task())


def bare(root: trio.lowlevel.Task, limit: int = 100) -> Report:
    return tree_report(root, (), (), trio.current_time(), limit=limit)


def tree_of(report: Report) -> Task:
    (tree,) = report.trees
    return tree


async def test_children_stand_below_their_parent_with_the_place_they_wait_at(nursery: trio.Nursery) -> None:
    task = await nursery.start(parent)
    await wait_all_tasks_blocked()
    tree = tree_of(bare(task))
    (inner,) = tree.nurseries
    assert tree.name.endswith("parent")
    assert [child.name for child in inner.tasks] == ["child a", "child b"]
    assert all(each.at.startswith("test_task_tree.py:") for each in (tree, *inner.tasks))
    nursery.cancel_scope.cancel()


async def test_a_nursery_tells_its_deadline_and_that_it_is_cancelled(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 5
        nursery.start_soon(waiting_for_ever)
        await wait_all_tasks_blocked()
        before = tree_of(bare(trio.lowlevel.current_task())).nurseries[-1]
        nursery.cancel_scope.cancel()
        after = tree_of(bare(trio.lowlevel.current_task())).nurseries[-1]
    assert (before.deadline, before.cancelled, after.cancelled) == (5.0, False, True)


async def test_a_crowd_is_cut_and_what_stands_beside_it_is_not() -> None:
    async with trio.open_nursery() as outer, trio.open_nursery() as crowd:
        for _ in range(20):
            crowd.start_soon(parent_of_one)
        outer.start_soon(waiting_for_ever, name="beside")
        await wait_all_tasks_blocked()
        report = bare(trio.lowlevel.current_task(), limit=22)
        outer.cancel_scope.cancel()
    assert [len(inner.tasks) for inner in tree_of(report).nurseries[-2:]] == [1, 20]
    assert report.remainder() == "20 more tasks"


async def parent_of_one() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiting_for_ever)


# Exchanges


def told(made: Serving, *, min_age: float = 0.0) -> list[InFlight]:
    found = in_flight(made.dataplane.exchanges, trio.current_time(), min_age=min_age)
    assert all(each.waits_for in WAITS for _, each in found)
    return [each for _, each in found]


async def silence(upstream: ScriptedUpstream, wire: Wire) -> None:
    await wire.head()
    await trio.sleep_forever()


async def half_a_body(upstream: ScriptedUpstream, wire: Wire) -> None:
    await wire.head()
    await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
    await trio.sleep_forever()


async def flood(upstream: ScriptedUpstream, wire: Wire) -> None:
    await wire.head()
    await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n")
    while True:
        await wire.send(bytes(65536))


@pytest.mark.parametrize(
    ("script", "request_", "waits_for"),
    [
        (silence, GET, "upstream head"),
        (half_a_body, GET, "upstream body"),
        (flood, GET, "client to read"),
        (silence, b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 9\r\n\r\nhalf", "request body"),
    ],
)
async def test_an_exchange_tells_what_it_waits_for(
    script: Callable[[ScriptedUpstream, Wire], Awaitable[None]], request_: bytes, waits_for: str
) -> None:
    async with ScriptedUpstream(script).running() as upstream, serving(web(upstream.port)) as made:
        async with made.connect() as wire:
            await wire.send(request_)
            await until(lambda: [each.waits_for for each in told(made)] == [waits_for])
        await made.settled()
        assert told(made) == []


async def test_an_exchange_tells_where_it_goes_and_what_time_it_has(autojump_clock: MockClock) -> None:
    policy = config.RetryPolicy(attempts=1, retry_on=("5xx",), per_try_timeout=4.0)
    async with ScriptedUpstream(silence).running() as upstream:
        given = snapshot(
            http_listener(),
            routes_to(timeout=10.0, retries=policy),
            cluster(),
            config.ClusterEndpoints("app", (endpoint(upstream.port),)),
        )
        async with serving(given) as made, made.connect() as wire:
            await wire.send(GET)
            await trio.sleep(1)
            (one,) = told(made)
            assert (one.method, one.authority, one.path, one.protocol) == ("GET", "app", "/slow", "HTTP/1.1")
            assert (one.route, one.cluster, one.endpoint) == ("all", "app", f"{LOOPBACK}:{upstream.port}")
            assert (one.attempt, one.listener, one.status, one.client) == (1, "web", 0, wire.transport.local)
            assert one.age == pytest.approx(1, abs=0.1)
            assert one.try_left == pytest.approx(3, abs=0.1)
            assert one.route_left == pytest.approx(9, abs=0.1)
            assert one.request_id
            await trio.sleep(4)
            (again,) = told(made)
            assert (again.attempt, again.request_id) == (2, one.request_id)
            assert told(made, min_age=6.0) == []


async def test_a_wait_for_a_connection_and_a_place_in_the_queue_are_told_apart() -> None:
    given_breakers = config.CircuitBreakers(max_connections=1)
    async with ScriptedUpstream(silence).running() as upstream:
        async with serving(web(upstream.port, breakers=given_breakers)) as made:
            async with made.connect() as first, made.connect() as second:
                await first.send(GET)
                await until(lambda: [each.waits_for for each in told(made)] == ["upstream head"])
                await second.send(GET)
                await until(lambda: [each.waits_for for each in told(made)][1:] == ["pending queue"])
                assert told(made)[1].endpoint == told(made)[0].endpoint


async def test_a_retry_that_backs_off_is_told() -> None:
    async def refuse(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.head()
        await wire.answer(503)

    slow = config.RetryPolicy(attempts=9, retry_on=("5xx",), backoff_base=60.0, backoff_max=60.0)
    async with ScriptedUpstream(refuse).running() as upstream:
        endpoints = config.ClusterEndpoints("app", (endpoint(upstream.port),))
        async with serving(snapshot(http_listener(), routes_to(retries=slow), cluster(), endpoints)) as made:
            async with made.connect() as wire:
                await wire.send(GET)
                await until(lambda: [each.waits_for for each in told(made)] == ["retry back-off"])


async def test_an_injected_delay_is_told() -> None:
    fault = config.Fault(delay=config.FaultDelay(60.0, 100.0))
    route = config.Route("late", config.RouteMatch(), config.DirectResponse(200), fault=fault)
    routes = config.RouteConfig("web", (config.VirtualHost("any", ("*",), (route,)),))
    async with serving(snapshot(http_listener(), routes)) as made, made.connect() as wire:
        await wire.send(GET)
        await until(lambda: [(each.route, each.waits_for) for each in told(made)] == [("late", "injected delay")])


async def test_streams_of_a_connection_stand_below_its_task_though_they_have_none() -> None:
    async with listening() as deaf, serving(web(deaf.port, protocol="downstream")) as made:
        async with connected(made.port()) as wire:
            client = h2.connection.H2Connection()
            client.initiate_connection()
            for number in (1, 3):
                client.send_headers(
                    number,
                    [(":method", "GET"), (":scheme", "http"), (":authority", "app"), (":path", f"/{number}")],
                    end_stream=True,
                )
            await wire.send(client.data_to_send())
            await until(lambda: [each.waits_for for each in told(made)] == ["upstream head"] * 2)
            report = tree_report(
                trio.lowlevel.current_task(),
                made.dataplane.connections,
                made.dataplane.exchanges,
                trio.current_time(),
                limit=100,
            )
            (served,) = [task for task in walk(tree_of(report)) if task.connection is not None]
            assert served.name == "connection"
            assert sorted(each.path for each in served.exchanges) == ["/1", "/3"]
            assert {each.protocol for each in served.exchanges} == {"HTTP/2"}
            alone = exchanges_report(made.dataplane.exchanges, trio.current_time(), limit=1)
            assert len(alone.exchanges) == 1
            assert alone.remainder() == "1 more exchanges"


def walk(task: Task) -> list[Task]:
    return [task, *(found for inner in task.nurseries for child in inner.tasks for found in walk(child))]


async def test_an_idle_connection_is_in_the_tree_and_no_exchange() -> None:
    async with ScriptedUpstream().running() as upstream, serving(web(upstream.port)) as made, made.connect() as wire:
        assert (await wire.ask()).status == 200
        report = tree_report(
            trio.lowlevel.current_task(), made.dataplane.connections, made.dataplane.exchanges, 0.0, limit=100
        )
        (served,) = [task for task in walk(tree_of(report)) if task.connection is not None]
        assert served.connection is not None
        assert served.connection.idle
        assert served.connection.client == wire.transport.local
        assert served.exchanges == ()
        assert told(made) == []
