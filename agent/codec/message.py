"""The messages that codecs make and take.

Events are a head object, `bytes` for body data, and an `End`; `None` means that more input is needed.
Heads are mutable and made once per message. No I/O, no Trio.
"""

from __future__ import annotations

from typing import Final

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
