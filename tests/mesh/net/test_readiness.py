"""Waiting for bytes through an epoll of our own: who is woken, what is known without asking, and what ends a wait."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from mesh.net import readiness
from mesh.net.readiness import Readiness, watch
from mesh.net.tcp import TcpTransport
from tests.rig import tcp_pair


@asynccontextmanager
async def running() -> AsyncIterator[Readiness]:
    """A readiness that serves this loop."""
    made = Readiness()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        await trio.testing.wait_all_tasks_blocked()
        yield made
        nursery.cancel_scope.cancel()


async def drained(transport: TcpTransport, peer: TcpTransport) -> None:
    """Bring `transport` where all that came has been read, so that it knows its socket to be empty."""
    await peer.send(b"x")
    assert await transport.receive() == b"x"


async def a_pass() -> None:
    """Let the loop look at its sockets."""
    await trio.testing.wait_all_tasks_blocked()


def waiting_readers() -> int:
    """Tasks that wait for a descriptor by Trio's means."""
    return trio.lowlevel.current_statistics().io_statistics.tasks_waiting_read  # type: ignore[union-attr]


async def test_bytes_wake_a_waiter_without_a_wait_of_trios() -> None:
    async with running(), tcp_pair() as (client, server), trio.open_nursery() as nursery:
        got: list[bytes] = []

        async def read() -> None:
            while data := await server.receive():
                got.append(data)

        before = waiting_readers()
        nursery.start_soon(read)
        for expected in (b"one", b"two", b"three"):
            await a_pass()
            assert waiting_readers() == before
            await client.send(expected)
        client.close()
        await a_pass()
        assert got == [b"one", b"two", b"three"]


async def test_what_came_before_the_first_wait_is_read() -> None:
    async with running(), tcp_pair() as (client, server):
        await client.send(b"early")
        with trio.fail_after(5):
            assert await server.receive() == b"early"


async def test_a_large_message_is_read_to_its_last_byte() -> None:
    async with running(), tcp_pair() as (client, server), trio.open_nursery() as nursery:
        sent = bytes(range(256)) * 8192
        nursery.start_soon(client.send, sent)
        got = bytearray()
        with trio.fail_after(10):
            while len(got) < len(sent):
                got += await server.receive()
        assert got == sent


async def test_the_end_that_came_with_the_last_bytes_is_not_missed() -> None:
    async with running(), tcp_pair() as (client, server), trio.open_nursery() as nursery:
        got: list[bytes] = []

        async def read() -> None:
            while data := await server.receive():
                got.append(data)
            got.append(await server.receive())

        nursery.start_soon(read)
        await a_pass()
        client.sock.send(b"bye")
        client.sock.shutdown(socket.SHUT_WR)
        with trio.fail_after(5):
            await a_pass()
        assert got == [b"bye", b""]


async def test_a_reset_ends_a_wait() -> None:
    async with running(), tcp_pair() as (client, server), trio.open_nursery() as nursery:
        await drained(server, client)

        async def read() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await server.receive()

        nursery.start_soon(read)
        await a_pass()
        client.reset()


async def test_closing_ends_a_wait() -> None:
    async with running(), tcp_pair() as (client, server), trio.open_nursery() as nursery:
        await drained(server, client)

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await server.receive()

        nursery.start_soon(read)
        await a_pass()
        server.close()


async def test_a_cancelled_wait_loses_nothing() -> None:
    async with running(), tcp_pair() as (client, server):
        await drained(server, client)
        with trio.move_on_after(0) as scope:
            await server.receive()
        assert scope.cancelled_caught
        await client.send(b"later")
        with trio.fail_after(5):
            assert await server.receive() == b"later"


async def test_a_wait_that_is_cancelled_as_bytes_come_loses_nothing() -> None:
    async with running() as made, tcp_pair() as (client, server), trio.open_nursery() as nursery:
        await drained(server, client)
        scope = trio.CancelScope()

        async def read() -> None:
            with scope:
                server.unread(await server.receive())

        nursery.start_soon(read)
        await a_pass()
        client.sock.send(b"now")
        made.after_io_wait(0)  # woken, and cancelled before it runs
        scope.cancel()
        await a_pass()
        with trio.fail_after(5):
            assert await server.receive() == b"now"


async def test_two_readers_are_a_mistake() -> None:
    async with running(), tcp_pair() as (client, server), trio.open_nursery() as nursery:
        await drained(server, client)
        nursery.start_soon(server.receive)
        await a_pass()
        with pytest.raises(trio.BusyResourceError):
            await server.receive()
        nursery.cancel_scope.cancel()


async def test_a_number_that_comes_back_is_another_socket() -> None:
    async with running():
        async with tcp_pair() as (client, server):
            await drained(server, client)
            number = server.sock.fileno()
            await client.send(b"nobody reads this")
            server.close()
        numbers = set()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                client, server = await stack.enter_async_context(tcp_pair())
                numbers |= {client.sock.fileno(), server.sock.fileno()}
                await drained(server, client)
                await drained(client, server)
                assert server.quiet()
                assert client.quiet()
        assert number in numbers, "no number came back: the test proves nothing"


async def test_quiet_is_known_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(), tcp_pair() as (client, server):
        await drained(server, client)
        peeks = 0
        receive = server.sock.recv

        def counted(size: int, flags: int = 0) -> bytes:
            nonlocal peeks
            peeks += 1
            return receive(size, flags)

        monkeypatch.setattr(server, "_recv", counted)
        assert server.quiet()
        assert not server.peer_gone()
        assert peeks == 0
        await client.send(b"unasked")
        await a_pass()
        assert not server.quiet()
        assert not server.peer_gone()
        assert peeks == 2


async def test_the_end_is_not_quiet() -> None:
    async with running(), tcp_pair() as (client, server):
        await drained(server, client)
        client.close()
        await a_pass()
        assert not server.quiet()
        assert server.peer_gone()


async def test_more_events_than_one_pass_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_MOST", 2)
    async with running() as made, contextlib.AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(tcp_pair()) for _ in range(5)]
        for client, server in pairs:
            await drained(server, client)
        for client, _ in pairs:
            client.sock.send(b"at once")
        made.after_io_wait(0)
        assert made.behind
        assert not any(server.quiet() for _, server in pairs), "what is not known is asked for"
        with trio.fail_after(5):
            for _, server in pairs:
                assert await server.receive() == b"at once"


async def test_waits_go_on_when_the_readiness_ends() -> None:
    async with tcp_pair() as (client, server), trio.open_nursery() as nursery:
        got: list[bytes] = []

        async def read() -> None:
            got.append(await server.receive())
            got.append(await server.receive())

        async with running():
            await drained(server, client)
            nursery.start_soon(read)
            await a_pass()
        await a_pass()
        for data in (b"one", b"two"):
            await client.send(data)
            await a_pass()
        assert got == [b"one", b"two"]


async def test_without_a_readiness_trio_waits() -> None:
    async with tcp_pair() as (client, server), trio.open_nursery() as nursery:
        await drained(server, client)
        before = waiting_readers()
        nursery.start_soon(server.receive)
        await a_pass()
        assert waiting_readers() == before + 1
        await client.send(b"bye")


async def test_what_the_kernel_will_not_watch_is_left_to_trio(tmp_path: Path) -> None:
    async with running():
        with (tmp_path / "file").open("w") as file:
            found = watch(file.fileno())
            assert not found.knows
            found.close()
            with pytest.raises(trio.ClosedResourceError):
                await found.wait()
