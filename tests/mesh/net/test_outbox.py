"""The writing side of a shared connection: when bytes leave, in which order, and what becomes of a dead peer."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mesh.net.batch import WriteBatch
from mesh.net.outbox import Outbox
from mesh.net.tcp import TcpTransport
from tests.rig import tcp_pair

LARGE = 16 << 20  # more than two sockets take in


class FakeSource:
    """What is queued, and the calls of `flushed`."""

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()
        self.flushes: list[bool] = []
        self.error: Exception | None = None

    def pull(self, limit: int) -> bytes:
        if self.error is not None:
            raise self.error
        if not self.queue:
            return b""
        data = self.queue.popleft()
        if len(data) > limit:
            self.queue.appendleft(data[limit:])
        return data[:limit]


class Rig:
    def __init__(self, client: TcpTransport, server: TcpTransport, nursery: trio.Nursery, batch: bool) -> None:
        self.client = client
        self.server = server
        self.source = FakeSource()
        self.batch = WriteBatch(nursery) if batch else None
        self.outbox = Outbox(client, self.source.pull, nursery, self.batch, self.source.flushes.append)

    def arrived(self) -> bytes:
        """What the kernel holds for the peer now."""
        try:
            return self.server.sock.recv(65536)
        except BlockingIOError:
            return b""

    async def received(self, size: int) -> bytes:
        got = bytearray()
        with trio.fail_after(20):
            while len(got) < size:
                got += await self.server.receive()
        return bytes(got)


@asynccontextmanager
async def rig(*, batch: bool = False) -> AsyncIterator[Rig]:
    async with tcp_pair() as (client, server), trio.open_nursery() as nursery:
        yield Rig(client, server, nursery, batch)
        nursery.cancel_scope.cancel()


async def test_without_a_batch_a_kick_writes_at_once() -> None:
    async with rig() as made:
        made.source.queue += [b"one", b"two"]
        made.outbox.kick()
        assert made.arrived() == b"onetwo"
        assert made.source.flushes == [True]


async def test_kicks_of_one_pass_are_one_write() -> None:
    async with rig(batch=True) as made:
        assert made.batch is not None
        for piece in (b"one", b"two", b"three"):
            made.source.queue.append(piece)
            made.outbox.kick()
        assert made.arrived() == b""
        made.batch.flush()
        assert made.arrived() == b"onetwothree"
        assert made.source.flushes == [False], "told once, and that tasks must not be woken directly"
        made.source.queue.append(b"four")
        made.outbox.kick()
        made.batch.flush()
        assert made.arrived() == b"four"


async def test_a_flush_does_not_wait_for_the_batch() -> None:
    async with rig(batch=True) as made:
        made.source.queue.append(b"now")
        made.outbox.flush()
        assert made.arrived() == b"now"
        assert made.source.flushes == [True]


async def test_a_write_that_the_socket_does_not_take_is_finished_by_a_task() -> None:
    async with rig() as made:
        body = bytes(range(256)) * (LARGE // 256)
        made.source.queue.append(body)
        made.outbox.flush()
        assert made.source.queue, "the socket took it all; the test needs more"
        made.source.queue.append(b"tail")
        made.outbox.flush()  # while the task is at it
        assert await made.received(LARGE + 4) == body + b"tail"
        await wait_all_tasks_blocked()
        made.source.queue.append(b"again")
        made.outbox.kick()
        assert made.arrived() == b"again"
        assert not made.outbox.broken
        assert set(made.source.flushes) == {True}


async def test_the_batch_may_leave_a_write_to_a_task_too() -> None:
    async with rig(batch=True) as made:
        assert made.batch is not None
        made.source.queue.append(b"x" * LARGE)
        made.outbox.kick()
        made.batch.flush()
        made.source.queue.append(b"tail")
        made.outbox.kick()
        assert (await made.received(LARGE + 4))[-5:] == b"xtail"


def stop(made: Rig) -> None:
    made.server.reset()


def close(made: Rig) -> None:
    made.client.close()


@pytest.mark.parametrize("end", [stop, close])
async def test_a_peer_that_is_gone_breaks_the_outbox_and_nothing_else(end: Callable[[Rig], None]) -> None:
    async with rig() as made:
        end(made)
        with trio.fail_after(5):
            while not made.outbox.broken:  # the first write may meet a socket that does not know yet
                made.source.queue.append(b"x")
                made.outbox.flush()
                await trio.lowlevel.checkpoint()
        assert made.outbox.error is None
        made.source.queue.append(b"more")
        made.outbox.kick()
        assert made.source.queue, "nothing is pulled for nobody"


async def test_a_peer_that_goes_while_a_write_is_blocked() -> None:
    async with rig() as made:
        made.source.queue.append(b"x" * LARGE)
        made.outbox.flush()
        await wait_all_tasks_blocked()
        made.server.reset()
        await wait_all_tasks_blocked()
        with trio.fail_after(5):
            while not made.outbox.broken:
                await trio.lowlevel.checkpoint()
        assert made.source.flushes[-1], "who waits for room is told"


async def test_a_bug_in_pull_resets_the_connection() -> None:
    async with rig(batch=True) as made:
        assert made.batch is not None
        made.source.error = bug = ValueError("bug")
        made.outbox.kick()
        made.batch.flush()
        assert made.outbox.broken
        assert made.outbox.error is bug
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await made.server.receive()


async def test_so_does_a_bug_while_a_task_finishes_a_write() -> None:
    async with rig() as made:
        made.source.queue.append(b"x" * LARGE)
        made.outbox.flush()
        await wait_all_tasks_blocked()
        made.source.error = bug = ValueError("bug")
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await made.received(LARGE)
        assert made.outbox.broken
        assert made.outbox.error is bug


async def test_finish_writes_all_that_is_left_however_long_it_takes() -> None:
    async with tcp_pair() as (client, server):
        async with trio.open_nursery() as writers:
            made = Rig(client, server, writers, batch=False)
            made.source.queue.append(b"x" * LARGE)
            made.outbox.flush()
            await wait_all_tasks_blocked()
            writers.cancel_scope.cancel()
        made.source.queue.append(b"goodbye")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.outbox.finish)
            assert (await made.received(LARGE + 7))[-8:] == b"xgoodbye"


async def test_finish_tells_of_a_peer_that_is_gone() -> None:
    async with rig() as made:
        made.source.queue.append(b"x" * LARGE)
        made.server.reset()
        with pytest.raises(trio.BrokenResourceError):
            await made.outbox.finish()


async def test_a_write_blocked_after_the_connection_s_end_breaks_it_quietly() -> None:
    async with tcp_pair() as (client, server):
        async with trio.open_nursery() as nursery:
            made = Rig(client, server, nursery, batch=False)
        made.source.queue.append(b"x" * LARGE)
        made.outbox.flush()
        await wait_all_tasks_blocked()
        assert made.outbox.broken
