"""Byte streams over TCP sockets, without a scheduler pass where none is needed.

trio.SocketStream yields to the scheduler after every successful call; on a relay that is half of its cost.
Here a call that can be served at once returns at once, and every 16th such call yields, so one busy
connection cannot starve the others. `connect` and `listen` are the only doors to sockets of the data path.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

import trio
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

from mesh.net.batch import MAX_BYTES, WriteBatch
from mesh.net.readiness import Watch, watch

CHUNK: Final = 65536
"""Bytes of one read at most."""
_DRAINED: Final = 16384  # a read of fewer bytes has most likely emptied the socket; a larger one is tried again
STALLED: Final = 60.0
"""Seconds that a blocked write of the batch may make no progress."""
_BURST: Final = 16  # immediate successes before a checkpoint; 16 x 64 KiB is about a millisecond of work
_LINGER_RESET: Final = struct.pack("ii", 1, 0)
_PEER_FINISHED: Final = frozenset(
    (6, 7, 8, 9, 11)
)  # TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, CLOSING (linux/tcp_states.h)
# What accept(2) passes on of a connection that died before it was accepted, or that a firewall forbids.
_NEWCOMER_FAULTS: Final = frozenset(
    (
        *(errno.ECONNABORTED, errno.EINTR, errno.EPERM, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    )
)


class Transport(ABC):
    """A byte stream with half-close. One reader and one writer at a time.

    Methods raise trio.BrokenResourceError when the peer or the network broke it and
    trio.ClosedResourceError after `close`.
    """

    __slots__ = ("local", "remote")

    local: str
    """Own address, host:port."""
    remote: str
    """Peer's address, host:port."""

    @abstractmethod
    async def receive(self) -> bytes:
        """At least one byte, or b"" at end of stream."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Hand all of `data` to the transport."""

    @abstractmethod
    def send_nowait(self, data: bytes) -> bool:
        """Write what the socket takes at once. False: the rest is kept, and `drain` must end before the next write."""

    @abstractmethod
    async def drain(self) -> None:
        """Write what `send_nowait` kept, as the socket takes it."""

    @abstractmethod
    async def send_eof(self) -> None:
        """Tell the peer that no more is coming."""

    @abstractmethod
    def batch_writes(self, batch: WriteBatch) -> None:
        """Let small writes wait for the end of the scheduler's pass; their errors show at the next call."""

    @abstractmethod
    def unread(self, data: bytes) -> None:
        """Put bytes back: the next `receive` gives them first."""

    @abstractmethod
    def close(self) -> None:
        """Close now; a waiting reader or writer gets ClosedResourceError."""

    @abstractmethod
    def reset(self) -> None:
        """Close with a reset, so that a peer cannot take a truncated message for a whole one."""

    @abstractmethod
    def peer_gone(self) -> bool:
        """True when the peer has closed or reset and nothing is left to read; never blocks."""

    @abstractmethod
    def quiet(self) -> bool:
        """True while nothing at all has arrived unread, neither bytes nor the end; never blocks."""

    @abstractmethod
    def peer_finished(self) -> bool:
        """True when the peer has closed or reset, whatever is still unread; never blocks."""


class TcpTransport(Transport):
    """A connected, non-blocking TCP socket; owns it."""

    __slots__ = (
        "_batch",
        "_burst",
        "_closed",
        "_error",
        "_finished",
        "_out",
        "_pushed",
        "_recv",
        "_send",
        "_watch",
        "on_close",
        "sock",
    )

    def __init__(self, sock: socket.socket, local: str, remote: str) -> None:
        self.sock = sock
        self.local = local
        self.remote = remote
        self._recv = sock.recv
        self._send = sock.send
        self._watch: Watch | None = None
        self._pushed = b""
        self._burst = 0
        self._closed = False
        self._batch: WriteBatch | None = None
        self._out = b""
        self._error: OSError | None = None
        self._finished: trio.Event | None = None
        self.on_close: Callable[[], object] | None = None
        """Told before the socket is closed; for a reader that waits elsewhere than in `receive`."""

    async def receive(self) -> bytes:
        if self._pushed:
            data, self._pushed = self._pushed, b""
            return data
        if self._closed:
            raise trio.ClosedResourceError("closed on this side")
        found = self._watch
        if found is None:
            found = self._watch = watch(self.sock.fileno())
        waited = False
        while True:
            if not found.readable:
                waited = True
                await found.wait()
            try:
                data = self._recv(CHUNK)
            except BlockingIOError:
                found.readable = False
                continue
            except OSError as exc:
                raise self.broken(exc) from exc
            found.readable = len(data) >= _DRAINED or found.ended
            break
        if waited:
            self._burst = 0
            return data
        self._burst += 1
        if self._burst >= _BURST:
            self._burst = 0
            try:
                await checkpoint()
            except BaseException:
                self._pushed = data
                raise
        return data

    async def send(self, data: bytes) -> None:
        if self._batch is not None:
            if self._error is not None:
                raise self.broken(self._error)
            if self._out:
                await self.flush()
            elif len(data) <= MAX_BYTES and not self._closed:
                self._out = data
                self._batch.add(self)
                return
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            raise self.broken(exc) from exc
        if sent == len(data):
            self._burst += 1
            if self._burst >= _BURST:
                self._burst = 0
                await checkpoint()
            return
        self._burst = 0
        with memoryview(data) as view:
            while sent < len(data):
                await wait_writable(self.sock)
                try:
                    sent += self._send(view[sent:])
                except BlockingIOError:
                    continue
                except OSError as exc:
                    raise self.broken(exc) from exc

    def send_nowait(self, data: bytes) -> bool:
        if self._out:
            self._out += data
            return False
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            raise self.broken(exc) from exc
        self._out = data[sent:]
        return not self._out

    async def drain(self) -> None:
        while self._out:
            await wait_writable(self.sock)
            try:
                self._out = self._out[self._send(self._out) :]
            except BlockingIOError:
                continue
            except OSError as exc:
                self._out = b""
                raise self.broken(exc) from exc

    async def send_eof(self) -> None:
        if self._out:
            await self.flush()
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as exc:
            raise self.broken(exc) from exc

    def batch_writes(self, batch: WriteBatch) -> None:
        self._batch = batch

    def flush_nowait(self) -> None:
        """Write what waits for the batch; what the socket does not take is finished by a task of the batch's."""
        if not self._out or self._finished is not None:
            return
        try:
            sent = self._send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            self._error = exc
            self._out = b""
            return
        self._out = self._out[sent:]
        if self._out and self._batch is not None:
            self._finished = trio.Event()
            self._batch.finish_later(self)

    async def finish_write(self) -> None:
        """Wait for room until all is written, or the peer breaks, or nothing moves for a minute."""
        try:
            while self._out:
                with trio.fail_after(STALLED):
                    await wait_writable(self.sock)
                try:
                    self._out = self._out[self._send(self._out) :]
                except BlockingIOError:
                    continue
        except (OSError, trio.ClosedResourceError, trio.TooSlowError) as exc:
            self._error = exc if isinstance(exc, OSError) else OSError(errno.ETIMEDOUT, "the peer reads nothing")
        finally:
            self.end_write()

    def end_write(self) -> None:
        """The task of a blocked write is over, or cannot begin: what is still unwritten breaks the connection."""
        if self._out:
            self._error = self._error or OSError(errno.EPIPE, "the write was not finished")
            self._out = b""
        if self._finished is not None:
            self._finished.set()
            self._finished = None
        if self._closed:
            self._close()

    async def flush(self) -> None:
        """Write what waits for the batch, for a writer that goes past `send`."""
        self.flush_nowait()
        if self._finished is not None:
            await self._finished.wait()
        if self._error is not None:
            raise self.broken(self._error)

    def unread(self, data: bytes) -> None:
        self._pushed = data + self._pushed

    def take_unread(self) -> bytes:
        """The bytes put back, for a reader that goes past `receive`."""
        data, self._pushed = self._pushed, b""
        return data

    async def readable(self) -> None:
        """Wait until a read may not block, for a reader that goes past `receive`."""
        if self._closed:
            raise trio.ClosedResourceError("closed on this side")
        await wait_readable(self.sock)

    async def writable(self) -> None:
        """Wait until a write may not block, for a writer that goes past `send`."""
        if self._closed:
            raise trio.ClosedResourceError("closed on this side")
        await wait_writable(self.sock)

    def close(self) -> None:
        if not self._closed:
            self.flush_nowait()
            self._closed = True
            if self._finished is None:
                self._close()

    def _close(self) -> None:
        if self.sock.fileno() >= 0:
            if self._watch is not None:
                self._watch.close()
            if self.on_close is not None:
                self.on_close()
                self.on_close = None
            notify_closing(self.sock)
            self.sock.close()

    def reset(self) -> None:
        if not self._closed:
            self.flush_nowait()  # what was sent before the reset is seen before it
            self._out = b""
            try:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            except OSError:
                pass  # already disconnected: there is nobody to tell
            self._closed = True
            self._close()  # a write that is being finished ends with it

    def peer_finished(self) -> bool:
        return self._closed or self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _PEER_FINISHED

    def peer_gone(self) -> bool:
        if self._closed:
            return True
        if self._pushed or self._surely_quiet():
            return False
        try:
            return self._recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def quiet(self) -> bool:
        if self._closed or self._pushed:
            return False
        if self._surely_quiet():
            return True
        try:
            self._recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _surely_quiet(self) -> bool:
        found = self._watch
        return found is not None and not found.readable and found.knows

    def broken(self, exc: OSError) -> Exception:
        """What an error of the socket means to a reader or writer."""
        if self._closed or exc.errno == errno.EBADF:
            return trio.ClosedResourceError("closed on this side")
        return trio.BrokenResourceError(exc.strerror or str(exc))


def _name(address: object) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(address)


def _tuned(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class TcpListener:
    """A listening socket. `name` is its address as URLs write it, host:port."""

    __slots__ = ("_closed", "address", "name", "port", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        name = sock.getsockname()
        self.address: str = name[0]
        self.port: int = name[1]
        self.name = _name(name)
        self._closed = False

    async def accept(self) -> TcpTransport:
        """Next connection. Raises trio.ClosedResourceError after close, OSError when descriptors run out."""
        while True:
            try:
                sock, peer = self.sock.accept()
            except BlockingIOError:
                await wait_readable(self.sock)
                continue
            except OSError as exc:
                if self._closed:
                    raise trio.ClosedResourceError("listener closed") from exc
                if exc.errno in _NEWCOMER_FAULTS:
                    continue
                raise
            try:
                return TcpTransport(_tuned(sock), _name(sock.getsockname()), _name(peer))
            except OSError:
                sock.close()  # the peer reset between accept and here

    def close(self) -> None:
        """Stop listening; a waiting `accept` gets ClosedResourceError."""
        if not self._closed:
            self._closed = True
            notify_closing(self.sock)
            self.sock.close()


def listen(address: str, port: int, *, backlog: int = 1024, reuse_port: bool = False) -> TcpListener:
    """Bind and listen. Port 0 lets the kernel choose. Raises OSError (EADDRINUSE, EACCES, EADDRNOTAVAIL)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, port))
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return TcpListener(sock)


async def connect(address: str, port: int) -> TcpTransport:
    """Connect to an IP address. Raises OSError with the system's reason; the deadline is the caller's scope."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        _tuned(sock)
        code = sock.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            await wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        return TcpTransport(sock, _name(sock.getsockname()), _name((address, port)))
    except BaseException:
        notify_closing(sock)
        sock.close()
        raise


async def resolve(host: str) -> tuple[str, ...]:
    """IP addresses of a host name (or the address itself), the system resolver's order. Raises OSError."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    return (host,)
