"""Copy bytes both ways between two connections until both have ended; each direction half-closes by itself."""

from __future__ import annotations

from collections.abc import Callable

import trio

from mesh.net.tcp import Transport

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
    downstream: Transport, upstream: Transport, *, idle_timeout: float, clock: Callable[[], float]
) -> RelayResult:
    """Relay until end of stream in both directions, an error in either, or `idle_timeout` seconds of silence.

    The caller closes both transports. Buffers are bounded: a chunk is read only when the last one is written.
    """
    result = RelayResult()
    async with trio.open_nursery() as nursery:
        scope = nursery.cancel_scope
        if idle_timeout:
            scope.deadline = clock() + idle_timeout

        async def pump(source: Transport, sink: Transport, upwards: bool) -> None:
            reader, writer = ("downstream", "upstream") if upwards else ("upstream", "downstream")
            side = reader
            try:
                while data := await source.receive():
                    if upwards:
                        result.from_downstream += len(data)
                    else:
                        result.from_upstream += len(data)
                    side = writer
                    await sink.send(data)
                    side = reader
                    now = clock()
                    if idle_timeout and scope.deadline - now < idle_timeout * _REARM:
                        scope.deadline = now + idle_timeout
                side = writer
                await sink.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                result.broken_by = result.broken_by or side
                scope.cancel()

        nursery.start_soon(pump, downstream, upstream, True)
        nursery.start_soon(pump, upstream, downstream, False)
    if scope.cancelled_caught and not result.broken_by:
        result.broken_by = "idle"
    return result
