"""Idle connections of one endpoint, last in first out, so that the surplus ages at the bottom.

None is taken unseen: one peek asks whether the peer has closed it, or said what nobody asked for, a 408 before its
close or a response that would answer the next request (RFC 9112 9.2).
"""

from __future__ import annotations

from agent.upstream.http1 import Http1Connection


class Pool:
    """Synchronous book-keeping; the cluster opens and counts connections."""

    __slots__ = ("closed", "idle")

    def __init__(self) -> None:
        self.idle: list[Http1Connection] = []
        self.closed: list[Http1Connection] = []

    def take(self) -> Http1Connection | None:
        """A usable idle connection. Those that the peer closed or wrote to go to `closed`, for the cluster to count."""
        while self.idle:
            connection = self.idle.pop()
            if connection.transport.quiet():
                return connection
            connection.close()
            self.closed.append(connection)
        return None

    def give(self, connection: Http1Connection, now: float) -> None:
        """Take back a connection that can serve again."""
        connection.idle_since = now
        self.idle.append(connection)

    def expire(self, now: float, idle_timeout: float) -> None:
        """Close connections idle for `idle_timeout` seconds, and those that the peer closed or wrote to."""
        kept = []
        for connection in self.idle:
            if (idle_timeout and now - connection.idle_since >= idle_timeout) or not connection.transport.quiet():
                connection.close()
                self.closed.append(connection)
            else:
                kept.append(connection)
        self.idle = kept

    def drain(self) -> None:
        """Close all idle connections; they go to `closed`."""
        for connection in self.idle:
            connection.close()
        self.closed += self.idle
        self.idle = []
