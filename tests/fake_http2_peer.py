"""An HTTP/2 peer by hand, in front of a codec without a socket: it sends what it is told and reads what comes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hpack import Decoder, Encoder

from agent.codec import http2_client, http2_server
from agent.codec.headers import Headers
from agent.codec.http2 import (
    DataReceived,
    Event,
    HeadReceived,
    Http2Limits,
    StreamReset,
    TrailersReceived,
)
from agent.codec.message import RequestHead, ResponseHead

ENGINES = ("fast", "reference")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_HEAD, CONNECT_PROTOCOL = 1, 2, 3, 4, 5, 6, 8

Fields = list[tuple[bytes, bytes]]

GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.example"), (b":path", b"/")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]
OK: Fields = [(b":status", b"200")]


class Frame(NamedTuple):
    """A frame that the codec has sent; `fields` is the header block that a HEADERS frame begins.

    They are hpack's HeaderTuple or NeverIndexedHeaderTuple.
    """

    kind: int
    flags: int
    stream: int
    payload: bytes
    fields: Fields

    @property
    def code(self) -> int:
        """The error code of RST_STREAM and GOAWAY."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload[:4], "big")

    @property
    def last_stream(self) -> int:
        return int.from_bytes(self.payload[:4], "big")

    @property
    def end(self) -> bool:
        return bool(self.flags & END_STREAM)


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def data(stream: int, body: bytes = b"", *, end: bool = False, padding: int | None = None) -> bytes:
    flags = END_STREAM if end else 0
    if padding is None:
        return frame(DATA, flags, stream, body)
    return frame(DATA, flags | PADDED, stream, bytes((padding,)) + body + bytes(padding))


def settings(*values: tuple[int, int], ack: bool = False) -> bytes:
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in values)
    return frame(SETTINGS, ACK if ack else 0, 0, payload)


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def rst_stream(stream: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last_stream: int, code: int = 0) -> bytes:
    return frame(GOAWAY, 0, 0, last_stream.to_bytes(4, "big") + code.to_bytes(4, "big"))


def ping(payload: bytes = b"12345678", *, ack: bool = False) -> bytes:
    return frame(PING, ACK if ack else 0, 0, payload)


class FakePeer:
    """The other side of `codec`. `frames` are all that it has sent, `events` all that it has given out."""

    def __init__(self, engine: str, *, server: bool, limits: Http2Limits | None = None, greet: bool = True) -> None:
        self.now = 0.0
        make = http2_server if server else http2_client
        self.codec = make(limits or Http2Limits(), engine, lambda: self.now)
        self.server = server
        self.encoder = Encoder()
        self.decoder = Decoder(max_header_list_size=1 << 20)
        self.events: list[Event] = []
        self.frames: list[Frame] = []
        self._bytes = b""
        self._preface = b"" if server else PREFACE
        self._block = b""
        if greet:
            self.take((PREFACE if server else b"") + settings() + settings(ack=True))
            self.sent()

    def take(self, *pieces: bytes) -> list[Event]:
        """Give the codec bytes; the events of them."""
        given: list[Event] = []
        for piece in pieces:
            given += self.codec.receive_data(piece)
        self.events += given
        return given

    def block(self, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Compress a field list; blocks must be sent in the order in which they were made."""
        return bytes(self.encoder.encode(list(fields)))

    def headers(self, stream: int, fields: Iterable[tuple[bytes, bytes]], *, end: bool = True) -> bytes:
        return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, self.block(fields))

    def read(self, limit: int = 1 << 16) -> list[Frame]:
        """The frames that one `data_to_send` completes."""
        return self._parse(self.codec.data_to_send(limit))

    def sent(self) -> list[Frame]:
        """The frames that the codec has to send until it has no more."""
        found: list[Frame] = []
        while piece := self.codec.data_to_send(1 << 16):
            found += self._parse(piece)
        assert not self._bytes, "half a frame is left"
        return found

    def _parse(self, piece: bytes) -> list[Frame]:
        found: list[Frame] = []
        self._bytes += piece
        if self._preface:
            assert self._bytes.startswith(self._preface)
            self._bytes, self._preface = self._bytes[len(self._preface) :], b""
        while len(self._bytes) >= 9 and len(self._bytes) >= 9 + (size := int.from_bytes(self._bytes[:3], "big")):
            kind, flags = self._bytes[3], self._bytes[4]
            stream = int.from_bytes(self._bytes[5:9], "big")
            payload, self._bytes = self._bytes[9 : 9 + size], self._bytes[9 + size :]
            if kind == HEADERS:
                self._block = payload[5:] if flags & PRIORITIZED else payload
                found.append(Frame(kind, flags, stream, payload, []))
            elif kind == CONTINUATION:
                self._block += payload
            if kind not in (HEADERS, CONTINUATION):
                found.append(Frame(kind, flags, stream, payload, []))
            elif flags & END_HEADERS:
                found[-1].fields.extend(self.decoder.decode(self._block, raw=True))
        self.frames += found
        return found

    def fails(self, data: bytes) -> int:
        """Give the codec bytes that must kill the connection; the code of its GOAWAY, the last thing it sends."""
        self.take(data)
        assert self.codec.failed, "the connection lives"
        frames = self.sent()
        assert frames, "no GOAWAY"
        assert frames[-1].kind == GOAWAY
        return frames[-1].code

    def alive(self) -> bool:
        """Whether the connection still answers a ping."""
        if self.codec.failed:
            return False
        self.take(ping(b"alive???"))
        return any(sent.kind == PING and sent.payload == b"alive???" for sent in self.sent())


class FakeClient(FakePeer):
    """A client; the codec is a server's."""

    def __init__(self, engine: str, limits: Http2Limits | None = None, *, greet: bool = True) -> None:
        super().__init__(engine, server=True, limits=limits, greet=greet)


class FakeServer(FakePeer):
    """A server; the codec is a client's."""

    def __init__(self, engine: str, limits: Http2Limits | None = None, *, greet: bool = True) -> None:
        super().__init__(engine, server=False, limits=limits, greet=greet)

    def requested(self, *, method: bytes = b"GET", end: bool = True) -> int:
        """Let the codec begin a request; the frames of it are in `frames`."""
        number = self.codec.open_stream(request(method), end=end)
        self.sent()
        return number


def request(
    method: bytes = b"GET",
    *fields: tuple[bytes, bytes],
    path: bytes = b"/",
    length: int = 0,
    upgrade: bytes | None = None,
    authority: bytes = b"a.example",
) -> RequestHead:
    return RequestHead(
        method, path, Headers(fields), authority=authority, path=path, content_length=length, upgrade=upgrade
    )


def response(status: int = 200, *fields: tuple[bytes, bytes]) -> ResponseHead:
    return ResponseHead(status, Headers(fields))


def heads(events: Iterable[Event]) -> list[HeadReceived]:
    return [event for event in events if isinstance(event, HeadReceived)]


def body(events: Iterable[Event], stream: int) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, DataReceived) and event.stream_id == stream)


def resets(events: Iterable[Event]) -> list[StreamReset]:
    return [event for event in events if isinstance(event, StreamReset)]


def trailers(events: Iterable[Event]) -> list[TrailersReceived]:
    return [event for event in events if isinstance(event, TrailersReceived)]
