"""The one task that carries small messages: what it passes on alone, and what it leaves to the direction's task."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from mesh.net.copy import Flow, copy_stream
from mesh.net.shuttle import Shuttle, make_shuttle
from mesh.net.tcp import CHUNK, TcpTransport
from tests.rig import settle, tcp_pair, until


@asynccontextmanager
async def running() -> AsyncIterator[Shuttle]:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            shuttle = Shuttle()
            nursery.start_soon(shuttle.run)
            yield shuttle
            nursery.cancel_scope.cancel()


class Carried:
    """client -> near, far -> server, and how carrying between them ended."""

    def __init__(self, client: TcpTransport, near: TcpTransport, far: TcpTransport, server: TcpTransport) -> None:
        self.client, self.near, self.far, self.server = client, near, far, server
        self.flow = Flow()
        self.rest: bytes | None = None
        self.error: Exception | None = None

    async def run(self, shuttle: Shuttle) -> None:
        try:
            self.rest = await shuttle.carry(self.near, self.far, self.flow)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self.error = exc

    @property
    def ended(self) -> bool:
        return self.rest is not None or self.error is not None


def fill(sock: socket.socket) -> None:
    """Write until nothing more fits."""
    try:
        while True:
            sock.send(bytes(CHUNK))
    except BlockingIOError:
        pass


@asynccontextmanager
async def carried(shuttle: Shuttle) -> AsyncIterator[Carried]:
    async with tcp_pair() as (client, near), tcp_pair() as (far, server), trio.open_nursery() as nursery:
        made = Carried(client, near, far, server)
        nursery.start_soon(made.run, shuttle)
        await settle()
        yield made
        nursery.cancel_scope.cancel()


async def test_messages_are_passed_on_and_wake_nobody() -> None:
    async with running() as shuttle, carried(shuttle) as one, carried(shuttle) as other:
        for number in range(50):
            for each in (one, other):
                await each.client.send(b"%03d" % number)
                assert await each.server.receive() == b"%03d" % number
        assert not one.ended
        assert not other.ended
        assert one.flow.moved == other.flow.moved == 150


async def test_the_end_of_the_stream_is_left_to_the_task() -> None:
    async with running() as shuttle, carried(shuttle) as each:
        await each.client.send_eof()
        await until(lambda: each.ended)
        assert each.rest == b""
        assert await each.near.receive() == b""


async def test_a_reset_is_an_error_of_reading() -> None:
    async with running() as shuttle, carried(shuttle) as each:
        each.client.reset()
        await until(lambda: each.ended)
        assert isinstance(each.error, trio.BrokenResourceError)
        assert not each.flow.writing


async def test_a_peer_that_is_gone_is_an_error_of_writing() -> None:
    async with running() as shuttle, carried(shuttle) as each:
        each.server.reset()
        await settle()
        await each.client.send(b"x")
        await until(lambda: each.ended)
        assert isinstance(each.error, trio.BrokenResourceError)
        assert each.flow.writing


async def test_a_full_read_is_left_to_the_task() -> None:
    async with running() as shuttle, tcp_pair() as (client, near), tcp_pair() as (far, server):
        near.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * CHUNK)
        await client.send(bytes(CHUNK))
        await settle()
        flow = Flow()
        assert await shuttle.carry(near, far, flow) == b""
        assert flow.moved == CHUNK
        got = 0
        while got < CHUNK:
            got += len(await server.receive())


async def test_what_does_not_fit_is_given_back() -> None:
    async with running() as shuttle, carried(shuttle) as each:
        fill(each.far.sock)
        await each.client.send(b"late")
        await until(lambda: each.ended)
        assert each.rest == b"late"


@pytest.mark.parametrize("side", ["near", "far"])
async def test_closed_on_this_side(side: str) -> None:
    async with running() as shuttle, carried(shuttle) as each:
        getattr(each, side).close()
        await each.client.send(b"x")
        await until(lambda: each.ended)
        assert isinstance(each.error, trio.ClosedResourceError)


async def test_a_closed_transport_is_not_carried() -> None:
    async with running() as shuttle, tcp_pair() as (near, far):
        near.close()
        with pytest.raises(trio.ClosedResourceError):
            await shuttle.carry(near, far, Flow())


async def test_a_descriptor_may_be_used_again() -> None:
    async with running() as shuttle:
        for number in range(5):
            async with carried(shuttle) as each:
                await each.client.send(b"%d" % number)
                assert await each.server.receive() == b"%d" % number
                each.near.close()
                await until(lambda each=each: each.ended)


async def test_a_cancelled_direction_leaves() -> None:
    async with running() as shuttle, tcp_pair() as (client, near), tcp_pair() as (far, server):
        with trio.move_on_after(0.01):
            await shuttle.carry(near, far, Flow())
        await client.send(b"mine")
        assert await near.receive() == b"mine"
        assert server.quiet()


async def test_without_its_task_every_direction_waits_for_itself() -> None:
    async with running() as shuttle:
        pass
    async with tcp_pair() as (client, near), tcp_pair() as (far, server), trio.open_nursery() as nursery:
        nursery.start_soon(copy_stream, near, far, Flow(), None, shuttle)
        await client.send(b"slowly")
        assert await server.receive() == b"slowly"
        await client.send_eof()


async def test_when_its_task_ends_every_direction_goes_on_by_itself() -> None:
    async with tcp_pair() as (client, near), tcp_pair() as (far, server), trio.open_nursery() as nursery:
        async with running() as shuttle:
            nursery.start_soon(copy_stream, near, far, Flow(), None, shuttle)
            await settle()
        await client.send(b"go on")
        assert await server.receive() == b"go on"
        await client.send_eof()


def test_where_there_is_no_epoll_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make_shuttle() is not None
    monkeypatch.delattr("select.epoll")
    assert make_shuttle() is None
