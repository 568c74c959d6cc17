"""What HPACK's two sides share (RFC 7541): the static table, what an entry costs, and marks and errors.

Fields are (name, value), all bytes. One that is never to be indexed (6.2.3) is of the class NeverIndexed, equal to a
plain one: whoever forwards it keeps the object, and so the mark.
"""

from __future__ import annotations

from typing import Final, NamedTuple

Field = tuple[bytes, bytes]

TABLE_SIZE: Final = 4096
"""Bytes of a dynamic table until the peers agree on another size; ours are never larger."""
ENTRY_COST: Final = 32
"""What an entry of a table, or of a list whose size is bounded, costs beside its bytes (4.1; RFC 9113 6.5.2)."""


class NeverIndexed(NamedTuple):
    """A field whose value must not enter a table that others can probe (7.1.3)."""

    name: bytes
    value: bytes


class CompressionError(Exception):
    """A block that is no header block: nothing after it can be read either (RFC 9113 4.3)."""


class HeadTooLarge(Exception):
    """A block whose fields take more room than the reader allows; it was not read to its end."""


_STATIC = """
:authority
:method=GET
:method=POST
:path=/
:path=/index.html
:scheme=http
:scheme=https
:status=200
:status=204
:status=206
:status=304
:status=400
:status=404
:status=500
accept-charset
accept-encoding=gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""


def _static() -> list[Field]:
    fields: list[Field] = []
    for line in _STATIC.strip().split("\n"):
        name, _, value = line.partition("=")
        fields.append((name.encode(), value.encode()))
    return fields


STATIC: Final = [(b"", b""), *_static()]
"""The static table (appendix A); the first index is 1."""
