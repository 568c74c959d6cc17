"""HTTP/2 connections of one endpoint: as few as their streams allow, and one opened at a time."""

from __future__ import annotations

import trio

from agent.exchange import faults
from agent.exchange.faults import ProxyFault
from agent.upstream.http2 import Http2Connection, Http2Lease


class Opening:
    """A connection being made: those who wait for it, and why it failed."""

    __slots__ = ("done", "fault")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.fault: ProxyFault | None = None

    async def finished(self) -> None:
        """Wait until it was made or given up. Raises what its maker was told when connecting failed."""
        await self.done.wait()
        if self.fault is not None:
            raise faults.connect_failed(self.fault.transport, timeout=self.fault.reason == "connection_timeout")


class StreamPool:
    """Synchronous book-keeping; the cluster opens and counts connections. `opening` is set while one is made."""

    __slots__ = ("connections", "opening")

    def __init__(self) -> None:
        self.connections: list[Http2Connection] = []
        self.opening: Opening | None = None

    def take(self, most_requests: int = 0) -> Http2Lease | None:
        """A stream of the connection that has room; None when there is none. `most_requests` as for `lend`."""
        for connection in self.connections:
            if connection.has_room:
                return self.lend(connection, most_requests)
        return None

    def lend(self, connection: Http2Connection, most_requests: int = 0) -> Http2Lease:
        """A stream of this one, which closes after `most_requests` streams (maxRequestsPerConnection; 0: never for
        that reason)."""
        lease = connection.lease()
        if most_requests and connection.served >= most_requests:
            connection.closing = True
        return lease
