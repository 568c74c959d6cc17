"""HTTP, whichever version the client speaks: ALPN says it, or the first bytes do (prior knowledge, RFC 9113 3.3)."""

from __future__ import annotations

from typing import Final

import trio

from agent.dataplane import Dataplane, Downstream
from agent.downstream.http1 import serve_http1
from agent.downstream.http2 import serve_http2
from mesh import config

_HTTP2: Final = frozenset({"h2", "istio-h2"})
_PREFACE: Final = b"PRI * HTTP/2.0\r\n"
_NEVER: Final = float("inf")


async def serve_http(downstream: Downstream, chain: config.HttpChain, dataplane: Dataplane) -> None:
    """Serve until either side closes. Raises trio.BrokenResourceError when the client breaks the connection."""
    http2 = downstream.alpn in _HTTP2
    if not http2:
        first = await _first_bytes(downstream, chain, dataplane)
        if not first:
            if downstream.timed_out:
                dataplane.stats.refused("http1", "idle_timeout")
            return
        downstream.transport.unread(first)
        http2 = first.startswith(_PREFACE)
    if http2:
        await serve_http2(downstream, chain, dataplane)
    else:
        await serve_http1(downstream, chain, dataplane)


async def _first_bytes(downstream: Downstream, chain: config.HttpChain, dataplane: Dataplane) -> bytes:
    """As many as it takes to tell; b"" when the client says nothing, or not in time."""
    settings = dataplane.settings
    idle = chain.idle_timeout or settings.connection_idle_timeout
    downstream.busy = False
    downstream.deadline = dataplane.now + idle if idle else _NEVER
    data = b""
    with downstream.scope:
        while len(data) < len(_PREFACE) and _PREFACE.startswith(data):
            more = await downstream.transport.receive()
            if not more:
                break
            data += more
            downstream.busy = True
            if settings.request_headers_timeout:
                downstream.deadline = dataplane.clock() + settings.request_headers_timeout
    if downstream.scope.cancelled_caught and not data:
        return b""
    downstream.scope = trio.CancelScope()  # the driver enters one, and each can be entered once
    downstream.timed_out = False
    return data
