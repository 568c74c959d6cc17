"""Pipes in the kernel, through which bytes go from socket to socket without passing through this process.

Linux only (splice(2)). A pipe costs two descriptors and the kernel's memory for what is in it, so an agent has few;
who gets none copies as before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Final

from mesh.net.tcp import TcpTransport

CAPACITY: Final = 1 << 20
"""Bytes that a pipe holds. With the kernel's 64 KiB splicing gains nothing over copying (docs/performance.md)."""
_LIMIT: Final = 32  # 64 descriptors; and the kernel grants an ordinary user 64 MiB of pipes in all


class Pipe:
    """A pipe between two sockets; `held` bytes are in it. Close it, whatever happens: what it holds is lost then."""

    __slots__ = ("_close", "_read", "_write", "held")

    def __init__(self, read: int, write: int, close: Callable[[], None]) -> None:
        self._read = read
        self._write = write
        self._close = close
        self.held = 0

    def fill(self, source: TcpTransport) -> int:
        """Take what has arrived, 0 at end of stream. Raises OSError; BlockingIOError when nothing has arrived."""
        if sys.platform != "linux":
            raise NotImplementedError
        moved = os.splice(source.sock.fileno(), self._write, CAPACITY, flags=os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE)
        self.held += moved
        return moved

    def drain(self, sink: TcpTransport) -> None:
        """Give as much as the socket takes. Raises OSError; BlockingIOError when it takes nothing."""
        if sys.platform != "linux":
            raise NotImplementedError
        flags = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE
        self.held -= os.splice(self._read, sink.sock.fileno(), self.held, flags=flags)

    def __enter__(self) -> Pipe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._read)
        os.close(self._write)
        self._close()


class Pipes:
    """An agent's pipes. `refused(where, reason)` counts why there was none."""

    def __init__(self, refused: Callable[[str, str], object] = lambda where, reason: None, limit: int = _LIMIT) -> None:
        self.open = 0
        self._refused = refused
        self._limit = limit

    def take(self) -> Pipe | None:
        """A new pipe of full capacity; None, and counted, where the system or the limit gives none."""
        if sys.platform != "linux":
            return None
        if self.open >= self._limit:
            self._refused("splice", "too_many_pipes")
            return None
        import fcntl

        try:
            read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._refused("splice", "no_pipe")
            return None
        try:
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, CAPACITY)
        except OSError:
            os.close(read)
            os.close(write)
            self._refused("splice", "pipe_too_small")
            return None
        self.open += 1
        return Pipe(read, write, self._give_back)

    def _give_back(self) -> None:
        self.open -= 1
