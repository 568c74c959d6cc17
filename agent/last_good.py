"""The last good resources on disk, so that an agent can start while the pilot is away.

The file is one full push: it is read back through the same checks as a push from the pilot. 0600, replaced whole,
written in a thread, and not more than once a second however fast endpoints change.
"""

from __future__ import annotations

from pathlib import Path

import trio

from mesh.feed.log import Log
from mesh.feed.message import FeedError, Push, decode_to_agent, encode
from mesh.private_file import write_private

_PAUSE = 1.0


class LastGood:
    """One agent's file. Of several workers that start from it, one `writes`."""

    def __init__(self, path: Path, log: Log, *, writes: bool = True) -> None:
        self._path = path
        self._log = log
        self._writes = writes
        self._pending: Push | None = None
        self._wake = trio.Event()
        self.saved = 0
        self.failures = 0

    async def load(self) -> Push | None:
        """What was last kept; None, and a line in the log, when there is nothing usable."""
        try:
            data = await trio.to_thread.run_sync(self._path.read_bytes)
            push = decode_to_agent(data)
        except FileNotFoundError:
            return None
        except (OSError, FeedError) as exc:
            self.failures += 1
            self._log.warning("the last good snapshot cannot be used", path=str(self._path), reason=str(exc))
            return None
        return push if isinstance(push, Push) else None

    def note(self, push: Push) -> None:
        """This is to be kept; only the newest is written."""
        if self._writes:
            self._pending = push
            self._wake.set()

    async def keep(self) -> None:
        """Write what is noted, until cancelled; what is noted then is written before the end."""
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                await self._write()
                await trio.sleep(_PAUSE)
        finally:
            await self._write()

    async def _write(self) -> None:
        push, self._pending = self._pending, None
        if push is None:
            return
        try:
            with trio.CancelScope(shield=True):  # begun is done: what was taken from `_pending` must not get lost
                await trio.to_thread.run_sync(write_private, self._path, encode(push))
            self.saved += 1
        except OSError as exc:
            self.failures += 1
            self._log.warning("the last good snapshot cannot be written", path=str(self._path), reason=str(exc))
