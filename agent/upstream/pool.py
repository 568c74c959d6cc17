"""Idle connections of one endpoint, last in first out, so that the surplus ages at the bottom."""

from __future__ import annotations

from agent.upstream.http1 import Http1Connection

_FRESH = 0.05
"""Seconds during which an idle connection is taken unseen; later one peek asks whether the peer has closed it."""


class Pool:
    """Synchronous book-keeping; the cluster opens and counts connections."""

    __slots__ = ("closed", "idle")

    def __init__(self) -> None:
        self.idle: list[Http1Connection] = []
        self.closed: list[Http1Connection] = []

    def take(self, now: float) -> Http1Connection | None:
        """A usable idle connection. Those that the peer closed meanwhile go to `closed`, for the cluster to count."""
        while self.idle:
            connection = self.idle.pop()
            if now - connection.idle_since < _FRESH or not connection.transport.peer_gone():
                return connection
            connection.close()
            self.closed.append(connection)
        return None

    def give(self, connection: Http1Connection, now: float) -> None:
        """Take back a connection that can serve again."""
        connection.idle_since = now
        self.idle.append(connection)

    def expire(self, now: float, idle_timeout: float) -> None:
        """Close connections idle for `idle_timeout` seconds or closed by the peer; they go to `closed`."""
        kept = []
        for connection in self.idle:
            if (idle_timeout and now - connection.idle_since >= idle_timeout) or connection.transport.peer_gone():
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
