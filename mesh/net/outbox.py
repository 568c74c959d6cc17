"""The writing side of a connection that many tasks feed: what they have queued leaves in as few writes as can be.

Nobody waits for a write that the socket takes at once. Where it takes no more, one task goes on until nothing is left;
a write is never cut in two, whoever is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from mesh.net.batch import WriteBatch
from mesh.net.tcp import Transport

_PIECE: Final = 64 * 1024


class Outbox:
    """Writes what `pull(limit)` gives (b"": nothing now) to `transport`, which it does not own.

    `flushed(now)` is called after every flush; `now` False: called between two passes of the scheduler, when tasks
    must not be woken directly. `kicked` is True while that call is due. `broken` turns True when the peer can no longer
    be written to; its reader learns why. `error` is what `pull` raised, a bug: the connection is reset, and its reader
    should tell.
    """

    __slots__ = (
        "_batch",
        "_blocked",
        "_flushed",
        "_nursery",
        "_pull",
        "_token",
        "_transport",
        "_unblocked",
        "broken",
        "error",
        "kicked",
    )

    def __init__(
        self,
        transport: Transport,
        pull: Callable[[int], bytes],
        nursery: trio.Nursery,
        batch: WriteBatch | None,
        flushed: Callable[[bool], None],
    ) -> None:
        self._transport = transport
        self._pull = pull
        self._nursery = nursery
        self._batch = batch
        self._flushed = flushed
        self._token = trio.lowlevel.current_trio_token()
        self.kicked = False
        self._blocked = False
        self._unblocked: trio.Event
        self.broken = False
        self.error: Exception | None = None

    def kick(self) -> None:
        """Something was queued: write it when this pass of the scheduler is over."""
        if self._batch is None:
            self.flush()
        elif not self.kicked and not self._blocked:
            self.kicked = True
            self._batch.add(self)

    def flush(self) -> None:
        """Write now what the socket takes."""
        self._write()
        self._flushed(True)

    def flush_nowait(self) -> None:
        """The batch's call, between two passes."""
        self.kicked = False
        self._write()
        self._flushed(False)

    def _write(self) -> None:
        if self._blocked or self.broken:
            return
        try:
            while data := self._pull(_PIECE):
                if not self._transport.send_nowait(data):
                    self._blocked = True
                    self._unblocked = trio.Event()
                    # the loop may be about to sleep without looking at its run queue again, so it is woken
                    self._token.run_sync_soon(self._start)
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.broken = True
        except Exception as exc:
            self._give_up(exc)

    def _give_up(self, bug: Exception) -> None:
        """Nobody could catch it: between two passes it would stop all writes, in a task all connections."""
        self.broken = True
        self.error = bug
        self._transport.reset()

    def _start(self) -> None:
        try:
            self._nursery.start_soon(self._finish, name="blocked write")
        except RuntimeError:  # the connection has ended meanwhile
            self.broken = True
            self._unblocked.set()

    async def _finish(self) -> None:
        try:
            while True:
                await self._transport.drain()
                self._flushed(True)
                data = self._pull(_PIECE)
                if not data:
                    break
                self._transport.send_nowait(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.broken = True
        except Exception as exc:
            self._give_up(exc)
        finally:
            self._blocked = False
            self._unblocked.set()
        self._flushed(True)

    async def finish(self) -> None:
        """Write all that is queued, waiting as long as it takes; nothing may be kicked any more.

        Raises trio.BrokenResourceError, trio.ClosedResourceError.
        """
        if self._blocked:
            await self._unblocked.wait()
        self._blocked = True
        await self._transport.drain()
        while data := self._pull(_PIECE):
            self._transport.send_nowait(data)
            await self._transport.drain()
