"""The messages that codecs make and take, and the interface of an HTTP/1 codec.

Events are a head object, `bytes` for body data, and an `End`; `None` means that more input is needed.
Heads are mutable and made once per message. No I/O, no Trio.
"""

from __future__ import annotations

from typing import Final, Protocol

from agent.codec.headers import Headers

CHUNKED: Final = -1
"""Value of `content_length` for a body whose length is not known in advance."""


class ProtocolError(Exception):
    """The peer broke the protocol. `status` is what a server answers (400, 413, 414, 431, 501, 505 …),
    `reason` a short token for logs and counters (`cl_te_conflict`, `bad_header_name`, …)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class RequestHead:
    """A request line and its fields.

    `target` is as received; `scheme`, `authority` and `path` (query included) are taken from it and Host.
    `content_length`: 0 none, n > 0 bytes, CHUNKED. `upgrade` is the lower-case Upgrade token of a request
    that asks to switch protocols (`Connection: upgrade`), or None.
    """

    __slots__ = (
        "authority",
        "content_length",
        "expect_continue",
        "headers",
        "keep_alive",
        "method",
        "path",
        "scheme",
        "size",
        "target",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        *,
        version: bytes = b"1.1",
        scheme: bytes = b"http",
        authority: bytes = b"",
        path: bytes | None = None,
        content_length: int = 0,
        keep_alive: bool = True,
        expect_continue: bool = False,
        upgrade: bytes | None = None,
        size: int = 0,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.version = version
        self.scheme = scheme
        self.authority = authority
        self.path = target if path is None else path
        self.content_length = content_length
        self.keep_alive = keep_alive
        self.expect_continue = expect_continue
        self.upgrade = upgrade
        self.size = size


class ResponseHead:
    """A status line and its fields. `content_length` None: the codec decides (length field, chunked, or close).

    From a client codec it is 0, n, CHUNKED, or None for a body that ends with the connection.
    """

    __slots__ = ("content_length", "headers", "keep_alive", "reason", "size", "status", "version")

    def __init__(
        self,
        status: int,
        headers: Headers,
        *,
        reason: bytes = b"",
        version: bytes = b"1.1",
        content_length: int | None = None,
        keep_alive: bool = True,
        size: int = 0,
    ) -> None:
        self.status = status
        self.headers = headers
        self.reason = reason
        self.version = version
        self.content_length = content_length
        self.keep_alive = keep_alive
        self.size = size


class End:
    """The end of a message; `trailers` may be None."""

    __slots__ = ("trailers",)

    def __init__(self, trailers: Headers | None = None) -> None:
        self.trailers = trailers


END: Final = End()
"""The end of a message without trailers, made once."""


class Limits:
    """Bounds on what a peer may send; defaults are Envoy's (60 KiB head, 100 fields)."""

    __slots__ = ("max_fields", "max_head_bytes", "underscores")

    def __init__(self, max_head_bytes: int = 60 * 1024, max_fields: int = 100, underscores: str = "allow") -> None:
        self.max_head_bytes = max_head_bytes
        self.max_fields = max_fields
        self.underscores = underscores  # allow | reject | drop


class Http1Server(Protocol):
    """Server side of one connection: requests in, responses out.

    Cycle: feed bytes with `receive_data` (b"" is EOF), drain `next_event` until it gives None. Write one
    response with `send_head`, `send_data`, `send_end`; then `start_next()` returns True when the connection
    may carry another request, whose events (already received ones included) follow. Events of a pipelined
    request are not given out before `start_next`. Every method is synchronous and raises ProtocolError on
    the peer's faults; after one, only `send_head/send_data/send_end` of a final response are allowed and
    the connection must close.
    """

    must_close: bool
    """True once this connection cannot carry another exchange (Connection: close, HTTP/1.0, error, EOF)."""

    counts: dict[str, int]
    """What was dropped or tolerated on this connection, by reason (`underscore_field_dropped`, …)."""

    @property
    def buffered(self) -> int:
        """Bytes received and not given out yet; a driver stops reading while this is large."""

    def receive_data(self, data: bytes) -> None: ...
    def next_event(self) -> RequestHead | bytes | End | None: ...
    def send_head(self, head: ResponseHead) -> bytes:
        """Encode an informational (1xx, not 101) or final head.

        The body is framed by `head.content_length`; None takes the field `content-length`, else chunked. An HTTP/1.0
        client gets a body of unknown length until the connection closes. HEAD, 204, 304 and CONNECT 2xx get none.
        `transfer-encoding` and `connection` of the head are replaced by what the codec decides; `head.keep_alive`
        False adds `connection: close`. A 101 is a final head and needs a request with `upgrade`.
        """

    def send_data(self, data: bytes) -> bytes: ...
    def send_end(self, trailers: Headers | None = None) -> bytes: ...
    def start_next(self) -> bool: ...
    def take_unread(self) -> bytes:
        """After an upgrade or CONNECT was accepted: the bytes received behind the head."""


class Http1Client(Protocol):
    """Client side of one connection: one request at a time out, its response in.

    `next_event` gives informational ResponseHeads (100..199 but 101), then the final head, data, End.
    """

    reusable: bool
    """True when request and response are complete and both sides keep the connection alive."""

    counts: dict[str, int]
    """What was dropped or tolerated on this connection, by reason (`junk_after_response`, …)."""

    @property
    def buffered(self) -> int:
        """Bytes received and not given out yet; a driver stops reading while this is large."""

    def send_head(self, head: RequestHead) -> bytes:
        """Encode `method path version` and the fields; frames by head.content_length (0, n, CHUNKED)."""

    def send_data(self, data: bytes) -> bytes: ...
    def send_end(self, trailers: Headers | None = None) -> bytes: ...
    def receive_data(self, data: bytes) -> None: ...
    def next_event(self) -> ResponseHead | bytes | End | None: ...
    def start_next(self) -> bool:
        """Make ready for the next request; False (and no change) unless `reusable`."""

    def take_unread(self) -> bytes:
        """Bytes received behind the end of the response: the tunnel's first ones after 101, else the peer's fault."""
