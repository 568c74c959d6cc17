"""Moving one direction from socket to socket: order, what is left of batches, and when a pipe is held."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from mesh.net.batch import WriteBatch
from mesh.net.copy import Flow, copy_stream
from mesh.net.splice import Pipes
from mesh.net.tcp import TcpTransport
from tests.rig import settle, tcp_pair, until

BULK = bytes(range(256)) * 4096 * 32  # more than all the buffers on the way hold


class Way:
    """client -> near, far -> server; the copying between them runs while the body does."""

    def __init__(self, client: TcpTransport, near: TcpTransport, far: TcpTransport, server: TcpTransport) -> None:
        self.client, self.near, self.far, self.server = client, near, far, server
        self.touched = 0
        self.flow = Flow(self._touch)
        self.ended = False

    def _touch(self) -> None:
        self.touched += 1

    async def run(self, pipes: Pipes | None) -> None:
        await copy_stream(self.near, self.far, self.flow, pipes)
        self.ended = True

    async def say(self, data: bytes) -> None:
        await self.client.send(data)

    async def hear(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            data += await self.server.receive()
        return bytes(data)


@asynccontextmanager
async def way(pipes: Pipes | None = None, *, unread: bytes = b"") -> AsyncIterator[Way]:
    with trio.fail_after(30):
        async with tcp_pair() as (client, near), tcp_pair() as (far, server), trio.open_nursery() as nursery:
            made = Way(client, near, far, server)
            near.unread(unread)
            nursery.start_soon(made.run, pipes)
            yield made
            nursery.cancel_scope.cancel()


async def test_the_end_of_the_stream_is_passed_on() -> None:
    async with way() as moving:
        await moving.say(b"last words")
        await moving.client.send_eof()
        assert await moving.hear(10) == b"last words"
        assert await moving.server.receive() == b""
        await until(lambda: moving.ended)
        assert (moving.flow.moved, moving.touched) == (10, 1)


async def test_bytes_put_back_go_first() -> None:
    async with way(unread=b"first ") as moving:
        await moving.say(b"second")
        assert await moving.hear(12) == b"first second"
        assert moving.flow.moved == 12


async def test_writes_that_wait_for_the_batch_go_first() -> None:
    async with tcp_pair() as (client, near), tcp_pair() as (far, server), trio.open_nursery() as nursery:
        far.batch_writes(WriteBatch(nursery))
        await far.send(b"first ")
        nursery.start_soon(copy_stream, near, far, Flow())
        await client.send(b"second")
        await client.send_eof()
        heard = b""
        while data := await server.receive():
            heard += data
        assert heard == b"first second"


async def test_small_messages_take_no_pipe() -> None:
    pipes = Pipes()
    async with way(pipes) as moving:
        for _ in range(100):
            await moving.say(b"x" * 1000)
            assert len(await moving.hear(1000)) == 1000
            assert pipes.open == 0


async def test_bulk_takes_a_pipe_and_gives_it_back_when_messages_become_small() -> None:
    pipes = Pipes()
    async with way(pipes) as moving, trio.open_nursery() as nursery:
        nursery.start_soon(moving.say, BULK)
        await until(lambda: pipes.open)
        assert await moving.hear(len(BULK)) == BULK
        for _ in range(10):
            await moving.say(b"small")
            assert await moving.hear(5) == b"small"
        assert pipes.open == 0
        assert moving.flow.moved == len(BULK) + 50


async def test_bulk_gives_its_pipe_back_when_it_pauses(autojump_clock: trio.testing.MockClock) -> None:
    pipes = Pipes()
    async with way(pipes) as moving, trio.open_nursery() as nursery:
        nursery.start_soon(moving.say, BULK)
        await settle()
        assert pipes.open == 1
        assert await moving.hear(len(BULK)) == BULK
        await trio.sleep(2)
        assert pipes.open == 0
        await moving.say(b"and on")
        assert await moving.hear(6) == b"and on"


async def test_cancelled_bulk_leaves_no_pipe() -> None:
    pipes = Pipes()
    async with way(pipes) as moving, trio.open_nursery() as nursery:
        nursery.start_soon(moving.say, BULK)
        await until(lambda: pipes.open)
        nursery.cancel_scope.cancel()
    assert pipes.open == 0


async def test_without_a_pipe_bulk_is_copied_and_the_reason_counted_once() -> None:
    refused: list[str] = []
    pipes = Pipes(lambda where, reason: refused.append(reason), limit=0)
    async with way(pipes) as moving, trio.open_nursery() as nursery:
        nursery.start_soon(moving.say, BULK)
        assert await moving.hear(len(BULK)) == BULK
    assert refused == ["too_many_pipes"]


@pytest.mark.parametrize("pipes", [None, Pipes()])
@pytest.mark.parametrize("closed", ["near", "far"])
async def test_a_transport_closed_on_this_side_ends_it(closed: str, pipes: Pipes | None) -> None:
    async with tcp_pair() as (client, near), tcp_pair() as (far, _), trio.open_nursery() as nursery:

        async def talk() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await client.send(BULK)

        async def copy() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await copy_stream(near, far, Flow(), pipes)
            near.reset()

        if closed == "far":
            nursery.start_soon(talk)
        nursery.start_soon(copy)
        await settle()
        (near if closed == "near" else far).close()
