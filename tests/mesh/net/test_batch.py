"""When batched writes leave: at the end of a pass, when enough of them wait, even when a socket is full."""

from __future__ import annotations

import pytest
import trio

from mesh.net.batch import MAX_BYTES, WriteBatch
from mesh.net.tcp import TcpTransport
from tests.rig import tcp_pair


def arrived(transport: TcpTransport) -> bytes:
    """What the kernel holds for the peer now."""
    try:
        return transport.sock.recv(65536)
    except BlockingIOError:
        return b""


async def test_a_write_leaves_when_the_loop_has_nothing_else_to_do() -> None:
    async with trio.open_nursery() as nursery, tcp_pair() as (client, server):
        batch = WriteBatch(nursery)
        trio.lowlevel.add_instrument(batch)
        client.batch_writes(batch)
        await client.send(b"hello")
        assert arrived(server) == b""
        assert await server.receive() == b"hello"
        trio.lowlevel.remove_instrument(batch)


async def test_one_flush_takes_all_that_wait() -> None:
    async with trio.open_nursery() as nursery, tcp_pair() as one, tcp_pair() as two:
        batch = WriteBatch(nursery)
        for client, _ in (one, two):
            client.batch_writes(batch)
            await client.send(b"hello")
        batch.flush()
        assert [arrived(server) for _, server in (one, two)] == [b"hello", b"hello"]


async def test_a_full_batch_does_not_wait() -> None:
    async with trio.open_nursery() as nursery, tcp_pair() as (client, server):
        batch = WriteBatch(nursery)
        client.batch_writes(batch)
        await client.send(b"hello")
        turns = 1
        while not arrived(server):
            batch.add(client)
            turns += 1
            assert turns < 100
        assert turns > 2


async def test_a_large_write_goes_straight_out() -> None:
    async with trio.open_nursery() as nursery, tcp_pair() as (client, server):
        client.batch_writes(WriteBatch(nursery))
        await client.send(b"x" * (MAX_BYTES + 1))
        assert len(arrived(server)) == MAX_BYTES + 1


async def test_order_holds_between_batched_and_direct_writes() -> None:
    async with trio.open_nursery() as nursery, tcp_pair() as (client, server):
        client.batch_writes(WriteBatch(nursery))
        await client.send(b"a")
        await client.send(b"b" * (MAX_BYTES + 1))
        await client.send(b"c")
        client.close()
        got = b""
        while data := await server.receive():
            got += data
        assert got == b"a" + b"b" * (MAX_BYTES + 1) + b"c"


async def test_what_cannot_be_finished_any_more_breaks_its_connection_alone() -> None:
    async with trio.open_nursery() as nursery:
        batch = WriteBatch(nursery)
    async with tcp_pair() as (client, _server):
        client.batch_writes(batch)
        while True:
            try:
                client.sock.send(b"x" * 65536)
            except BlockingIOError:
                break
        await client.send(b"tail")
        batch.flush()
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await client.send(b"more")
