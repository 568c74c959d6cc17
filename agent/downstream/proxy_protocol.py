"""Learn from a PROXY header who the client of an accepted connection is; the format is mesh/net/proxy_protocol.py."""

from __future__ import annotations

from typing import Final

import trio

from mesh.net.proxy_protocol import ProxyProtocolError, begins_header, parse_header
from mesh.net.tcp import TcpTransport

HEADER_TIMEOUT: Final = 10.0
"""Seconds for the whole header; the load balancer before us sends it at once."""


async def accept_header(transport: TcpTransport, *, require: bool) -> None:
    """Read the header, and let the transport's addresses be those that it tells. Bytes after it are put back.

    Unless it is required, a connection without a header, or a silent one, is its peer's own. Raises ProxyProtocolError
    for what is refused, also with the reasons `timeout` and `cut_short`.
    """
    data = b""
    header = None
    with trio.move_on_after(HEADER_TIMEOUT) as scope:
        while header is None:
            if not require and begins_header(data) is False:
                break
            header = parse_header(data)
            if header is None:
                more = await transport.receive()
                if not more:
                    break
                data += more
    if header is None:
        if not require and not begins_header(data):
            if data:
                transport.unread(data)
            return
        raise ProxyProtocolError("timeout" if scope.cancelled_caught else "cut_short")
    if header.size < len(data):
        transport.unread(data[header.size :])
    if header.source:
        transport.remote, transport.local = header.source, header.destination
