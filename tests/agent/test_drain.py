"""Leaving gracefully: idle connections close, busy ones finish and are told to close, the rest is counted."""

from __future__ import annotations

import trio
import trio.testing

from agent.drain import drain
from mesh import config
from tests.rig import ScriptedUpstream, Wire, mirror, serving, settle, snapshot, tcp_listener, web
from tests.rig import cluster as cluster_of
from tests.rig import endpoint as endpoint_at


def slow(seconds: float) -> ScriptedUpstream:
    """Answers after that time."""

    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        while True:
            request = await wire.message()
            await trio.sleep(seconds)
            await wire.answer(body=request.path)

    return ScriptedUpstream(script)


async def test_idle_connections_close_soon(autojump_clock: trio.testing.MockClock) -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), serving(web(upstream.port)) as served:
        async with served.connect() as used, served.connect() as unused:
            await used.ask()
            await settle()
            started = trio.current_time()
            assert await drain(served.dataplane, 5.0) == 0
            assert trio.current_time() - started < 0.5
            assert await used.rest() == await unused.rest() == b""
        assert served.refused() == {}


async def test_a_busy_connection_finishes_and_hears_that_it_closes(autojump_clock: trio.testing.MockClock) -> None:
    upstream = slow(3.0)
    async with upstream.running(), serving(web(upstream.port)) as served, served.connect() as wire:
        await wire.send(b"GET /slow HTTP/1.1\r\nhost: app\r\n\r\n")
        await settle()
        started = trio.current_time()
        assert await drain(served.dataplane, 5.0) == 0
        assert 2.9 < trio.current_time() - started < 3.5
        answer = await wire.message()
        assert (answer.body, answer.headers[b"connection"]) == (b"/slow", b"close")
        assert await wire.rest() == b""


async def test_what_does_not_finish_is_counted(autojump_clock: trio.testing.MockClock) -> None:
    upstream = slow(60.0)
    async with upstream.running(), serving(web(upstream.port)) as served:
        async with served.connect() as one, served.connect() as two, served.connect():
            for wire in (one, two):
                await wire.send(b"GET /slow HTTP/1.1\r\nhost: app\r\n\r\n")
            await settle()
            started = trio.current_time()
            assert await drain(served.dataplane, 5.0) == 2
            assert trio.current_time() - started == 5.0


async def test_newcomers_are_still_served(autojump_clock: trio.testing.MockClock) -> None:
    upstream = slow(2.0)
    async with upstream.running(), serving(web(upstream.port)) as served, trio.open_nursery() as nursery:
        async with served.connect() as wire:
            await wire.send(b"GET /slow HTTP/1.1\r\nhost: app\r\n\r\n")
            await settle()
            nursery.start_soon(drain, served.dataplane, 30.0)
            await trio.sleep(1)
            async with served.connect() as late:
                answer = await late.ask(b"/late")
                assert (answer.status, answer.headers[b"connection"]) == (200, b"close")


async def test_a_relay_has_until_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    upstream = ScriptedUpstream(mirror)
    async with upstream.running():
        given = snapshot(
            tcp_listener(("app", 1)),
            cluster_of(),
            config.ClusterEndpoints("app", (endpoint_at(upstream.port),)),
        )
        async with serving(given) as served, served.connect() as wire:
            await wire.send(b"x")
            await wire.take(1)
            assert await drain(served.dataplane, 1.0) == 1


async def test_nothing_open_is_nothing_to_wait_for(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(snapshot()) as served:
        assert await drain(served.dataplane, 5.0) == 0
        assert served.dataplane.draining


async def test_a_request_on_its_way_to_an_idle_connection_is_answered(autojump_clock: trio.testing.MockClock) -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), serving(web(upstream.port)) as served, trio.open_nursery() as nursery:
        async with served.connect() as wire:
            await wire.ask()
            nursery.start_soon(drain, served.dataplane, 5.0)
            await settle()
            answer = await wire.ask(b"/late")
            assert (answer.status, answer.headers[b"connection"]) == (200, b"close")
