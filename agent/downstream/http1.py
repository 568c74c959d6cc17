"""Drive one downstream HTTP/1.1 connection: a head comes in, an exchange answers, and so on.

Writes are collected and sent in one piece by `flush`. One deadline per connection, re-armed by assignment
and enforced by the sweeper, stands for idle and head timeouts.
"""

from __future__ import annotations

from typing import Final

import trio

from agent.codec import http1_server
from agent.codec.h1_server import ServerConnection
from agent.codec.headers import Headers
from agent.codec.message import END, End, ProtocolError, RequestHead, ResponseHead
from agent.codec.message import Limits as CodecLimits
from agent.dataplane import Cuttable, Dataplane, Downstream, Tries
from agent.exchange import faults, reply
from agent.exchange.exchange import exchange
from agent.exchange.record import Record
from mesh import config
from mesh.net.tcp import Transport

_NEVER: Final = float("inf")
_LINGER: Final = 1.0  # seconds and bytes to read on after an answer that came before the request's end,
_LINGER_BYTES: Final = 256 * 1024  # so that the close is not a reset which destroys that answer on its way


class Http1Stream:
    """One exchange at a time as the exchange sees it: head and body in, response out.

    `started` is True once a final response head was written, `complete` once the response has ended.
    """

    __slots__ = (
        "_codec",
        "_dataplane",
        "_idle",
        "_out",
        "_request_by",
        "_request_done",
        "_silence",
        "attempt",
        "busy_since",
        "bytes_in",
        "bytes_out",
        "chain",
        "client_gone",
        "complete",
        "downstream",
        "forward",
        "head",
        "record",
        "started",
        "trailers",
        "tunnelled",
        "writing",
    )

    def __init__(
        self, downstream: Downstream, chain: config.HttpChain, codec: ServerConnection, dataplane: Dataplane
    ) -> None:
        self.downstream = downstream
        self._dataplane = dataplane
        self._silence = dataplane.settings.stream_idle_timeout or _NEVER
        self._idle = min(chain.idle_timeout or dataplane.settings.connection_idle_timeout or _NEVER, self._silence)
        self._request_by = _NEVER
        self.chain = chain
        self._codec = codec
        self._out: list[bytes] = []
        self.head: RequestHead
        self.attempt: Cuttable | None = None
        self.busy_since = 0.0
        self.client_gone = False
        self.record: Record | None = None
        self.forward: Tries | None = None
        self._clear()
        self.tunnelled = False

    def _clear(self) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.started = False
        self.complete = False
        self.writing = False
        self._request_done = False

    # The exchange's ends

    def attach(self, record: Record) -> None:
        """An exchange begins, which `record` tells of."""
        self.record = record
        self.busy_since = record.start

    def detach(self) -> None:
        """It is over: nothing is under way upstream any more."""
        self.attempt = None
        self.forward = None

    # What the sweeper asks

    @property
    def deadline(self) -> float:
        """Never: the connection's own deadline stands for that of its exchange."""
        return _NEVER

    @property
    def timed_out(self) -> bool:
        """Whether the sweeper has ended the exchange."""
        return self.downstream.timed_out

    def expire(self) -> None:
        """Not called: see `deadline`."""

    def hung_up(self) -> bool:
        """Whether the client has closed its connection, and nothing of it is left to read."""
        return self.downstream.transport.peer_gone()

    # Request

    def begin(self, head: RequestHead) -> None:
        """Start an exchange."""
        self._clear()
        self.head = head
        self.bytes_in = head.size
        dataplane = self._dataplane
        if dataplane.settings.request_timeout:
            self._request_by = dataplane.clock() + dataplane.settings.request_timeout
        self.downstream.deadline = min(dataplane.now + self._silence, self._request_by)

    @property
    def request_done(self) -> bool:
        """Whether the whole request has been read."""
        return self._request_done

    @property
    def can_end(self) -> bool:
        """Never: a response that has begun is cut by a reset."""
        return False

    @property
    def lateness(self) -> tuple[int, str]:
        """Status and reason of an exchange that the sweeper ends now."""
        if self._request_done:
            return 504, "stream_idle_timeout"
        return 408, "request_overall_timeout" if self._dataplane.now >= self._request_by else "stream_idle_timeout"

    def next_event(self) -> bytes | End | None:
        """What has arrived of the request's body; None: call `fill`. Raises ProtocolError."""
        event = self._codec.next_event()
        if event is None:
            return None
        if type(event) is bytes:
            self.bytes_in += len(event)
            return event
        assert isinstance(event, End)
        self._request_done = True
        if self._request_by != _NEVER:
            self._request_by = _NEVER
            self.downstream.deadline = self._dataplane.now + self._silence
        return event

    async def fill(self) -> None:
        """Wait for more of the request. Raises ProxyFault DC when the client hangs up, ProtocolError."""
        downstream = self.downstream
        downstream.deadline = min(self._dataplane.now + self._idle, self._request_by)
        try:
            data = await downstream.transport.receive()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise faults.client_gone() from exc
        downstream.deadline = self._dataplane.now + self._silence
        if not data:
            raise faults.client_gone()
        self._codec.receive_data(data)

    # Response

    def write_head(self, head: ResponseHead) -> None:
        """Queue a head; a final one starts the response."""
        self._out.append(self._codec.send_head(head))
        if head.status >= 200 or head.status == 101:
            self.started = True

    def write_data(self, data: bytes) -> None:
        """Queue body data."""
        self._out.append(self._codec.send_data(data))

    def write_end(self, end: End = END) -> None:
        """Queue the end of the response."""
        self._out.append(self._codec.send_end(end.trailers))
        self.complete = True

    async def flush(self) -> None:
        """Send what is queued. Raises ProxyFault DC when the client hangs up."""
        out = self._out
        if not out:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self.bytes_out += len(data)
        downstream = self.downstream
        downstream.deadline = self._dataplane.now + self._idle
        self.writing = True
        try:
            await downstream.transport.send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise faults.client_gone() from exc
        self.writing = False
        downstream.deadline = self._dataplane.now + self._silence

    def abandon(self) -> None:
        """Forget what is queued and reset: the response cannot be completed, and the client must see that."""
        self._out.clear()
        self.downstream.transport.reset()

    def close(self) -> None:
        """The client has gone: nothing more can be said to it."""
        self.downstream.transport.close()

    # Between exchanges

    def start_next(self) -> bool:
        """Whether the connection goes on; after it, the next head may be read."""
        return self.complete and self._request_done and not self._codec.must_close and self._codec.start_next()

    def tunnel(self) -> Transport:
        """The client's bytes after an accepted upgrade or CONNECT; the exchange's deadlines are over."""
        downstream = self.downstream
        self.tunnelled = True
        self.attempt = None  # a half-closed client is no longer a client that went away
        downstream.deadline = _NEVER
        if early := self._codec.take_unread():
            downstream.transport.unread(early)
        return downstream.transport


async def serve_http1(downstream: Downstream, chain: config.HttpChain, dataplane: Dataplane) -> None:
    """Serve until either side closes. Raises trio.BrokenResourceError when the client breaks the connection."""
    settings = dataplane.settings
    limits = CodecLimits(
        settings.max_request_headers_kb * 1024, settings.max_headers_count, settings.headers_with_underscores_action
    )
    codec = http1_server(limits, settings.codec)
    stream = Http1Stream(downstream, chain, codec, dataplane)
    if dataplane.batch is not None:
        downstream.transport.batch_writes(dataplane.batch)
    in_head = in_exchange = lingering = False
    dataplane.exchanges.add(stream)
    with downstream.scope:
        try:
            while True:
                in_head = False
                downstream.busy = False
                idle = chain.idle_timeout or settings.connection_idle_timeout
                downstream.deadline = dataplane.now + idle if idle else _NEVER
                while not codec.buffered or (event := codec.next_event()) is None:
                    if not in_head and codec.buffered:
                        in_head = downstream.busy = True
                        if settings.request_headers_timeout:
                            downstream.deadline = dataplane.clock() + settings.request_headers_timeout
                    data = await downstream.transport.receive()
                    codec.receive_data(data)
                    if not data:
                        codec.next_event()  # a head cut short is the client's fault
                        return
                if not isinstance(event, RequestHead):
                    return
                in_head = False
                downstream.busy = True
                stream.begin(event)
                in_exchange = True
                await exchange(stream, dataplane)
                in_exchange = False
                stream.record = None
                if stream.tunnelled:
                    return
                if not stream.start_next():
                    lingering = not stream.request_done
                    break
        except ProtocolError as exc:
            dataplane.stats.refused("http1", exc.reason)
            lingering = await _refuse(stream, codec, dataplane, exc.status, exc.reason)
        finally:
            dataplane.exchanges.discard(stream)
            for reason, count in codec.counts.items():
                dataplane.stats.refused("codec", reason, count)
    if downstream.timed_out and in_exchange:
        lingering = await _answer_late(stream, codec, dataplane)
    elif downstream.timed_out:
        dataplane.stats.refused("http1", "request_headers_timeout" if in_head else "idle_timeout")
        if in_head:
            lingering = await _refuse(stream, codec, dataplane, 408, "request_headers_timeout")
    if lingering:
        await _linger(downstream)


async def _answer_late(stream: Http1Stream, codec: ServerConnection, dataplane: Dataplane) -> bool:
    """End an exchange that the sweeper cut; its record is written. True: an answer went out, so linger."""
    status, reason = stream.lateness
    dataplane.stats.refused("http1", reason)
    if stream.started:
        stream.abandon()  # even the end of it may be what the client has not taken
        return False
    head, body = reply.local_response(status, b"stream timeout", Headers(), dataplane, keep_alive=False)
    return await _send_last(stream, codec, head, body) > 0


async def _send_last(stream: Http1Stream, codec: ServerConnection, head: ResponseHead, body: bytes) -> int:
    """Send the connection's last answer; the bytes that went out, 0 when the client takes none."""
    try:
        data = codec.send_head(head) + (codec.send_data(body) if body else b"") + codec.send_end()
        with trio.move_on_after(_LINGER):
            await stream.downstream.transport.send(data)
    except (ProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
        return 0
    return len(data)


async def _refuse(stream: Http1Stream, codec: ServerConnection, dataplane: Dataplane, status: int, reason: str) -> bool:
    """Answer a connection whose bytes make no request. True: an answer went out, so linger."""
    if stream.started and not stream.complete:
        return False
    record = reply.refused_record(stream.downstream, dataplane, status, reason)
    head, body = reply.local_response(status, b"", Headers(), dataplane, keep_alive=False)
    try:
        record.bytes_sent = await _send_last(stream, codec, head, body)
    finally:
        dataplane.finish(record)
    return record.bytes_sent > 0


async def _linger(downstream: Downstream) -> None:
    transport = downstream.transport
    with trio.move_on_after(_LINGER):
        try:
            await transport.send_eof()
            left = _LINGER_BYTES
            while left > 0 and (data := await transport.receive()):
                left -= len(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
