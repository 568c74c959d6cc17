"""The access-log writer: lines are gathered and written in batches, never one by one.

Lines come from access_log_format.py. Workers of one agent share the file: each batch is whole lines, appended in one
write. Writing never blocks the proxy: what a slow reader of a pipe does not take
stays in a bounded buffer, and when that is full, new lines are dropped and counted.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable
from typing import Final

import trio

from agent.exchange.access_log_format import AccessLog
from mesh.errors import ConfigError

__all__ = ["AccessLog", "AccessLogWriter"]

FLUSH_INTERVAL: Final = 1.0
"""Seconds, Envoy's."""
FLUSH_BYTES: Final = 64 * 1024
MAX_BUFFER_BYTES: Final = 4 * 1024 * 1024
# A writable pipe takes this much without blocking and in one piece (PIPE_BUF), whoever else writes to it.
_PIPE_CHUNK = 4096


class AccessLogWriter:
    """Appends lines to a file (a path, created 0640) or to an open descriptor (pipe, terminal), which it leaves open.

    `dropped(reason)` is called for each lost line: `buffer_full` or `write_failed`.
    """

    def __init__(
        self, target: str | int, dropped: Callable[[str], None], *, max_buffer_bytes: int = MAX_BUFFER_BYTES
    ) -> None:
        """Raises ConfigError when the path cannot be opened."""
        self._path = {"/dev/stdout": 1, "/dev/stderr": 2}.get(target, target) if isinstance(target, str) else target
        self._dropped = dropped
        self._max_buffer_bytes = max_buffer_bytes
        self._lines: list[bytes] = []
        self._size = 0
        self._owned = isinstance(self._path, str)
        self._fd = self._open()

    def _open(self) -> int:
        if isinstance(self._path, int):
            self._fd = self._path
        else:
            try:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            except OSError as exc:
                raise ConfigError(
                    f"the access log {self._path} cannot be opened: {exc.strerror}",
                    path="access_log_file",
                    remedy="name a file in a folder that exists and that this user may write to",
                ) from exc
        self._chunked = not stat.S_ISREG(os.fstat(self._fd).st_mode)
        return self._fd

    def write(self, line: bytes) -> None:
        """Take one line, its newline included."""
        size = self._size + len(line)
        if size > self._max_buffer_bytes:
            self._dropped("buffer_full")
            return
        self._lines.append(line)
        self._size = size
        if size >= FLUSH_BYTES and size - len(line) < FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what the descriptor takes at once; the rest waits for the next flush."""
        if not self._lines:
            return
        data = b"".join(self._lines)
        try:
            written = self._write(data)
        except OSError:
            # Disk full, reader gone: these lines are lost, the proxy goes on.
            for _ in range(data.count(b"\n")):
                self._dropped("write_failed")
            written = len(data)
        rest = data[written:]
        self._lines = [rest] if rest else []
        self._size = len(rest)

    def _write(self, data: bytes) -> int:
        if not self._chunked:
            return os.write(self._fd, data)
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        written = 0
        while written < len(data) and poll.poll(0):
            # Whole lines as far as they fit: other workers write to the same pipe in between.
            end = data.rfind(b"\n", written, written + _PIPE_CHUNK) + 1 or written + _PIPE_CHUNK
            try:
                written += os.write(self._fd, data[written:end])
            except BlockingIOError:
                break
        return written

    def reopen(self) -> None:
        """Flush, then open the path anew (after a rotation). Raises ConfigError, and goes on with the old file."""
        self.flush()
        if self._owned:
            old = self._fd
            self._open()
            os.close(old)

    async def run(self) -> None:
        """Flush every second; at cancellation flush a last time. Run it as a task until the proxy has drained."""
        try:
            while True:
                await trio.sleep(FLUSH_INTERVAL)
                self.flush()
        finally:
            self.flush()

    def close(self) -> None:
        """Flush, and close the file if it was opened here; lines that still cannot be written are dropped."""
        self.flush()
        for _ in range(b"".join(self._lines).count(b"\n")):
            self._dropped("buffer_full")
        self._lines.clear()
        self._size = 0
        if self._owned:
            os.close(self._fd)
            self._owned = False
