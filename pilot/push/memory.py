"""The feed without a network: a pair of transports over memory channels, for a pilot and an agent in one process."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from mesh.feed.transport import FeedClosed, Transport
from pilot.push.session import Caller, Fleet, serve_session


class MemoryTransport:
    """One end of the pair."""

    def __init__(self, out: trio.MemorySendChannel[bytes], into: trio.MemoryReceiveChannel[bytes]) -> None:
        self._out = out
        self._into = into

    async def send(self, data: bytes) -> None:
        try:
            await self._out.send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise FeedClosed("the other end has closed", clean=True) from None

    async def receive(self) -> bytes:
        try:
            return await self._into.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise FeedClosed("the other end has closed", clean=True) from None

    async def ping(self) -> None:
        await trio.lowlevel.checkpoint()  # one process: it is alive if we are

    async def close(self) -> None:
        self._out.close()
        self._into.close()
        await trio.lowlevel.checkpoint()


def memory_pair() -> tuple[MemoryTransport, MemoryTransport]:
    """Two connected ends. Unbounded: the session protocol allows few messages in flight."""
    send_a, receive_a = trio.open_memory_channel[bytes](math.inf)
    send_b, receive_b = trio.open_memory_channel[bytes](math.inf)
    return MemoryTransport(send_a, receive_b), MemoryTransport(send_b, receive_a)


class MemoryFeed:
    """The pilot's side of in-process sessions; `connect` is what an agent's feed takes."""

    def __init__(self, fleet: Fleet, nursery: trio.Nursery) -> None:
        self._fleet = fleet
        self._nursery = nursery
        self._count = 0

    def connect(self) -> AbstractAsyncContextManager[Transport]:
        """Open a session."""
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Transport]:
        ours, theirs = memory_pair()
        self._count += 1
        caller = Caller("memory", "in-process")
        self._nursery.start_soon(serve_session, ours, caller, self._fleet, f"memory-{self._count}")
        try:
            yield theirs
        finally:
            with trio.CancelScope(shield=True):
                await theirs.close()
