"""One task that carries the small messages of all relays.

Waking a task costs more Python than passing a message on does. So the directions of relays, each a task of its own,
park here, and one task reads and writes for whichever of them have something: a message that was read at once and
written at once wakes nobody. Whatever is more than that (the end, an error, a full socket, bulk) wakes its task.
Linux only (epoll(7), one inside the scheduler's).
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Final

import trio
from trio.lowlevel import notify_closing, wait_readable

from mesh.net.tcp import CHUNK, TcpTransport

if TYPE_CHECKING:
    from mesh.net.copy import Flow

_EVENTS: Final = 64  # of one look
_LOOKS: Final = 8  # before other tasks may run; together about five milliseconds


class _Seat:
    """A direction that is parked. `rest` was read and not written; `error` is why it cannot go on."""

    __slots__ = ("error", "flow", "receive", "rest", "send", "sink", "source", "woken")

    def __init__(self, source: TcpTransport, sink: TcpTransport, flow: Flow) -> None:
        self.source = source
        self.sink = sink
        self.receive = source.sock.recv
        self.send = sink.sock.send
        self.flow = flow
        self.rest = b""
        self.error: Exception | None = None
        self.woken = trio.Event()

    def serve(self) -> bool:
        """Pass on what has arrived; False when the task has to see to it."""
        flow = self.flow
        try:
            data = self.receive(CHUNK)
        except BlockingIOError:
            return True
        except OSError as exc:
            self.error = self.source.broken(exc)
            return False
        if not data:
            return False
        size = len(data)
        flow.moved += size
        try:
            sent = self.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            flow.writing = True
            self.error = self.sink.broken(exc)
            return False
        flow.touch()
        if sent < size:
            self.rest = data[sent:]
            return False
        return size < CHUNK


class Shuttle:
    """Run `run` in a nursery that outlives the relays; those that outlive it wait for themselves."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._seats: dict[int, _Seat] = {}

    async def run(self) -> None:
        """Carry until cancelled."""
        try:
            while True:
                await wait_readable(self._epoll.fileno())
                for _ in range(_LOOKS):
                    if not self._look():
                        break
        finally:
            for descriptor in tuple(self._seats):
                self._leave(descriptor)
            notify_closing(self._epoll.fileno())
            self._epoll.close()

    def _look(self) -> bool:
        events = self._epoll.poll(0, _EVENTS)
        for descriptor, _ in events:
            if not self._seats[descriptor].serve():
                self._leave(descriptor)
        return bool(events)

    async def carry(self, source: TcpTransport, sink: TcpTransport, flow: Flow) -> bytes:
        """Carry messages until the next step is the caller's: write what is returned, then read.

        Raises what the transports raise, as `copy_stream` tells it.
        """
        descriptor = source.sock.fileno()
        if descriptor < 0 or self._epoll.closed:
            await source.readable()
            return b""
        seat = self._seats[descriptor] = _Seat(source, sink, flow)
        self._epoll.register(descriptor, select.EPOLLIN)

        def closing() -> None:
            seat.error = trio.ClosedResourceError("closed on this side")
            self._leave(descriptor)

        source.on_close = closing
        try:
            await seat.woken.wait()
        finally:
            source.on_close = None
            if not seat.woken.is_set():
                self._leave(descriptor)
        if seat.error is not None:
            raise seat.error
        return seat.rest

    def _leave(self, descriptor: int) -> None:
        self._epoll.unregister(descriptor)
        self._seats.pop(descriptor).woken.set()


def make_shuttle() -> Shuttle | None:
    """None where the system has no epoll."""
    return Shuttle() if hasattr(select, "epoll") else None
