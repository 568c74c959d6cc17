"""HTTP/2 frame by frame, for either side of a test: whatever a peer may say, and nothing that it does by itself unless
the test lets it.

`Http2Peer` reads in a task of its own and answers SETTINGS and PING; it gives windows back as data comes unless `hold`
is set. `http2_connected` is a client of a listener, `Http2Upstream` a server that runs a script for every stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from hpack import Decoder, Encoder
from hyperframe import frame as h2

from agent.bootstrap import Settings
from mesh.net.tcp import Transport, connect
from mesh.net.tls import TlsTransport
from tests.rig import (
    LOOPBACK,
    HungUp,
    ScriptedUpstream,
    Serving,
    Wire,
    http_listener,
    idle_counts,
    serving,
    web,
)

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATIENCE: Final = 30.0  # seconds of a test's clock
WINDOW: Final = 65535  # RFC 9113 6.9.2
PIECE: Final = 16384

Fields = Iterable[tuple[bytes, bytes]]


class PeerStream:
    """What the peer has said on one stream. `heads` are its header blocks, trailers too; `reset` its first RST_STREAM's
    code; `window` is what may still be sent on it.
    """

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.window = window
        self.heads: list[dict[bytes, bytes]] = []
        self.body = bytearray()
        self.trailers: dict[bytes, bytes] | None = None
        self.ended = False
        self.reset: int | None = None

    @property
    def head(self) -> dict[bytes, bytes]:
        """The first block that is not informational."""
        return next(each for each in self.heads if not each.get(b":status", b"").startswith(b"1"))

    @property
    def answered(self) -> bool:
        """Whether a final head has come."""
        return any(not each.get(b":status", b"").startswith(b"1") for each in self.heads)

    @property
    def status(self) -> int:
        """Of the response."""
        return int(self.head[b":status"])

    @property
    def over(self) -> bool:
        """Whether nothing more can come."""
        return self.ended or self.reset is not None


class Http2Peer:
    """One end of a connection. `settings` are announced first; `goaway` is (last stream, code) once one has come."""

    def __init__(
        self, transport: Transport, *, client: bool, hold: bool = False, settings: dict[int, int] | None = None
    ) -> None:
        self.transport = transport
        self.client = client
        self.hold = hold
        self.streams: dict[int, PeerStream] = {}
        self.goaways: list[tuple[int, int]] = []
        self.peer_settings: dict[int, int] = {}
        self.pongs: list[bytes] = []
        self.unacked = 1
        self.window = WINDOW
        self.ended = False
        self.arrived: Callable[[PeerStream], None] = lambda stream: None
        self._next = 1
        self._initial = WINDOW
        self._settings = settings or {}
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._block = b""
        self._block_ends = False
        self._reading = trio.Event()
        self._reading.set()
        self._changed = trio.Event()
        self._sending = trio.Lock()

    # Reading

    async def greet(self) -> None:
        """Preface and settings."""
        frame = h2.SettingsFrame(0, settings=self._settings)
        await self.send_raw((PREFACE if self.client else b"") + frame.serialize())

    def pause(self) -> None:
        """Read no more until `resume`; what is being read already still counts."""
        self._reading = trio.Event()

    def resume(self) -> None:
        self._reading.set()

    async def run(self) -> None:
        """Read until the peer closes."""
        buffer = bytearray() if self.client else bytearray(await self._skip_preface())
        try:
            while True:
                while len(buffer) >= 9:
                    frame, length = h2.Frame.parse_frame_header(memoryview(bytes(buffer[:9])))
                    if len(buffer) < 9 + length:
                        break
                    frame.parse_body(memoryview(bytes(buffer[9 : 9 + length])))
                    del buffer[: 9 + length]
                    await self._take(frame)
                self._tell()
                await self._reading.wait()
                data = await self.transport.receive()
                if not data:
                    return
                buffer += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            self.ended = True
            self._tell()

    async def _skip_preface(self) -> bytes:
        data = b""
        while len(data) < len(PREFACE):
            more = await self.transport.receive()
            if not more:
                raise HungUp(repr(data))
            data += more
        assert data.startswith(PREFACE), data[:40]
        return data[len(PREFACE) :]

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _take(self, frame: h2.Frame) -> None:
        if isinstance(frame, h2.HeadersFrame | h2.ContinuationFrame):
            self._block += frame.data
            self._block_ends = self._block_ends or "END_STREAM" in frame.flags
            if "END_HEADERS" in frame.flags:
                self._take_block(frame.stream_id)
        elif isinstance(frame, h2.DataFrame):
            await self._take_data(frame)
        elif isinstance(frame, h2.SettingsFrame):
            if "ACK" in frame.flags:
                self.unacked -= 1
            else:
                self._take_settings(frame.settings)
                await self.send_frames(h2.SettingsFrame(0, flags=["ACK"]))
        elif isinstance(frame, h2.PingFrame):
            if "ACK" in frame.flags:
                self.pongs.append(frame.opaque_data)
            else:
                await self.send_frames(h2.PingFrame(0, frame.opaque_data, flags=["ACK"]))
        elif isinstance(frame, h2.WindowUpdateFrame):
            if frame.stream_id == 0:
                self.window += frame.window_increment
            else:
                self._stream(frame.stream_id).window += frame.window_increment
        elif isinstance(frame, h2.RstStreamFrame):
            stream = self._stream(frame.stream_id)
            if stream.reset is None:  # a peer may say it again, with STREAM_CLOSED, to what was under way
                stream.reset = frame.error_code
        elif isinstance(frame, h2.GoAwayFrame):
            self.goaways.append((frame.last_stream_id, frame.error_code))

    def _take_settings(self, settings: dict[int, int]) -> None:
        self.peer_settings.update(settings)
        initial = settings.get(h2.SettingsFrame.INITIAL_WINDOW_SIZE, self._initial)
        for each in self.streams.values():
            each.window += initial - self._initial
        self._initial = initial
        self._encoder.header_table_size = min(4096, settings.get(h2.SettingsFrame.HEADER_TABLE_SIZE, 4096))

    def _take_block(self, number: int) -> None:
        fields: dict[bytes, bytes] = {}
        for name, value in self._decoder.decode(self._block, raw=True):
            fields[name] = fields[name] + b"," + value if name in fields else value
        fresh = number not in self.streams
        stream = self._stream(number)
        if stream.answered and self._block_ends and b":status" not in fields:
            stream.trailers = fields
        stream.heads.append(fields)
        stream.ended = self._block_ends
        self._block, self._block_ends = b"", False
        if fresh:
            self.arrived(stream)

    async def _take_data(self, frame: h2.DataFrame) -> None:
        stream = self._stream(frame.stream_id)
        stream.body += frame.data
        stream.ended = "END_STREAM" in frame.flags
        size = frame.flow_controlled_length
        if size and not self.hold:
            updates = [h2.WindowUpdateFrame(0, window_increment=size)]
            if not stream.over:
                updates.append(h2.WindowUpdateFrame(stream.number, window_increment=size))
            await self.send_frames(*updates)

    def _stream(self, number: int) -> PeerStream:
        if number not in self.streams:
            self.streams[number] = PeerStream(number, self._initial)
        return self.streams[number]

    # Waiting

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for what the peer says to make `true()`. Raises HungUp when the connection ends first."""
        with trio.fail_after(PATIENCE):
            while not true():
                if self.ended:
                    raise HungUp("the peer closed")
                await self._changed.wait()

    async def answer(self, stream: PeerStream) -> PeerStream:
        """Wait for all of a response, or its reset."""
        await self.until(lambda: stream.over)
        return stream

    async def closed(self) -> None:
        """Wait until the peer has closed."""
        with trio.fail_after(PATIENCE):
            while not self.ended:
                await self._changed.wait()

    async def pinged(self) -> None:
        """Wait until the peer has read all that was sent before."""
        count = len(self.pongs)
        await self.send_frames(h2.PingFrame(0, b"position"))
        await self.until(lambda: len(self.pongs) > count)

    # Sending

    async def send_raw(self, data: bytes) -> None:
        """Whole, whoever is cancelled: half a frame, or a header block that is never sent, breaks the connection."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
            async with self._sending:
                await self.transport.send(data)

    async def send_frames(self, *frames: h2.Frame) -> None:
        await self.send_raw(b"".join(each.serialize() for each in frames))

    def headers(self, number: int, fields: Fields, *, end: bool = False) -> h2.HeadersFrame:
        """A whole header block in one frame."""
        frame = h2.HeadersFrame(number, self._encoder.encode(list(fields)), flags=["END_HEADERS"])
        if end:
            frame.flags.add("END_STREAM")
        return frame

    async def send_head(self, stream: PeerStream, fields: Fields, *, end: bool = False) -> None:
        """A head, or trailers with `end`."""
        await self.send_frames(self.headers(stream.number, fields, end=end))

    async def send_data(self, stream: PeerStream, data: bytes, *, end: bool = False) -> None:
        """As the windows allow. Raises HungUp when the connection ends; stops silently when the stream is reset."""
        left = memoryview(data)
        while left or end:
            with trio.fail_after(PATIENCE):
                while left and min(self.window, stream.window) <= 0:
                    if self.ended:
                        raise HungUp("the peer closed")
                    if stream.reset is not None:
                        return
                    await self._changed.wait()
            size = min(len(left), PIECE, self.window, stream.window) if left else 0
            frame = h2.DataFrame(stream.number, bytes(left[:size]))
            left = left[size:]
            if end and not left:
                frame.flags.add("END_STREAM")
                end = False
            self.window -= size
            stream.window -= size
            await self.send_frames(frame)

    async def send_reset(self, stream: PeerStream, code: int) -> None:
        await self.send_frames(h2.RstStreamFrame(stream.number, code))

    async def send_goaway(self, last: int, code: int = 0) -> None:
        await self.send_frames(h2.GoAwayFrame(0, last, code))

    async def credit(self, stream: PeerStream, size: int) -> None:
        """Let the peer send so much more on the stream and on the connection."""
        await self.send_frames(
            h2.WindowUpdateFrame(0, window_increment=size),
            h2.WindowUpdateFrame(stream.number, window_increment=size),
        )

    # A client's requests

    async def begin(
        self,
        path: bytes = b"/",
        *,
        method: bytes = b"GET",
        authority: bytes = b"app",
        extra: Fields = (),
        end: bool = True,
    ) -> PeerStream:
        """Send a request's head."""
        fields = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", authority), *extra]
        return await self.open(fields, end=end)

    async def open(self, fields: Fields, *, end: bool = True) -> PeerStream:
        """Send a head of exactly these fields on a stream of its own."""
        number, self._next = self._next, self._next + 2
        stream = self._stream(number)
        await self.send_head(stream, fields, end=end)
        return stream

    async def ask_together(self, count: int) -> list[PeerStream]:
        """So many GETs whose heads leave in one write, and their responses."""
        streams = []
        for _ in range(count):
            number, self._next = self._next, self._next + 2
            streams.append(self._stream(number))
        fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"app")]
        await self.send_frames(*(self.headers(stream.number, fields, end=True) for stream in streams))
        return [await self.answer(stream) for stream in streams]

    async def ask(self, path: bytes = b"/", body: bytes = b"", **how: object) -> PeerStream:
        """One whole request and its response."""
        stream = await self.begin(path, end=not body, **how)  # type: ignore[arg-type]
        if body:
            await self.send_data(stream, body, end=True)
        return await self.answer(stream)

    async def reply(self, stream: PeerStream, status: int = 200, body: bytes = b"", extra: Fields = ()) -> None:
        """A whole response."""
        await self.send_head(stream, [(b":status", b"%d" % status), *extra], end=not body)
        if body:
            await self.send_data(stream, body, end=True)

    async def reply_together(self, streams: list[PeerStream], body: bytes) -> None:
        """Whole responses with a small body, all in one write, whatever the windows."""
        frames: list[h2.Frame] = []
        for stream in streams:
            frames.append(self.headers(stream.number, [(b":status", b"200")]))
            frames.append(h2.DataFrame(stream.number, body, flags=["END_STREAM"]))
        await self.send_frames(*frames)


@asynccontextmanager
async def http2_over(transport: Transport, *, client: bool, **how: object) -> AsyncIterator[Http2Peer]:
    """One end of a connection, which is read meanwhile; the transport is the caller's."""
    peer = Http2Peer(transport, client=client, **how)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.run)
        await peer.greet()
        yield peer
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def http2_connected(port: int, identity: object = None, **how: object) -> AsyncIterator[Http2Peer]:
    """A client with prior knowledge, under mesh TLS when it has an identity; it closes without a word."""
    transport: Transport = await connect(LOOPBACK, port)
    try:
        if identity is not None:
            transport = TlsTransport(transport, identity.client_context, server_side=False)  # type: ignore[attr-defined]
            await transport.handshake()
        async with http2_over(transport, client=True, **how) as peer:
            yield peer
    finally:
        transport.close()


StreamScript = Callable[[Http2Peer, PeerStream], Awaitable[None]]


async def http2_echo(peer: Http2Peer, stream: PeerStream) -> None:
    """Answer with the request's body, or its path when it has none."""
    await peer.until(lambda: stream.over)
    if stream.reset is None:
        body = bytes(stream.body) or stream.head[b":path"]
        await peer.reply(stream, body=body)


class Http2Upstream(ScriptedUpstream):
    """A server that runs `each` for every stream; `peers` are its connections, `seen` the streams, in order."""

    def __init__(
        self, each: StreamScript = http2_echo, *, identity: object = None, hold: bool = False, **settings: int
    ) -> None:
        super().__init__(self._speak, identity)  # type: ignore[arg-type]
        self.each = each
        self.hold = hold
        self.settings = {getattr(h2.SettingsFrame, name.upper()): value for name, value in settings.items()}
        self.peers: list[Http2Peer] = []
        self.seen: list[PeerStream] = []

    async def _speak(self, upstream: ScriptedUpstream, wire: Wire) -> None:
        peer = Http2Peer(wire.transport, client=False, hold=self.hold, settings=self.settings)
        self.peers.append(peer)
        async with trio.open_nursery() as nursery:

            def arrived(stream: PeerStream) -> None:
                self.seen.append(stream)
                nursery.start_soon(self._serve_stream, peer, stream)

            peer.arrived = arrived
            await peer.greet()
            await peer.run()
            nursery.cancel_scope.cancel()

    async def _serve_stream(self, peer: Http2Peer, stream: PeerStream) -> None:
        try:
            await self.each(peer, stream)
        except (HungUp, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the proxy hung up, which is for the test to judge

    @property
    def peer(self) -> Http2Peer:
        """The latest connection."""
        return self.peers[-1]


@asynccontextmanager
async def gateway(
    upstream: ScriptedUpstream | None = None,
    *,
    settings: Settings | None = None,
    cluster: dict[str, Any] | None = None,
    **chain: Any,
) -> AsyncIterator[Serving]:
    """A gateway before an upstream of either version; nothing is leased any more when the body is done and clients are
    gone."""
    upstream = upstream or ScriptedUpstream()
    fields = {"protocol": "http2" if isinstance(upstream, Http2Upstream) else "http1", **(cluster or {})}
    with trio.fail_after(100):
        async with upstream.running():
            given = web(upstream.port, listener=http_listener(**chain), **fields)
            async with serving(given, settings=settings) as served:
                with idle_counts(served.cluster()):
                    yield served
                    await served.settled()
