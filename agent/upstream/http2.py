"""One upstream HTTP/2 connection, shared: each exchange leases a stream of it.

A task of the agent reads it for as long as it lives. Faults are ProxyFaults of the upstream; a stream that the peer
says it has not touched (REFUSED_STREAM, or above the last one of a GOAWAY) may be sent again to anybody.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Final

import trio

from agent.codec.http2 import (
    CANCEL,
    NO_ERROR,
    REFUSED_STREAM,
    GoAwayReceived,
    HeadReceived,
    Http2,
    StreamReset,
)
from agent.codec.message import END, End, RequestHead, ResponseHead
from agent.exchange import faults
from agent.exchange.faults import ProxyFault
from agent.multiplex import Multiplexed, MuxStream
from agent.stream_transport import StreamTransport
from agent.upstream.endpoint import Endpoint
from mesh.net.tcp import Transport

_GOODBYE: Final = 1.0  # seconds for a GOAWAY to be written
_WEBSOCKET: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 4.2.2


class Http2Lease(MuxStream):
    """A stream of a connection; the exchange drives it as it drives an HTTP/1 connection.

    `number` is 0 until the request is sent.
    """

    __slots__ = ("_connection", "_key", "_upgrading", "endpoint", "reused")

    def __init__(self, connection: Http2Connection) -> None:
        super().__init__(connection, 0)
        self._connection = connection
        self.endpoint = connection.endpoint
        self.reused = connection.served > 1
        self._upgrading = False
        self._key = b""

    @property
    def local(self) -> str:
        """Own address of the connection."""
        return self._connection.transport.local

    async def send_request(self, head: RequestHead, body: bytes, end: End | None) -> None:
        """Send the head and what is there of the body; `end`: that was all of it."""
        codec = self._connection.codec
        if head.upgrade is not None:
            while not self._connection.settled:
                await self.wake_up()
            if not codec.extended_connect:
                raise faults.ProxyFault("proxy", "", "upgrade_failed", status=403)
            self._upgrading = True
            self._key = head.headers.index.get(b"sec-websocket-key", b"")
            end = None
        if self.fault is not None:
            raise self.fault
        whole = end is not None and end.trailers is None
        number = codec.open_stream(head, end=whole and not body)
        if not number:
            self._connection.closing = True
            raise faults.reset_by_upstream(refused=True, reused=True)
        self.number = number
        self._connection.streams[number] = self
        if body:
            self.bytes_out += len(body)
            codec.send_data(number, body, end=whole)
        if end is not None and not whole:
            codec.send_end(number, end.trailers)
        self._connection.kick()
        if body:
            await self.room()

    async def send_data(self, data: bytes) -> None:
        """Send a piece of the body."""
        self.bytes_out += len(data)
        self._connection.codec.send_data(self.number, data)
        self._connection.kick()
        await self.room()

    async def send_end(self, end: End = END) -> None:
        """End the request."""
        self._connection.codec.send_end(self.number, end.trailers)
        self._connection.kick()

    async def read_head(self) -> ResponseHead:
        """Next head, informational ones included."""
        while not self._inbox:
            await self.arrival()
        head: ResponseHead = self._inbox.popleft()
        if self._upgrading and 200 <= head.status < 300:
            return self._accepted(head)
        return head

    def _accepted(self, head: ResponseHead) -> ResponseHead:
        """A 200 to an extended CONNECT, in the words of HTTP/1 (RFC 8441 5)."""
        headers = head.headers
        headers.put(b"upgrade", b"websocket")
        if self._key and b"sec-websocket-accept" not in headers.index:
            digest = hashlib.sha1(self._key + _WEBSOCKET, usedforsecurity=False).digest()
            headers.add(b"sec-websocket-accept", base64.b64encode(digest))
        return ResponseHead(101, headers)

    def next_event(self) -> bytes | End | None:
        """What has arrived of the body; None: call `fill`."""
        event: bytes | End | None = self._inbox.popleft() if self._inbox else self.take()
        return event

    async def fill(self) -> None:
        """Wait for more of the response."""
        await self.arrival()

    def tunnel(self) -> Transport:
        """The upstream's bytes after an accepted upgrade."""
        return StreamTransport(self, self._connection.transport)

    def cut(self) -> None:
        """End it now, whatever is under way: who waits hears of it."""
        self.reset()
        self.fail(faults.terminated(sent=True, reused=False))

    def finish(self, now: float, *, whole: bool) -> None:
        """The exchange is over; `whole`: request and response are complete as far as the exchange is concerned."""
        self._connection.finish(self, now, NO_ERROR if whole else CANCEL)


class Http2Connection(Multiplexed[Http2Lease]):
    """A connection to an endpoint. `leased` streams are under way or about to begin; `closing`: no new ones.

    `served` counts leases; `idle_since` and `born` are times of the injected clock; `settled` is True once the peer's
    settings have come, `most_streams` (0: no limit) what the configuration allows at once.
    `changed` is called when a stream has ended, or more of them are allowed.
    """

    def __init__(
        self,
        transport: Transport,
        codec: Http2,
        endpoint: Endpoint,
        now: float,
        changed: Callable[[], None],
        *,
        most_streams: int = 0,
    ) -> None:
        super().__init__(transport, codec)
        self.endpoint = endpoint
        self._changed = changed
        self.born = now
        self.idle_since = now
        self.leased: set[Http2Lease] = set()
        self.served = 0
        self.closing = False
        self.settled = False
        self.most_streams = most_streams
        self._heard = True
        self._heard_at = now
        self._asked_at: float | None = None
        self._scope = trio.CancelScope()

    @property
    def has_room(self) -> bool:
        """Whether one more stream may be opened now."""
        most = self.codec.max_streams
        return not self.closing and len(self.leased) < (min(most, self.most_streams) if self.most_streams else most)

    def lease(self) -> Http2Lease:
        """A stream for one exchange; end it with `finish`."""
        self.served += 1
        made = Http2Lease(self)
        self.leased.add(made)
        return made

    async def run(self, ended: Callable[[Http2Connection], None]) -> None:
        """Read, after `open`, until the peer or `close` ends it; then every stream fails, and `ended` is called."""
        try:
            with self._scope:
                try:
                    await self.read()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass  # told to the streams below
        finally:
            self.closing = True
            for lease in tuple(self.leased):
                lease.over = True
                lease.fail(self._lost(lease))
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _GOODBYE):
                await self._say_goodbye()
            self.transport.close()
            ended(self)

    def _lost(self, lease: Http2Lease) -> ProxyFault:
        if self.codec.failed:
            return faults.malformed(self.codec.failed)
        return faults.terminated(sent=bool(lease.number), reused=lease.reused)

    async def _say_goodbye(self) -> None:
        try:
            self.codec.goaway()
            await self.outbox.finish()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    def close(self) -> None:
        """End it now."""
        self.closing = True
        self._scope.cancel()

    def part(self) -> None:
        """Take no new streams, and close when the last one has ended."""
        self.closing = True
        if not self.leased:
            self._scope.cancel()

    def keep_alive(self, now: float, interval: float, timeout: float) -> bool:
        """Once in a while: PING a peer that has been silent. False: it has not answered for `timeout` seconds."""
        if self._heard:
            self._heard, self._heard_at, self._asked_at = False, now, None
        elif self._asked_at is not None:
            return now - self._asked_at < timeout
        elif now - self._heard_at >= interval:
            self._asked_at = now
            self.codec.ping(b"mesh\0\0\0\0")
            self.kick()
        return True

    # What arrives

    def received(self) -> None:
        self._heard = True

    def head_received(self, event: HeadReceived) -> None:
        lease = self.streams.get(event.stream_id)
        if lease is not None:
            if event.end:
                lease.put(event.head, END)
            else:
                lease.put(event.head)

    def stream_reset(self, stream: Http2Lease, event: StreamReset) -> None:
        if event.remote:
            stream.fail(faults.reset_by_upstream(refused=event.code == REFUSED_STREAM))
        else:
            stream.fail(faults.malformed(event.reason))

    def going_away(self, event: GoAwayReceived) -> None:
        self.closing = True
        for number, stream in tuple(self.streams.items()):
            if number > event.last_stream_id:
                stream.over = True
                stream.fail(faults.reset_by_upstream(refused=True, reused=stream.reused))
        if not self.leased:
            self._scope.cancel()

    def settings_received(self) -> None:
        self.settled = True
        for lease in self.leased:
            lease.notice()
        self._changed()

    # What ends

    def finish(self, lease: Http2Lease, now: float, code: int) -> None:
        """The exchange is done with its stream; what is still open of it is reset."""
        if self.streams.pop(lease.number, None) is not None:
            if lease.owed:
                self.credit(lease)
            if lease.bytes_out and self.codec.queued(lease.number):
                self.outbox.flush()
            if not lease.over:
                lease.reset(code)
        self.leased.discard(lease)
        if not self.leased:
            self.idle_since = now
            if self.closing:
                self._scope.cancel()
        self._changed()

    def is_old(self, now: float, idle_timeout: float, lifetime: float) -> bool:
        """Whether it has been idle for `idle_timeout` seconds or lives for `lifetime` (0: no such limit)."""
        idle = idle_timeout and not self.leased and now - self.idle_since >= idle_timeout
        return bool(idle or (lifetime and now - self.born >= lifetime))
