"""Bring bodies from one side to the other, in pieces no larger than one read, each written before the next is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from agent.codec.headers import Headers
from agent.codec.message import End
from agent.upstream.connections import Lease
from mesh.net.strand import become_task

if TYPE_CHECKING:
    from agent.downstream.http1 import Http1Stream
    from agent.downstream.http2 import Http2Stream

_PATIENCE: Final = 0.25  # seconds without a byte, after which a body is sent on as it comes


Stream: TypeAlias = "Http1Stream | Http2Stream"
"""The downstream's side of one exchange, whatever its protocol."""


class RequestBody:
    """What of the request's body has been taken from the client, for another try to send again; `end` is set when that
    is all of it.

    What comes while a try is under way is kept too, as far as `limit` bytes.
    """

    __slots__ = ("_later", "_left", "_lost", "data", "end", "limit", "streamed", "waited")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.data = b""
        self.end: End | None = None
        self.waited = False
        """True once time has passed while reading."""
        self.streamed = False
        """True once more of it is taken while a try is under way."""
        self._later: list[bytes] = []
        self._left = limit
        self._lost = False

    @property
    def repeatable(self) -> bool:
        """Whether a try may be made once more: all of the body is in hand, or no try has begun to take the rest.

        A request that is answered before its end is not repeated (Envoy).
        """
        return not self.streamed or (self.end is not None and not self._lost)

    def take_none(self, stream: Stream) -> bool:
        """Whether the request has no body, and its end is here; it is then taken."""
        if stream.head.content_length or (event := stream.next_event()) is None:
            return False
        assert isinstance(event, End)
        self.end = event
        return True

    async def read(self, stream: Stream) -> None:
        """Take what has arrived; wait a moment for the rest of a body of known length up to `limit` bytes.

        A client that dawdles, or that waits for an answer to what it has sent, is not waited for.
        """
        wait = 0 < stream.head.content_length <= self.limit and not stream.head.expect_continue
        parts = []
        while True:
            event = stream.next_event()
            if event is None:
                if not wait:
                    break
                self.waited = True
                await become_task()
                with trio.move_on_after(_PATIENCE) as moment:
                    await stream.fill()
                wait = not moment.cancelled_caught
            elif isinstance(event, bytes):
                parts.append(event)
            else:
                self.end = event
                break
        if parts:
            self.data = parts[0] if len(parts) == 1 else b"".join(parts)
            self._left -= len(self.data)

    def keep(self, piece: bytes) -> None:
        """A piece was taken from the client while a try is under way."""
        self._left -= len(piece)
        if self._left >= 0:
            self._later.append(piece)
        else:
            self.forget()

    def rewind(self) -> None:
        """Another try begins: all that was kept is to be sent again."""
        if self._later:
            self.data = b"".join((self.data, *self._later))
            self._later.clear()

    def forget(self) -> None:
        """No further try: keep nothing."""
        self._lost = True
        self._left = -1
        self.data = b""
        self._later.clear()


async def relay_request(stream: Stream, connection: Lease, body: RequestBody) -> None:
    """Send the rest of a request's body as it comes, and keep it. Raises ProxyFault of either side, ProtocolError."""
    while True:
        event = stream.next_event()
        if event is None:
            await stream.fill()
        elif isinstance(event, bytes):
            body.keep(event)
            await connection.send_data(event)
        else:
            body.end = event
            await connection.send_end(event)
            return


async def relay_response(stream: Stream, connection: Lease) -> Headers | None:
    """Pass the response's body on until its end; what arrived in one read leaves in one write. Returns its trailers."""
    while True:
        event = connection.next_event()
        if event is None:
            await stream.flush()
            await connection.fill()
        elif isinstance(event, bytes):
            stream.write_data(event)
        else:
            stream.write_end(event)
            await stream.flush()
            return event.trailers
