"""gRPC's words over HTTP: who speaks it, its statuses beside HTTP's, its messages. Pure.

The mappings are Envoy's; the forms are those of gRPC's "HTTP/2 protocol" document (PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from agent.codec.headers import Headers

_TYPE: Final = b"application/grpc"
_AFTER_TYPE: Final[frozenset[bytes]] = frozenset((b"", b"+", b";", b"-"))  # the last one is gRPC-Web's
_FROM_HTTP: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_TO_HTTP: Final[tuple[int, ...]] = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)
_UNKNOWN: Final = 2
DEADLINE_EXCEEDED: Final = 4

_MESSAGE_LIMIT: Final = 2048
"""Bytes of a grpc-message before it is encoded: a client takes 8 KiB of head, and a byte may become three."""
_PLAIN: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def is_grpc(headers: Headers) -> bool:
    """Whether a request is a gRPC call: its content type is application/grpc, or one of that family."""
    value = headers.index.get(b"content-type")
    return value is not None and value.startswith(_TYPE) and value[len(_TYPE) : len(_TYPE) + 1] in _AFTER_TYPE


def status_of_http(status: int) -> int:
    """The grpc-status that stands for an HTTP status: of a local reply, or of a response without a grpc-status."""
    return _FROM_HTTP.get(status, _UNKNOWN)


def status_number(text: str) -> int:
    """A grpc-status as a number; whatever is none of the 17 counts as UNKNOWN, for the peer may write anything."""
    if text.isascii() and text.isdigit() and len(text) <= 2 and int(text) < len(_TO_HTTP):
        return int(text)
    return _UNKNOWN


def http_of_status(status: int) -> int:
    """The HTTP status that a grpc-status counts as, where answers are judged by HTTP's (outlier detection)."""
    return _TO_HTTP[status]


def message(body: bytes) -> bytes:
    """A local reply's body as grpc-message: percent-encoded, and cut to what every client takes."""
    return quote(body[:_MESSAGE_LIMIT], safe=_PLAIN).encode()
