"""The fast HTTP/1 engine: a head is cut at its line ends, and each line must be a field by the grammar of RFC 9112 5.

Most lines of most heads were seen before (Host, User-Agent, Accept, Server, …), so lines of such fields are remembered
and not read again. Framing and meaning are the gate's business.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from agent.codec.gate import CRLF
from agent.codec.headers import Headers

Known: TypeAlias = tuple[tuple[bytes, bytes], bytes]
"""(name, value) as it came, and the name in lower case."""

_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")

# Never what a peer might keep secret, nor what differs from message to message.
_REPEATED: Final = frozenset(
    b"accept accept-encoding accept-language cache-control connection content-encoding content-length content-type "
    b"date host pragma server te transfer-encoding user-agent vary via x-envoy-attempt-count "
    b"x-envoy-expected-rq-timeout-ms x-envoy-upstream-service-time x-forwarded-proto".split()
)
_LONGEST: Final = 200
_MOST: Final = 1024

_known: dict[bytes, Known] = {}
"""Bounded: it begins anew when it is full."""


def read_fields(head: bytes) -> Headers | None:
    """The fields of a complete head; None when a line is not a field, bytes that may not stand in one included."""
    headers = Headers()
    items: list[tuple[bytes, bytes]] = []
    index: dict[bytes, bytes] = {}
    headers.items = items
    headers.index = index
    end_of_line = head.find(CRLF)
    end = len(head) - 4
    if end_of_line == end:  # no fields; compiled code raises SystemError for a slice that ends before its start
        return headers
    known = _known
    for line in head[end_of_line + 2 : end].split(CRLF):
        field, name = known.get(line) or _read(line)
        if not name:
            return None
        items.append(field)
        if name in index:
            index[name] += (b"; " if name == b"cookie" else b", ") + field[1]
        else:
            index[name] = field[1]
    return headers


read_request_fields = read_response_fields = read_fields

_NONE: Final[Known] = ((b"", b""), b"")


def _read(line: bytes) -> Known:
    found = _FIELD.fullmatch(line)
    if found is None:
        return _NONE
    name, value = found.groups()
    made = (name, value.rstrip(b" \t")), name.lower()
    if len(line) <= _LONGEST and made[1] in _REPEATED:
        if len(_known) >= _MOST:
            _known.clear()
        _known[line] = made
    return made
