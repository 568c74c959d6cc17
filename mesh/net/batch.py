"""Small writes of one scheduler pass, handed to the kernel back to back just before the loop waits.

Waking a sleeping peer is the dearest part of a small send, several times the send itself. A proxy that answers
many connections in one pass wakes its peers once when it writes in one go, and once per message when it does not.
Nothing waits longer than the pass: with one connection busy, the write leaves at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    from mesh.net.tcp import TcpTransport

MAX_BYTES: Final = 16 * 1024
"""Larger writes go straight to the socket: their cost is copying, and holding them would cost memory."""
_MAX_WAITING: Final = 32  # writes; about a millisecond of other work that a write may be behind


class Pending(Protocol):
    """Something with a write to make."""

    def flush_nowait(self) -> None: ...


class WriteBatch(trio.abc.Instrument):
    """Install with `trio.lowlevel.add_instrument`; `nursery` owns the rare task that finishes a blocked write."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._waiting: list[Pending] = []

    def add(self, pending: Pending) -> None:
        """`pending` has a write to make."""
        self._waiting.append(pending)
        if len(self._waiting) >= _MAX_WAITING:
            self.flush()

    def flush(self) -> None:
        """Make all writes now."""
        while waiting := self._waiting:  # a flush may lead to another
            self._waiting = []
            for pending in waiting:
                pending.flush_nowait()

    def before_io_wait(self, timeout: float) -> None:
        """The loop has nothing left to run: time to write."""
        if self._waiting:
            self.flush()

    def finish_later(self, transport: TcpTransport) -> None:
        """The socket did not take all of it: a task waits for room."""
        # the loop may be about to sleep without looking at its run queue again, so it is woken
        self._token.run_sync_soon(self._finish, transport)

    def _finish(self, transport: TcpTransport) -> None:
        try:
            self._nursery.start_soon(transport.finish_write, name="blocked write")
        except RuntimeError:  # the nursery has ended meanwhile: nobody is left to wait for room
            transport.end_write()
