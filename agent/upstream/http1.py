"""One upstream HTTP/1.1 connection: a request goes out, its response comes in.

The exchange drives it; whoever leased it gives it back or discards it. Faults are ProxyFaults of the upstream.
"""

from __future__ import annotations

from typing import Any

import trio

from agent.codec.h1_client import ClientConnection
from agent.codec.message import END, End, ProtocolError, RequestHead, ResponseHead
from agent.exchange import faults
from agent.upstream.endpoint import Endpoint
from mesh.net.tcp import Transport


class Http1Connection:
    """`served` counts completed exchanges; `idle_since` and `born` are times of the injected clock; `pool` is where
    it may return to.

    `received` turns True with the first byte of the current response, `sent` with the first of the request.
    """

    __slots__ = (
        "born",
        "bytes_in",
        "bytes_out",
        "codec",
        "endpoint",
        "idle_since",
        "pool",
        "received",
        "sent",
        "served",
        "transport",
        "writing",
    )

    def __init__(
        self, transport: Transport, codec: ClientConnection, endpoint: Endpoint, pool: Any, now: float
    ) -> None:
        self.transport = transport
        self.codec = codec
        self.endpoint = endpoint
        self.pool = pool
        self.born = now
        self.idle_since = now
        self.served = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.sent = False
        self.received = False
        self.writing = False
        """While a write has not been taken by the socket."""

    @property
    def local(self) -> str:
        """Own address."""
        return self.transport.local

    async def send_request(self, head: RequestHead, body: bytes, end: End | None) -> None:
        """Send the head and what is there of the body, in one write; `end`: that was all of it."""
        codec = self.codec
        data = codec.send_head(head)
        if body:
            data += codec.send_data(body)
        if end is not None:
            data += codec.send_end(end.trailers)
        self.sent = True
        await self._send(data)

    async def send_data(self, data: bytes) -> None:
        """Send a piece of the body."""
        await self._send(self.codec.send_data(data))

    async def send_end(self, end: End = END) -> None:
        """End the request."""
        data = self.codec.send_end(end.trailers)
        if data:
            await self._send(data)

    async def _send(self, data: bytes) -> None:
        self.writing = True
        try:
            await self.transport.send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            # an early response may be waiting behind the broken write: the reader decides what it was
            raise faults.terminated(sent=self.sent, reused=self.served > 0) from exc
        self.writing = False
        self.bytes_out += len(data)

    async def read_head(self) -> ResponseHead:
        """Next head, informational ones included."""
        codec = self.codec
        try:
            while True:
                if codec.buffered and (event := codec.next_event()) is not None:
                    assert isinstance(event, ResponseHead)
                    return event
                data = await self.transport.receive()
                if not data:
                    raise faults.terminated(sent=True, reused=self.served > 0)
                self.received = True
                self.bytes_in += len(data)
                codec.receive_data(data)
        except ProtocolError as error:
            raise faults.malformed(error.reason) from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise faults.terminated(sent=True, reused=self.served > 0) from exc

    def next_event(self) -> bytes | End | None:
        """What has arrived of the body; None: call `fill`."""
        try:
            event = self.codec.next_event()
        except ProtocolError as exc:
            if exc.reason == "eof_in_body":
                raise faults.terminated(sent=True, reused=self.served > 0) from exc
            raise faults.malformed(exc.reason) from exc
        assert not isinstance(event, ResponseHead)
        return event

    async def fill(self) -> None:
        """Wait for more of the response."""
        try:
            data = await self.transport.receive()
            self.bytes_in += len(data)
            self.codec.receive_data(data)
        except ProtocolError as error:
            raise faults.malformed(error.reason) from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise faults.terminated(sent=True, reused=self.served > 0) from exc

    def tunnel(self) -> Transport:
        """The upstream's bytes after an accepted upgrade."""
        if early := self.codec.take_unread():
            self.transport.unread(early)
        return self.transport

    def cut(self) -> None:
        """End what is under way: who waits for the socket hears of it."""
        self.transport.reset()

    def close(self) -> None:
        """Close at once."""
        self.transport.close()
