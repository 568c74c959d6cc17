"""The reference HTTP/1 engine: h11 reads the fields of a head.

Slow and plain, the oracle for the fast engine: a regular expression of the grammar finds the fields and h11 must
agree that the head is valid and find as many. Framing and meaning are the gate's business.
"""

from __future__ import annotations

import re
from typing import Final

import h11

from agent.codec.gate import CRLF
from agent.codec.headers import Headers

_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)\r\n")
_OK_LINE: Final = b"HTTP/1.1 200 OK"
_MAX_HEAD: Final = 16 * 1024 * 1024


def read_request_fields(head: bytes) -> Headers | None:
    """The fields of a complete request head; None when h11 or the grammar refuses it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
    return _agree(connection, head)


def read_response_fields(head: bytes) -> Headers | None:
    """The fields of a complete response head; None when h11 or the grammar refuses it."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    connection.send(h11.EndOfMessage())
    # The gate has judged the status line; h11 would also ask whether a 101 was proposed.
    return _agree(connection, _OK_LINE + head[head.find(CRLF) :])


def _agree(connection: h11.Connection, head: bytes) -> Headers | None:
    try:
        connection.receive_data(head)
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, h11.Request | h11.Response):
        return None
    items: list[tuple[bytes, bytes]] = []
    position = head.find(CRLF) + 2
    while found := _FIELD.match(head, position):
        items.append((found.group(1), found.group(2).rstrip(b" \t")))
        position = found.end()
    if len(event.headers) != len(items) or head[position:] != CRLF:
        return None
    return Headers(items)
