"""Drive one downstream HTTP/2 connection: every request that comes in is an exchange with a task of its own.

The connection's own task reads; what the exchanges write leaves together at the end of a scheduler pass. A stream has
no cancel scope: it waits in its own places only, so whoever ends it says why in the place where it waits.
"""

from __future__ import annotations

from typing import Final

import trio

from agent.codec import http2_server
from agent.codec.http2 import CANCEL, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, HeadReceived, Http2Limits, StreamReset
from agent.codec.message import CHUNKED, END, End, RequestHead, ResponseHead
from agent.dataplane import Cuttable, Dataplane, Downstream, Tries
from agent.exchange import faults
from agent.exchange.exchange import exchange
from agent.exchange.faults import ProxyFault
from agent.exchange.record import Record
from agent.multiplex import HIGH, Multiplexed, MuxStream
from agent.stream_transport import StreamTransport
from mesh import config
from mesh.net.strand import Pass, Strand, finish
from mesh.net.tcp import Transport

_NEVER: Final = float("inf")
_LINGER: Final = 1.0  # seconds for the last words of a connection to be written and read
_UNWINDING: Final = 100  # exchanges whose stream is gone already, beside those that the codec counts


class Http2Stream(MuxStream):
    """One exchange as the exchange sees it: head and body in, response out.

    A head and the latest piece of a body are held back until it is known whether they are the last, so that the end of
    the response costs no frame of its own. `started` is True once a final head was written, `complete` at the end.
    """

    __slots__ = (
        "_attempt",
        "_connection",
        "_held",
        "_held_head",
        "_idle",
        "_request_by",
        "_request_done",
        "_silence",
        "busy_since",
        "chain",
        "client_gone",
        "complete",
        "deadline",
        "downstream",
        "forward",
        "head",
        "record",
        "started",
        "strand",
        "timed_out",
        "tunnelled",
    )

    def __init__(self, connection: Http2Downstream, number: int, head: RequestHead, *, end: bool) -> None:
        super().__init__(connection, number)
        self._connection = connection
        self.downstream = connection.downstream
        self.chain = connection.chain
        self.head = head
        self.bytes_in = head.size
        self._silence = connection.silence
        self._idle = connection.idle
        self._request_by = _NEVER
        self._request_done = end
        self._held_head: ResponseHead | None = None
        self._held = b""
        self._attempt: Cuttable | None = None
        self.busy_since = 0.0
        self.record: Record | None = None
        self.forward: Tries | None = None
        self.client_gone = False
        self.timed_out = False
        self.started = False
        self.complete = False
        self.tunnelled = False
        self.strand: Strand
        dataplane = connection.dataplane
        if dataplane.settings.request_timeout and not end:
            self._request_by = dataplane.clock() + dataplane.settings.request_timeout
        self.deadline = min(dataplane.now + self._silence, self._request_by)
        if end:
            self._inbox.append(END)

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
    def attempt(self) -> Cuttable | None:
        """What ends the try in flight, if there is one."""
        return self._attempt

    @attempt.setter
    def attempt(self, attempt: Cuttable | None) -> None:
        self._attempt = attempt
        if attempt is not None and (self.client_gone or self.timed_out):
            attempt.cancel()  # the end came before the try: between its steps, or before the exchange's task ran

    def expire(self) -> None:
        """The client was silent for too long, or does not take its response."""
        self.deadline = _NEVER
        dataplane = self._connection.dataplane
        dataplane.stats.refused("http2", self.lateness[1])
        if self in self._connection.finishing:
            self.reset(CANCEL)
            self._connection.finished(self)
            return
        self.timed_out = True
        trying = self.attempt is not None
        if self.attempt is not None:
            self.attempt.cancel()
        if self.started or not trying:  # else the try's end is heard, and the client can still be told
            self.fail(faults.late(*self.lateness))

    def hung_up(self) -> bool:
        """Never by itself: the connection's reader hears it first."""
        return False

    @property
    def can_end(self) -> bool:
        """Whether trailers would end the response now: it has begun, and nothing of it waits for the client."""
        open_ = self.started and not (self.complete or self.over or self.tunnelled)
        return open_ and not self.mux.codec.queued(self.number)

    @property
    def lateness(self) -> tuple[int, str]:
        """Status and reason of an exchange that the sweeper ends now."""
        if self._request_done:
            return 504, "stream_idle_timeout"
        late = self._connection.dataplane.now >= self._request_by
        return 408, "request_overall_timeout" if late else "stream_idle_timeout"

    def leave(self) -> None:
        """The client has gone, or does not want the response any more."""
        self.client_gone = True
        self.over = True
        if self.attempt is not None:
            self.attempt.cancel()
        self.fail(faults.client_gone())

    # Request

    @property
    def request_done(self) -> bool:
        """Whether the whole request has been read."""
        return self._request_done

    def next_event(self) -> bytes | End | None:
        """What has arrived of the request's body; None: call `fill`."""
        event: bytes | End | None = self._inbox.popleft() if self._inbox else self.take()
        if type(event) is End:
            self._request_done = True
            if self._request_by != _NEVER:
                self._request_by = _NEVER
                self.deadline = self._connection.dataplane.now + self._silence
        return event

    async def fill(self) -> None:
        """Wait for more of the request. Raises ProxyFault DC when the client gives up."""
        dataplane = self._connection.dataplane
        self.deadline = min(dataplane.now + self._idle, self._request_by)
        try:
            await self.arrival()
        except ProxyFault:
            if self.timed_out:
                self.fault = None  # told once; the answer to it may be written
            raise
        self.deadline = dataplane.now + self._silence

    # Response

    def write_head(self, head: ResponseHead) -> None:
        """Queue a head; a final one starts the response."""
        if head.status < 200 and head.status != 101:
            self.mux.codec.send_head(self.number, head, end=False)
            return
        if head.status == 101:  # RFC 8441: the answer to an extended CONNECT is a 200 without the words of HTTP/1
            head.headers.remove(b"sec-websocket-accept")
            head = ResponseHead(200, head.headers, content_length=CHUNKED)
        self.started = True
        self._held_head = head

    def write_data(self, data: bytes) -> None:
        """Queue body data."""
        self._let_go()
        self._held = data

    def write_end(self, end: End = END) -> None:
        """Queue the end of the response."""
        codec, number = self.mux.codec, self.number
        if end.trailers is not None:
            self._let_go()
            codec.send_end(number, end.trailers)
        elif self._held:
            self.bytes_out += len(self._held)
            codec.send_data(number, self._held, end=True)
        elif self._held_head is not None:
            codec.send_head(number, self._held_head, end=True)
        else:
            codec.send_end(number)
        self._held, self._held_head = b"", None
        self.complete = True

    def _let_go(self) -> None:
        if self._held_head is not None:
            self.mux.codec.send_head(self.number, self._held_head, end=False)
            self._held_head = None
        elif self._held:
            self.bytes_out += len(self._held)
            self.mux.codec.send_data(self.number, self._held)
            self._held = b""

    async def flush(self) -> None:
        """Send what is queued, or nearly all. Raises ProxyFault DC when the client gives up."""
        if not self.complete:
            self._let_go()
        self.mux.kick()
        if self.timed_out and self.complete:
            return  # what the client is told of its lateness; `fault` is for those who wait for more of it
        dataplane = self._connection.dataplane
        self.deadline = dataplane.now + self._idle
        if self.fault is not None or self.bytes_out > HIGH:  # else not so much can be queued
            await self.room()
        self.deadline = dataplane.now + self._silence

    def abandon(self) -> None:
        """Reset the stream: the response cannot be completed, and the client must see that."""
        self._held, self._held_head = b"", None
        if self.started and not self.over:
            self.mux.outbox.flush()  # what was said before is seen before the reset
        self.reset(INTERNAL_ERROR)

    def close(self) -> None:
        """The client has gone: nothing more can be said to it."""
        self.reset(CANCEL)

    def tunnel(self) -> Transport:
        """The client's bytes after an accepted extended CONNECT or CONNECT; the exchange's deadlines are over."""
        self.tunnelled = True
        self.attempt = None
        self._silence = self._idle = self.deadline = _NEVER
        return StreamTransport(self, self.downstream.transport)

    async def send_data(self, data: bytes) -> None:
        """Through a tunnel."""
        self.write_data(data)
        await self.flush()

    async def send_end(self) -> None:
        """Our side of a tunnel has ended."""
        self.write_end()
        await self.flush()


class Http2Downstream(Multiplexed[Http2Stream]):
    """One client's connection."""

    def __init__(self, downstream: Downstream, chain: config.HttpChain, dataplane: Dataplane) -> None:
        settings = dataplane.settings
        limits = Http2Limits(
            settings.max_request_headers_kb * 1024,
            settings.max_headers_count,
            settings.headers_with_underscores_action,
            settings.max_concurrent_streams,
            settings.initial_stream_window_size,
            settings.initial_connection_window_size,
        )
        super().__init__(downstream.transport, http2_server(limits, settings.codec, dataplane.clock))
        self.downstream = downstream
        self.chain = chain
        self.dataplane = dataplane
        self.silence = settings.stream_idle_timeout or _NEVER
        self._connection_idle = chain.idle_timeout or settings.connection_idle_timeout or _NEVER
        self.idle = min(self._connection_idle, self.silence)
        self._most = settings.max_concurrent_streams + _UNWINDING
        self._in_head = False
        self._leaving = False
        self._nursery: trio.Nursery

    async def serve(self) -> None:
        """Until the client leaves, breaks the protocol, or is told to go; exchanges under way end with it."""
        dataplane = self.dataplane
        self.downstream.drain = self._part
        broken: Exception | None = None
        with self.downstream.scope:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self.open(nursery, dataplane.batch)
                self._rest()
                try:
                    await self.read()
                except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                    broken = exc
                finally:
                    with Pass():
                        for stream in tuple(self.streams.values()):
                            stream.leave()
                    for stream in tuple(self.streams.values()):
                        if not stream.strand.task:
                            stream.strand.end()
                    for stream in self.finishing:  # nobody will take the rest of these
                        self.finished(stream)
        for reason, count in self.codec.counts.items():
            dataplane.stats.refused("codec", reason, count)
        if broken is not None:
            raise broken
        if self.codec.failed:
            dataplane.stats.refused("http2", self.codec.failed)
        elif self.downstream.timed_out:
            dataplane.stats.refused("http2", "request_headers_timeout" if self._in_head else "idle_timeout")
        await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        """Write what is left, a GOAWAY above all, and read on for a moment, so that the close is no reset."""
        transport = self.transport
        with trio.move_on_after(_LINGER):
            try:
                self.codec.goaway()
                await self.outbox.finish()
                await transport.send_eof()
                while await transport.receive():
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    def _rest(self) -> None:
        """No exchange is under way: the connection may be idle for so long."""
        self.downstream.busy = False
        self.downstream.deadline = self.dataplane.now + self._connection_idle

    def received(self) -> None:
        if self.codec.in_head:
            if not self._in_head and self.dataplane.settings.request_headers_timeout:
                self._in_head = True
                self.downstream.deadline = self.dataplane.clock() + self.dataplane.settings.request_headers_timeout
        elif self._in_head:
            self._in_head = False
            if self.streams:
                self.downstream.deadline = _NEVER
            else:
                self._rest()

    def _part(self) -> None:
        """Draining: ask for no more requests, and close when none is left."""
        if not self._leaving:
            self._leaving = True
            self.codec.announce_shutdown()
            self.kick()
        elif not self.streams:
            self.downstream.scope.cancel()

    # What arrives

    def head_received(self, event: HeadReceived) -> None:
        head = event.head
        assert isinstance(head, RequestHead)
        number = event.stream_id
        dataplane = self.dataplane
        if len(self.streams) >= self._most:
            dataplane.stats.refused("http2", "too_many_exchanges")
            self.codec.reset(number, REFUSED_STREAM)
            return
        if head.upgrade is not None:
            _to_upgrade(head)
        stream = self.streams[number] = Http2Stream(self, number, head, end=event.end)
        if head.upgrade is not None:
            stream.put(END)  # of the request; what follows is the tunnel's
        dataplane.exchanges.add(stream)
        self.downstream.busy = True
        self.downstream.deadline = _NEVER
        stream.strand = Strand(self._serve_stream(stream), self._nursery, self._token)
        stream.strand.ready()

    def stream_reset(self, stream: Http2Stream, event: StreamReset) -> None:
        if stream.complete:
            self.finished(stream)
        stream.leave()
        if not event.remote:
            self.dataplane.stats.refused("http2", event.reason)

    # Exchanges

    async def _serve_stream(self, stream: Http2Stream) -> None:
        try:
            await exchange(stream, self.dataplane)
        except Exception as exc:  # the fault boundary: a bug costs one stream, never its neighbours
            self.dataplane.stats.refused("stream", "internal_error")
            self.dataplane.log.error("exchange failed", peer=self.transport.remote, error=repr(exc), exc_info=exc)
        finally:
            self._ended(stream)
        await finish()

    def _ended(self, stream: Http2Stream) -> None:
        if not stream.complete:
            stream.reset(INTERNAL_ERROR)
        if not stream.over and stream.bytes_out:  # how much of it is left is asked after the write
            stream.deadline = self.dataplane.now + self.idle
            self.finishing.append(stream)
            self.kick()
        else:
            if not stream.over and not stream.request_done:
                self.outbox.flush()  # the RST_STREAM that follows would drop trailers that are queued
            self.finished(stream)

    def finished(self, stream: Http2Stream) -> None:
        if self.streams.pop(stream.number, None) is None:
            return
        if stream.owed:
            self.credit(stream)
        if not stream.over and (not stream.request_done or stream.tunnelled):
            stream.reset(NO_ERROR)  # RFC 9113 8.1: the rest of the request is of no use
        self.dataplane.exchanges.discard(stream)
        if not self.streams:
            self._rest()


def _to_upgrade(head: RequestHead) -> None:
    """An extended CONNECT is the upgrade that it stands for: what policy and routes see is a GET (Envoy)."""
    head.method = b"GET"
    head.content_length = 0
    head.headers.put(b"upgrade", head.upgrade or b"")


async def serve_http2(downstream: Downstream, chain: config.HttpChain, dataplane: Dataplane) -> None:
    """Serve until either side closes. Raises trio.BrokenResourceError when the client breaks the connection."""
    await Http2Downstream(downstream, chain, dataplane).serve()
