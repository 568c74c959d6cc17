"""Move bytes from one TCP socket to another until the end of the stream, on the shortest way there is.

Small messages are carried by the task that all relays share (mesh/net/shuttle.py), or else copied in one loop, without
the coroutines of `receive` and `send` in between. A stream that fills read after read is spliced within the kernel
(mesh/net/splice.py) until its reads become small, or cease. Buffers are bounded: one chunk, or one pipe. More is read
only when all is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio
from trio.lowlevel import checkpoint

from mesh.net.shuttle import Shuttle
from mesh.net.splice import Pipe, Pipes
from mesh.net.tcp import CHUNK, TcpTransport

_BURST: Final = 16  # full chunks, or fills of a pipe, before other tasks may run
_BULK: Final = 16  # full chunks in a row that make a stream worth a pipe
_SMALL: Final = 16 * 1024  # bytes; fills below it are worth none
_CALM: Final = 8  # small fills in a row after which copying goes on
_PAUSE: Final = 1.0  # seconds without a byte after which a stream gives its pipe back


class Flow:
    """One direction: bytes moved so far, and whether it was writing, which tells whose fault a failure is.

    `touch` is called whenever bytes have moved.
    """

    __slots__ = ("moved", "touch", "writing")

    def __init__(self, touch: Callable[[], object] = lambda: None) -> None:
        self.moved = 0
        self.writing = False
        self.touch = touch


async def copy_stream(
    source: TcpTransport, sink: TcpTransport, flow: Flow, pipes: Pipes | None = None, shuttle: Shuttle | None = None
) -> None:
    """Move everything, then half-close `sink`. Raises what the transports raise: BrokenResourceError when a peer or
    the network broke one, ClosedResourceError when it was closed on this side."""
    flow.writing = True
    await sink.flush()
    if data := source.take_unread():
        flow.moved += len(data)
        await _write(sink, data)
    flow.writing = False
    while await _copy(source, sink, flow, shuttle, splice=pipes is not None):
        pipe = pipes.take() if pipes is not None else None
        if pipe is None:
            pipes = None
            continue
        with pipe:
            if await _splice(pipe, source, sink, flow):
                break
    flow.writing = True
    await sink.send_eof()


async def _copy(source: TcpTransport, sink: TcpTransport, flow: Flow, shuttle: Shuttle | None, *, splice: bool) -> bool:
    """Copy until the end of the stream (False), or until it is worth splicing (True)."""
    receive, send, touch = source.sock.recv, sink.sock.send, flow.touch
    full = 0
    while True:
        if not full and shuttle is not None:
            if rest := await shuttle.carry(source, sink, flow):
                flow.writing = True
                await _write(sink, rest)
                flow.writing = False
        elif not full:
            await source.readable()
        try:
            data = receive(CHUNK)
        except BlockingIOError:
            full = 0
            continue
        except OSError as exc:
            raise source.broken(exc) from exc
        if not data:
            return False
        flow.moved += len(data)
        try:
            sent = send(data)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            flow.writing = True
            raise sink.broken(exc) from exc
        if sent < len(data):
            flow.writing = True
            await _write(sink, data[sent:])
            flow.writing = False
        touch()
        if len(data) < CHUNK:
            full = 0
            continue
        full += 1
        if full % _BURST == 0:
            await checkpoint()
        if splice and full == _BULK:
            return True


async def _splice(pipe: Pipe, source: TcpTransport, sink: TcpTransport, flow: Flow) -> bool:
    """Splice until the end of the stream (True), or until it is no longer worth it (False)."""
    calm = fills = 0
    while calm < _CALM:
        try:
            moved = pipe.fill(source)
        except BlockingIOError:
            with trio.move_on_after(_PAUSE):
                await source.readable()
                continue
            return False
        except OSError as exc:
            raise source.broken(exc) from exc
        if not moved:
            return True
        flow.moved += moved
        flow.writing = True
        while pipe.held:
            try:
                pipe.drain(sink)
            except BlockingIOError:
                await sink.writable()
            except OSError as exc:
                raise sink.broken(exc) from exc
        flow.writing = False
        flow.touch()
        calm = 0 if moved >= _SMALL else calm + 1
        fills += 1
        if fills % _BURST == 0:
            await checkpoint()
    return False


async def _write(sink: TcpTransport, data: bytes) -> None:
    with memoryview(data) as view:
        while view:
            try:
                view = view[sink.sock.send(view) :]
            except BlockingIOError:
                await sink.writable()
            except OSError as exc:
                raise sink.broken(exc) from exc
