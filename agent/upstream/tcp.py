"""Copy bytes both ways between two connections until both have ended; each direction half-closes by itself."""

from __future__ import annotations

from collections.abc import Callable

import trio

from mesh.net.copy import Flow, copy_stream
from mesh.net.shuttle import Shuttle
from mesh.net.splice import Pipes
from mesh.net.tcp import TcpTransport, Transport

_REARM = 0.95
"""Re-arm the idle deadline only when a twentieth of it has passed: arming costs more than a small relay."""


class RelayResult:
    """Bytes by direction, and who ended it badly: "" (both sides finished), "downstream", "upstream", "idle"."""

    __slots__ = ("broken_by", "from_downstream", "from_upstream")

    def __init__(self) -> None:
        self.from_downstream = 0
        self.from_upstream = 0
        self.broken_by = ""


async def relay_bytes(
    downstream: Transport,
    upstream: Transport,
    *,
    idle_timeout: float,
    clock: Callable[[], float],
    pipes: Pipes | None = None,
    shuttle: Shuttle | None = None,
) -> RelayResult:
    """Relay until end of stream in both directions, an error in either, or `idle_timeout` seconds of silence.

    The caller closes both transports. Buffers are bounded: a chunk is read only when the last one is written.
    Between two plain sockets bulk may take one of `pipes`, and the `shuttle` carries small messages.
    """
    result = RelayResult()
    async with trio.open_nursery() as nursery:
        scope = nursery.cancel_scope
        if idle_timeout:
            scope.deadline = clock() + idle_timeout

        def touch() -> None:
            if not idle_timeout:
                return
            now = clock()
            if scope.deadline - now < idle_timeout * _REARM:
                scope.deadline = now + idle_timeout

        async def pump(source: Transport, sink: Transport, flow: Flow, reader: str, writer: str) -> None:
            try:
                if isinstance(source, TcpTransport) and isinstance(sink, TcpTransport):
                    await copy_stream(source, sink, flow, pipes, shuttle)
                else:
                    await _copy(source, sink, flow)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                result.broken_by = result.broken_by or (writer if flow.writing else reader)
                scope.cancel()

        up, down = Flow(touch), Flow(touch)
        nursery.start_soon(pump, downstream, upstream, up, "downstream", "upstream", name="to the upstream")
        nursery.start_soon(pump, upstream, downstream, down, "upstream", "downstream", name="to the client")
    result.from_downstream, result.from_upstream = up.moved, down.moved
    if scope.cancelled_caught and not result.broken_by:
        result.broken_by = "idle"
    return result


async def _copy(source: Transport, sink: Transport, flow: Flow) -> None:
    """The way of transports that are no plain sockets, on one side or both."""
    while data := await source.receive():
        flow.moved += len(data)
        flow.writing = True
        await sink.send(data)
        flow.writing = False
        flow.touch()
    flow.writing = True
    await sink.send_eof()
