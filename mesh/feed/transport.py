"""What the feed runs on: whole messages both ways. WebSocket doors and the in-memory pair implement it."""

from __future__ import annotations

from typing import Protocol

from mesh.errors import MeshError


class FeedClosed(MeshError):
    """The session is over. `clean`: the peer closed it on purpose; otherwise it broke or fell silent."""

    def __init__(self, reason: str, *, clean: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.clean = clean


class Transport(Protocol):
    """One feed session's messages. Any method may raise FeedClosed."""

    async def send(self, data: bytes) -> None:
        """Hand over one message."""

    async def receive(self) -> bytes:
        """The next message."""

    async def ping(self) -> None:
        """Return when the peer has answered a ping; the deadline is the caller's scope."""

    async def close(self) -> None:
        """Close on purpose."""
