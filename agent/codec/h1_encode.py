"""HTTP/1 heads, chunks and trailers as bytes. Framing fields are decided by the callers, never by the head's fields.

One join per head; injection is caught by counting line ends in the result, not by looking at every value.
"""

from __future__ import annotations

from collections.abc import Set
from http import HTTPStatus
from typing import Final

from agent.codec.gate import is_token
from agent.codec.headers import Headers
from agent.codec.message import ProtocolError

_COLON_JOIN: Final = b": ".join
_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_STATUS_LINES: Final = {code: b"HTTP/1.1 %d %b" % (code, phrase) for code, phrase in _PHRASES.items()}

# Names seen to be tokens. Bounded: it stops growing when full, later names are then checked each time.
_MAX_NAMES: Final = 4096
_good_names: set[bytes] = set()


def status_line(status: int, reason: bytes) -> bytes:
    """A status line without its line end."""
    if not reason or reason == _PHRASES.get(status):
        return _STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status
    return b"HTTP/1.1 %d %b" % (status, reason)


def encode_head(line: bytes, headers: Headers, drop: Set[bytes], extra: bytes) -> bytes:
    """Start line, the fields but those in `drop` (lower case), `extra` (complete lines), and the empty line.

    Raises ProtocolError (500, `bad_field_to_send`) for a name, value or line that would break out of its place.
    """
    items = headers.items
    index = headers.index
    if not index.keys().isdisjoint(drop):
        items = [item for item in items if item[0].lower() not in drop]
    if not all_tokens(index.keys()):
        raise ProtocolError(500, "bad_field_to_send")
    out = b"\r\n".join([line, *map(_COLON_JOIN, items), b""])
    ends = len(items) + 1
    if out.count(b"\n") != ends or out.count(b"\r") != ends or out.find(0) >= 0:
        raise ProtocolError(500, "bad_field_to_send")
    return out + extra + b"\r\n"


def encode_chunk(data: bytes) -> bytes:
    """One chunk; nothing for no data, because an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def encode_last_chunk(trailers: Headers | None, forbidden: Set[bytes]) -> bytes:
    """The last chunk and the trailers but those in `forbidden`."""
    if trailers is None:
        return b"0\r\n\r\n"
    return encode_head(b"0", trailers, forbidden, b"")


def all_tokens(names: Set[bytes]) -> bool:
    """Whether all of these lower-case names are tokens; names seen before cost nothing."""
    if names <= _good_names:
        return True
    for name in names:
        if name not in _good_names:
            if not is_token(name):
                return False
            if len(_good_names) < _MAX_NAMES:
                _good_names.add(name)
    return True
