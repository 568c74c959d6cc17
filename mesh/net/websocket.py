"""A WebSocket as a transport of the feed: whole messages, and one error for every way in which it can end."""

from __future__ import annotations

from trio_websocket import ConnectionClosed, WebSocketConnection

from mesh.feed.transport import FeedClosed


class WebSocketTransport:
    """Either side's WebSocket. It owns the socket, not the stream below it."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket

    async def send(self, data: bytes) -> None:
        try:
            await self._socket.send_message(data)
        except ConnectionClosed as exc:
            raise _closed(exc) from None

    async def receive(self) -> bytes:
        try:
            message = await self._socket.get_message()
        except ConnectionClosed as exc:
            raise _closed(exc) from None
        return message.encode() if isinstance(message, str) else message

    async def ping(self) -> None:
        try:
            await self._socket.ping()
        except ConnectionClosed as exc:
            raise _closed(exc) from None

    async def close(self) -> None:
        await self._socket.aclose()


def _closed(exc: ConnectionClosed) -> FeedClosed:
    reason = exc.reason
    if reason is None:
        return FeedClosed("closed")
    return FeedClosed(f"closed with {reason.code} {reason.reason or reason.name}", clean=reason.code in (1000, 1001))
