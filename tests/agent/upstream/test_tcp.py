"""Relaying opaque bytes: half-close in both directions, silence, and who broke it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.upstream.tcp import RelayResult, relay_bytes
from mesh.net.shuttle import Shuttle
from mesh.net.splice import Pipes
from mesh.net.tcp import TcpTransport, Transport
from tests.rig import settle, tcp_pair, tls_pair, until

BIG = bytes(range(256)) * 4096 * 32  # more than four socket buffers hold


class Way:
    """How bytes may go: copied by each direction's task, bulk through pipes too, or small messages by the shuttle."""

    def __init__(self, name: str) -> None:
        self.pipes = Pipes() if name == "spliced" else None
        self.shuttled = name == "shuttled"

    async def relay(self, down: Transport, up: Transport, idle_timeout: float) -> RelayResult:
        async with trio.open_nursery() as nursery:
            shuttle = Shuttle() if self.shuttled else None
            if shuttle is not None:
                nursery.start_soon(shuttle.run)
            result = await relay_bytes(
                down, up, idle_timeout=idle_timeout, clock=trio.current_time, pipes=self.pipes, shuttle=shuttle
            )
            nursery.cancel_scope.cancel()
        return result


WAYS: list[Way] = []


@pytest.fixture(params=["copied", "spliced", "shuttled"], autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    """Every story is told each way; no pipe is left open."""
    made = Way(request.param)
    WAYS[:] = [made]
    yield made
    assert made.pipes is None or made.pipes.open == 0


@asynccontextmanager
async def relay(*, idle_timeout: float = 0.0) -> AsyncIterator[tuple[TcpTransport, TcpTransport, list[RelayResult]]]:
    """(client, server, results): the relay's result is there when both have ended."""
    results: list[RelayResult] = []
    with trio.fail_after(60):
        async with tcp_pair() as (client, down), tcp_pair() as (up, server), trio.open_nursery() as nursery:

            async def run() -> None:
                results.append(await WAYS[0].relay(down, up, idle_timeout))
                down.close()
                up.close()

            nursery.start_soon(run)
            yield client, server, results


async def read_all(transport: TcpTransport) -> bytes:
    parts = []
    while data := await transport.receive():
        parts.append(data)
    return b"".join(parts)


async def test_each_direction_ends_by_itself() -> None:
    async with relay() as (client, server, results):
        await client.send(b"question")
        await client.send_eof()
        assert await read_all(server) == b"question"
        await server.send(b"a longer answer")
        await server.send_eof()
        assert await read_all(client) == b"a longer answer"
    assert (results[0].from_downstream, results[0].from_upstream, results[0].broken_by) == (8, 15, "")


async def test_the_server_may_end_first() -> None:
    async with relay() as (client, server, results):
        await server.send(b"banner")
        await server.send_eof()
        assert await read_all(client) == b"banner"
        await client.send(b"still here")
        await client.send_eof()
        assert await read_all(server) == b"still here"
    assert results[0].broken_by == ""


async def test_a_slow_reader_holds_the_writer_back() -> None:
    async with relay() as (client, server, results), trio.open_nursery() as nursery:
        done = trio.Event()

        async def write() -> None:
            await client.send(BIG)
            done.set()
            await client.send_eof()

        nursery.start_soon(write)
        await settle()
        assert not done.is_set()
        assert await read_all(server) == BIG
        await server.send_eof()
    assert results[0].from_downstream == len(BIG)


async def test_bulk_arrives_whole_both_ways_at_once() -> None:
    heard: dict[str, str] = {}
    async with relay() as (client, server, results), trio.open_nursery() as nursery:

        async def hear(name: str, transport: TcpTransport) -> None:
            heard[name] = hashlib.sha256(await read_all(transport)).hexdigest()

        async def say(transport: TcpTransport, data: bytes) -> None:
            await transport.send(data)
            await transport.send_eof()

        nursery.start_soon(hear, "client", client)
        nursery.start_soon(hear, "server", server)
        nursery.start_soon(say, client, BIG)
        nursery.start_soon(say, server, BIG[::-1])
    assert heard["server"] == hashlib.sha256(BIG).hexdigest()
    assert heard["client"] == hashlib.sha256(BIG[::-1]).hexdigest()
    assert (results[0].from_downstream, results[0].from_upstream) == (len(BIG), len(BIG))


@pytest.mark.parametrize("who", ["downstream", "upstream"])
async def test_a_reset_within_bulk_says_who(who: str) -> None:
    async with relay() as (client, server, results), trio.open_nursery() as nursery:
        leaver, talker = (client, server) if who == "downstream" else (server, client)

        async def talk() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await talker.send(BIG)

        nursery.start_soon(talk)
        for _ in range(100):
            await leaver.receive()
        leaver.reset()
    assert results[0].broken_by == who


async def test_bulk_that_stalls_is_idle(autojump_clock: trio.testing.MockClock) -> None:
    async with relay(idle_timeout=10) as (client, server, results), trio.open_nursery() as nursery:

        async def talk() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await client.send(BIG)

        nursery.start_soon(talk)
        with trio.move_on_after(100):
            await until(lambda: results, seconds=60)
        server.close()
    assert results[0].broken_by == "idle"


async def test_under_tls_on_one_side_bulk_is_copied() -> None:
    async with tls_pair() as (client, down), tcp_pair() as (up, server), trio.open_nursery() as nursery:

        async def say() -> None:
            await client.send(BIG[: 1 << 22])
            await client.send_eof()

        async def answer() -> None:
            assert await read_all(server) == BIG[: 1 << 22]
            await server.send_eof()

        nursery.start_soon(say)
        nursery.start_soon(answer)
        result = await WAYS[0].relay(down, up, 0)
    assert (result.from_downstream, result.broken_by) == (1 << 22, "")


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=20_000)), max_size=12))
def test_whatever_is_said_arrives(pieces: list[tuple[bool, bytes]]) -> None:
    async def main() -> None:
        heard: dict[str, bytes] = {}
        async with relay() as (client, server, _), trio.open_nursery() as nursery:

            async def hear(name: str, transport: TcpTransport) -> None:
                heard[name] = await read_all(transport)

            nursery.start_soon(hear, "client", client)
            nursery.start_soon(hear, "server", server)
            for upwards, data in pieces:
                await (client if upwards else server).send(data)
            await client.send_eof()
            await server.send_eof()
        assert heard["server"] == b"".join(data for upwards, data in pieces if upwards)
        assert heard["client"] == b"".join(data for upwards, data in pieces if not upwards)

    trio.run(main)


@pytest.mark.parametrize("who", ["downstream", "upstream"])
async def test_a_reset_ends_both_and_says_who(who: str) -> None:
    async with relay() as (client, server, results):
        await client.send(b"x")
        await server.receive()
        (client if who == "downstream" else server).reset()
        other = server if who == "downstream" else client
        assert await read_all(other) == b""
    assert results[0].broken_by == who


@pytest.mark.parametrize("who", ["downstream", "upstream"])
async def test_a_peer_that_closes_without_reading_breaks_the_relay(who: str) -> None:
    async with relay() as (client, server, results), trio.open_nursery() as nursery:
        leaver, talker = (client, server) if who == "downstream" else (server, client)

        async def talk() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await talker.send(BIG)

        nursery.start_soon(talk)
        await settle()
        leaver.close()
    assert results[0].broken_by == who


async def test_silence_ends_it(autojump_clock: trio.testing.MockClock) -> None:
    async with relay(idle_timeout=10) as (client, server, results):
        started = trio.current_time()
        for _ in range(4):
            await trio.sleep(8)
            await client.send(b"ping")
            await server.receive()
        assert await client.receive() == b""
        assert trio.current_time() - started == pytest.approx(42, abs=0.6)
    assert results[0].broken_by == "idle"


async def test_without_idle_timeout_silence_is_fine(autojump_clock: trio.testing.MockClock) -> None:
    async with relay() as (client, server, results):
        await trio.sleep(50)
        await client.send_eof()
        await server.send_eof()
    assert results[0].broken_by == ""


async def test_cancellation_passes_through() -> None:
    async with tcp_pair() as (_client, down), tcp_pair() as (up, _server):
        with trio.move_on_after(0.01) as scope:
            await WAYS[0].relay(down, up, 5)
        assert scope.cancelled_caught
