"""The interface of an HTTP/2 codec: one connection, either role, bytes in and events out. No I/O, no Trio.

Both engines (h2.py, h2_fast.py) implement `Http2`; what RFC 9113 leaves to us and what floods have taught is judged by
the gate in front of both, so that they refuse the same things for the same reasons.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, TypeAlias

from agent.codec.headers import Headers
from agent.codec.message import Limits, RequestHead, ResponseHead

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
SETTINGS_TIMEOUT: Final = 0x4
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
CONNECT_ERROR: Final = 0xA
ENHANCE_YOUR_CALM: Final = 0xB
INADEQUATE_SECURITY: Final = 0xC
HTTP_1_1_REQUIRED: Final = 0xD


class Http2Limits(Limits):
    """What a peer may do. Windows are what we let it send unread: bytes per stream and per connection.

    A connection's window begins at 65535 bytes, and what is asked for beyond is told to the peer; RFC 9113 6.9.2 knows
    no way to begin with less.

    Defaults: heads as for HTTP/1 (Envoy: 60 KiB, 100 fields); 256 streams (more than the 100
    that RFC 9113 6.5.2 asks for at least and Envoy advises at the edge); windows small enough that a
    connection costs at most a megabyte however many streams stall (Envoy's advice at the edge).
    """

    __slots__ = (
        "connection_window",
        "max_concurrent_streams",
        "stream_window",
    )

    def __init__(
        self,
        max_head_bytes: int = 60 * 1024,
        max_fields: int = 100,
        underscores: str = "allow",
        max_concurrent_streams: int = 256,
        stream_window: int = 256 * 1024,
        connection_window: int = 1024 * 1024,
    ) -> None:
        super().__init__(max_head_bytes, max_fields, underscores)
        self.max_concurrent_streams = max_concurrent_streams
        self.stream_window = stream_window
        self.connection_window = connection_window


class HeadReceived:
    """A request (server role) or a response, informational ones included (client role). `end`: it has no body.

    `head.content_length` is 0 when `end`, else the field's value, else CHUNKED. Names are lower case, cookie crumbs are
    one field, no pseudo-header and no connection-specific field is left in `head.headers`. A request's `host` field
    is never among them: `head.authority` has its value where `:authority` is missing. `head.version` is b"2".
    An extended CONNECT (RFC 8441) has `head.upgrade` set to its `:protocol` and keeps the method CONNECT.
    """

    __slots__ = ("end", "head", "stream_id")

    def __init__(self, stream_id: int, head: RequestHead | ResponseHead, end: bool) -> None:
        self.stream_id = stream_id
        self.head = head
        self.end = end


class DataReceived:
    """Body data; `credit` is what to give back with `consume` once it has been passed on (padding included)."""

    __slots__ = ("credit", "data", "end", "stream_id")

    def __init__(self, stream_id: int, data: bytes, credit: int, end: bool) -> None:
        self.stream_id = stream_id
        self.data = data
        self.credit = credit
        self.end = end


class TrailersReceived:
    """The end of a message by trailers."""

    __slots__ = ("stream_id", "trailers")

    def __init__(self, stream_id: int, trailers: Headers) -> None:
        self.stream_id = stream_id
        self.trailers = trailers


class StreamReset:
    """The stream is over before its time. `remote`: the peer reset it; else the codec did, and `reason` says why.

    Comes only for streams whose head was given out before.
    """

    __slots__ = ("code", "reason", "remote", "stream_id")

    def __init__(self, stream_id: int, code: int, remote: bool, reason: str = "") -> None:
        self.stream_id = stream_id
        self.code = code
        self.remote = remote
        self.reason = reason


class GoAwayReceived:
    """The peer takes no new streams; those above `last_stream_id` were not and will not be processed.

    May come twice (a notice with 2^31-1, then the real one). A StreamReset is not given for the streams above it:
    the driver ends them.
    """

    __slots__ = ("code", "last_stream_id")

    def __init__(self, last_stream_id: int, code: int) -> None:
        self.last_stream_id = last_stream_id
        self.code = code


class SettingsReceived:
    """The peer's settings have changed: `max_streams` or `extended_connect` may be new."""

    __slots__ = ()


class PongReceived:
    """The answer to `ping`."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


Event: TypeAlias = (
    HeadReceived | DataReceived | TrailersReceived | StreamReset | GoAwayReceived | SettingsReceived | PongReceived
)


class Http2(ABC):
    """One connection. Preface and SETTINGS are queued from the start. Nothing here raises for what the peer does.

    After `failed` is set the connection is dead: write what `data_to_send` still gives (a GOAWAY) and close.
    Methods on a stream that has ended or was reset meanwhile do nothing (`open_stream` and `send_head` excepted:
    ProtocolError(500, …) for heads that cannot be sent: `bad_field_to_send`, `no_request_begun` …). Heads to send
    may be in HTTP/1 form: names are lowered, connection-specific fields and `host` are left out.
    """

    failed: str
    """Why the connection is dead (a token for logs and counters: `rapid_reset`, `bad_preface` …); "" while it lives."""

    counts: dict[str, int]
    """What was refused, dropped or tolerated on this connection, by reason."""

    max_streams: int
    """How many streams the peer lets us have open at once (client role); 100 until its SETTINGS have come."""

    extended_connect: bool
    """Whether the peer takes extended CONNECT (client role). As a server, we always say that we do."""

    @property
    @abstractmethod
    def in_head(self) -> bool:
        """Whether a header block has begun and not ended; the peer must not take forever."""

    @abstractmethod
    def receive_data(self, data: bytes) -> list[Event]:
        """Take bytes from the peer; what they say. May queue bytes to send (acks, RST_STREAM, GOAWAY)."""

    @abstractmethod
    def data_to_send(self, limit: int) -> bytes:
        """About `limit` bytes at most of what the windows let through, round robin over the streams; b"": nothing."""

    @abstractmethod
    def open_stream(self, head: RequestHead, *, end: bool) -> int:
        """Client: begin a request; the stream's number, or 0 when no further stream can ever be opened here.

        `head.upgrade` set: an extended CONNECT of that protocol. The driver keeps count of `max_streams`.
        """

    @abstractmethod
    def send_head(self, stream_id: int, head: ResponseHead, *, end: bool) -> None:
        """Server: an informational (1xx) or the final head."""

    @abstractmethod
    def send_data(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Queue body data, whatever the window: the driver waits until `queued` is small before it queues more."""

    @abstractmethod
    def send_end(self, stream_id: int, trailers: Headers | None = None) -> None:
        """End our side."""

    @abstractmethod
    def queued(self, stream_id: int) -> int:
        """Bytes of body queued and not yet given out by `data_to_send`; 0 for a stream that is gone."""

    @abstractmethod
    def consume(self, stream_id: int, credit: int) -> None:
        """Data was passed on: let the peer send as much again (on the connection only, when the stream has ended)."""

    @abstractmethod
    def reset(self, stream_id: int, code: int) -> None:
        """RST_STREAM; what is queued for it is dropped. No event comes of it."""

    @abstractmethod
    def ping(self, payload: bytes) -> None:
        """Ask for a PongReceived; 8 bytes."""

    @abstractmethod
    def announce_shutdown(self) -> None:
        """Server: GOAWAY with 2^31-1 and NO_ERROR: please open no more streams (RFC 9113 6.8)."""

    @abstractmethod
    def goaway(self, code: int = NO_ERROR) -> None:
        """GOAWAY with the last stream that was given out; later streams are refused. Open ones go on."""
