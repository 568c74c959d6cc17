"""At the connection limit: who waits, who is served first, who is turned away, and what cancellation leaves."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from agent.exchange.faults import ProxyFault
from agent.upstream.cluster import Cluster
from agent.upstream.endpoint import Endpoint
from mesh import config
from tests.agent.upstream.cluster_rig import ask, exchange, living, only
from tests.rig import ScriptedUpstream, Wire, cluster, endpoint, mesh_identity, mirror, settle, until


class Waiters:
    """Tasks that lease one after the other; `order` tells who got a connection, `failed` who did not."""

    def __init__(self, made: Cluster, nursery: trio.Nursery) -> None:
        self.made = made
        self.nursery = nursery
        self.order: list[Any] = []
        self.failed: list[tuple[Any, str]] = []
        self.scopes: dict[Any, trio.CancelScope] = {}

    async def join(self, name: Any, to: Endpoint | None = None) -> None:
        self.nursery.start_soon(self._wait, name, to or only(self.made))
        await settle()

    async def _wait(self, name: Any, to: Endpoint) -> None:
        with trio.CancelScope() as scope:
            self.scopes[name] = scope
            try:
                connection = await self.made.lease(to)
            except ProxyFault as fault:
                self.failed.append((name, fault.flag))
                return
            self.order.append(name)
            await ask(connection)
            self.made.give(connection, self.made.clock())


ONE = {"max_connections": 1}


async def test_waiters_are_served_in_order() -> None:
    upstream = ScriptedUpstream()
    async with living(upstream, breakers=ONE) as made, trio.open_nursery() as nursery:
        held = await made.lease(only(made))
        waiters = Waiters(made, nursery)
        for name in range(5):
            await waiters.join(name)
        assert made.limits.pending.held == made.stats.upstream_rq_pending_active.value == 5
        await ask(held)
        made.give(held, made.clock())
        await until(lambda: len(waiters.order) == 5)
        assert waiters.order == [0, 1, 2, 3, 4]
        assert upstream.accepted == 1
        assert made.stats.upstream_cx_overflow.value == 5


async def test_a_cancelled_waiter_passes_its_turn_on() -> None:
    async with living(breakers=ONE) as made, trio.open_nursery() as nursery:
        held = await made.lease(only(made))
        waiters = Waiters(made, nursery)
        for name in "abc":
            await waiters.join(name)
        waiters.scopes["b"].cancel()
        await settle()
        assert made.limits.pending.held == 2
        waiters.scopes["a"].cancel()  # cancelled and woken in the same pass
        made.discard(held)
        await until(lambda: waiters.order)
        assert waiters.order == ["c"]


async def test_the_queue_overflows() -> None:
    async with living(breakers={"max_connections": 1, "max_pending_requests": 1}) as made:
        async with trio.open_nursery() as nursery:
            held = await made.lease(only(made))
            waiters = Waiters(made, nursery)
            await waiters.join("first")
            await waiters.join("second")
            assert waiters.failed == [("second", "UO")]
            assert made.stats.upstream_rq_pending_overflow.value == 1
            made.discard(held)
        assert waiters.order == ["first"]


async def test_a_newcomer_that_is_quicker_does_not_cost_the_first_its_place() -> None:
    async with living(breakers=ONE) as made, trio.open_nursery() as nursery:
        held = await made.lease(only(made))
        waiters = Waiters(made, nursery)
        for name in "abc":
            await waiters.join(name)
        await ask(held)
        made.give(held, made.clock())  # wakes a …
        barger = made.take(only(made))  # … but this task was quicker
        assert barger is held
        await settle()
        assert waiters.order == []
        await ask(barger)
        made.give(barger, made.clock())
        await until(lambda: len(waiters.order) == 3)
        assert waiters.order == ["a", "b", "c"]


async def test_a_waiter_whose_connect_fails_passes_its_turn_on() -> None:
    async with living(breakers=ONE) as made, trio.open_nursery() as nursery:
        held = await made.lease(only(made))
        dead = Endpoint(endpoint(1))
        dead.pool = type(only(made).pool)()
        waiters = Waiters(made, nursery)
        await waiters.join("dead", dead)
        await waiters.join("next")
        made.discard(held)
        await until(lambda: waiters.order)
        assert (waiters.order, waiters.failed) == (["next"], [("dead", "UF")])


async def test_an_idle_connection_elsewhere_makes_room() -> None:
    one, two = ScriptedUpstream(), ScriptedUpstream()
    async with living(one, two, breakers=ONE) as made:
        first, second = made.endpoints.values()
        await exchange(made, to=first)
        await exchange(made, to=second)
        assert (len(first.pool.idle), len(second.pool.idle)) == (0, 1)
        await until(lambda: (one.open, two.open) == (0, 1))


async def test_a_waiter_takes_the_place_of_a_connection_given_back_elsewhere() -> None:
    async with living(ScriptedUpstream(), ScriptedUpstream(), breakers=ONE) as made, trio.open_nursery() as nursery:
        first, second = made.endpoints.values()
        held = await made.lease(first)
        waiters = Waiters(made, nursery)
        await waiters.join("second", second)
        await ask(held)
        made.give(held, made.clock())
        await until(lambda: waiters.order and second.pool.idle)
        assert first.pool.idle == []


async def test_a_lowered_limit_admits_nobody_beyond_it() -> None:
    async with living(breakers={"max_connections": 3}) as made:
        leased = [await made.lease(only(made)) for _ in range(3)]
        await ask(leased[0])
        made.give(leased.pop(0), made.clock())
        made.reconfigure(cluster(breakers={"max_connections": 1, "max_pending_requests": 0}))
        other = Endpoint(endpoint(1))
        other.pool = type(only(made).pool)()
        with pytest.raises(ProxyFault) as refused:
            await made.lease(other)
        assert refused.value.flag == "UO"
        for each in leased:
            made.discard(each)


async def test_a_raised_limit_lets_the_waiting_in() -> None:
    async with living(breakers=ONE) as made, trio.open_nursery() as nursery:
        held = await made.lease(only(made))
        waiters = Waiters(made, nursery)
        for name in "ab":
            await waiters.join(name)
        made.reconfigure(cluster(breakers={"max_connections": 3}))
        await until(lambda: len(waiters.order) == 2)
        made.discard(held)


async def test_tcp_connections_count_towards_the_limit_and_do_not_wait() -> None:
    async with living(ScriptedUpstream(mirror), breakers=ONE) as made:
        transport = await made.open_tcp(only(made))
        with pytest.raises(ProxyFault) as refused:
            await made.open_tcp(only(made))
        assert refused.value.flag == "UO"
        await transport.send(b"hello")
        assert await transport.receive() == b"hello"
        check = await made.open_check(only(made))
        assert (made.limits.connections.held, only(made).cx_active) == (1, 1)
        check.close()
        made.close_tcp(only(made), transport)


# Cancellation


@pytest.mark.parametrize("secure", [False, True])
async def test_randomly_cancelled_exchanges_leave_nothing_behind(secure: bool) -> None:
    """Whenever an exchange is cancelled, in connecting, handshaking, queueing, sending or reading: no count, lease or
    socket is left over, and the next exchange is served."""

    async def dawdle(upstream: ScriptedUpstream, wire: Wire) -> None:
        while True:
            request = await wire.message()
            await steps(24)
            await wire.answer(body=request.path)

    rng = random.Random(20_000)
    upstream = ScriptedUpstream(dawdle, mesh_identity("server") if secure else None)
    fields: dict[str, Any] = {"identity": mesh_identity("client"), "tls": config.UpstreamTls("istio_mutual")}
    breakers = {"max_connections": 2, "max_pending_requests": 3}
    finished = refused = 0

    async def steps(most: int) -> None:
        """Time in passes of the scheduler: how much happens in it does not depend on the machine."""
        for _ in range(rng.randrange(most)):
            await trio.lowlevel.checkpoint()

    async def one(made: Cluster, number: int) -> None:
        nonlocal finished, refused
        async with trio.open_nursery() as nursery:

            async def cut() -> None:
                await steps(60)
                nursery.cancel_scope.cancel()

            nursery.start_soon(cut)
            try:
                await exchange(made, b"/%d" % number)
                finished += 1
            except ProxyFault as fault:
                refused += fault.flag == "UO"
            nursery.cancel_scope.cancel()

    async with living(upstream, breakers=breakers, **(fields if secure else {})) as made:
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(one, made, number)
                await steps(7)
        assert min(finished, refused, 300 - finished - refused) > 5
        await until(lambda: upstream.open == len(only(made).pool.idle))
        assert await exchange(made, b"/after") == b"/after"
