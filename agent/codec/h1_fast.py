"""The fast HTTP/1 engine: llhttp, by way of httptools, reads the fields of a head.

Only whole heads that passed the gate's byte check come here, each through a parser of its own (0.2 us), so nothing
of llhttp's state outlives a head. Framing and meaning are the gate's business.
"""

from __future__ import annotations

from typing import Final

import httptools

from agent.codec.gate import CRLF
from agent.codec.headers import Headers

# llhttp knows a fixed list of methods, and expects things of a 101; the gate judges the real first line.
_PLAIN_REQUEST: Final = b"GET / HTTP/1.1"
_PLAIN_RESPONSE: Final = b"HTTP/1.1 200 OK"
_BLANKS: Final = frozenset((b" ", b"\t"))


class _Fields:
    """Collects fields into a `Headers` as llhttp reports them."""

    __slots__ = ("headers", "index", "items")

    def __init__(self) -> None:
        self.headers = headers = Headers.__new__(Headers)
        self.items: list[tuple[bytes, bytes]] = []
        self.index: dict[bytes, bytes] = {}
        headers.items = self.items
        headers.index = self.index

    def on_header(self, name: bytes, value: bytes) -> None:
        if value[-1:] in _BLANKS:
            value = value.rstrip(b" \t")
        self.items.append((name, value))
        name = name.lower()
        if name in self.index:
            self.index[name] += (b"; " if name == b"cookie" else b", ") + value
        else:
            self.index[name] = value


def read_request_fields(head: bytes) -> Headers | None:
    """The fields of a complete request head; None when llhttp refuses it."""
    fields = _Fields()
    try:
        httptools.HttpRequestParser(fields).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        rest = _other_line(head, _PLAIN_REQUEST)
        return read_request_fields(rest) if rest is not None else None
    return fields.headers


def read_response_fields(head: bytes) -> Headers | None:
    """The fields of a complete response head; None when llhttp refuses it."""
    fields = _Fields()
    try:
        httptools.HttpResponseParser(fields).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        rest = _other_line(head, _PLAIN_RESPONSE)
        return read_response_fields(rest) if rest is not None else None
    return fields.headers


def _other_line(head: bytes, line: bytes) -> bytes | None:
    end = head.find(CRLF)
    return None if head[:end] == line else line + head[end:]
