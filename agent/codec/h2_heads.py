"""HTTP/2 field lists and our heads: what RFC 9113 8 asks of them, and what a proxy adds so that HTTP/1 may follow.

The same grammars as HTTP/1's gate (gate.py) judge method, path, authority and values, so that a request means the same
whichever version it came by. Raised are ProtocolErrors: with status 400 the stream is reset as malformed, with 417 or
431 it is answered.

Reasons: those of gate.py, and pseudo_header, duplicate_pseudo_header, missing_pseudo_header, bad_scheme,
host_mismatch, connection_field, bad_te, bad_field_value, content_length_mismatch, protocol_without_connect,
head_in_tunnel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

from agent.codec.gate import FORBIDDEN_TRAILERS, TEXT, check_underscores, is_host, is_host_port, is_target, is_token
from agent.codec.h1_encode import all_tokens
from agent.codec.headers import Headers, breaks_out, marks_all_but
from agent.codec.http2 import Http2Limits
from agent.codec.message import CHUNKED, ProtocolError, RequestHead, ResponseHead

Field = tuple[bytes, bytes]
"""Name and value. What came never indexed (RFC 7541 6.2.3) is of a class of the library's own, and goes on as it is."""
Known = dict[tuple[Field, ...], tuple[Headers, int]]
"""Regular fields that one peer has sent before, as it mostly does from one message to the next, and what they mean.

A field that is marked never indexed equals one that is not: the mark counts that came with the list at first.
"""

_VALUE: Final = itemgetter(1)
_COLON: Final = 0x3A
_SLASH: Final = 0x2F
_TRAILERS: Final = b"trailers"
_METHODS: Final = frozenset((b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"TRACE"))
_SCHEMES: Final = frozenset((b"http", b"https"))
_NAME_BYTES: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz\n"
_VALUE_BYTES: Final = marks_all_but(TEXT)
_SPACE: Final = 0x20
_TAB: Final = 0x09
_ZERO: Final = 0x30
_CONNECTION: Final = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_SPECIAL: Final = frozenset((b"te", b"content-length", b"expect"))
_DROP: Final = _CONNECTION | {b"host", b"http2-settings"}
_DROP_RESPONSE: Final = _CONNECTION | {b"http2-settings"}
_STATUSES: Final = {b"%d" % status: status for status in range(100, 600) if status != 101}
_STATUS_FIELDS: Final = {status: (b":status", code) for code, status in _STATUSES.items()}
_MAX_NAMES: Final = 4096
_LONGEST_NAME: Final = 64
_MAX_KNOWN: Final = 16
_MAX_KNOWN_SIZE: Final = 1024
_MAX_HOSTS: Final = 1024
_LONGEST_HOST: Final = 255
_plain_names: Final[dict[bytes, bool]] = {}
"""Lower-case tokens seen before that belong to no connection: fields that have only these names need no judging."""
_good_hosts: set[bytes] = set()
_FIELD_COST: Final = 4  # colon, space and line end of the same field in HTTP/1
_MAX_DIGITS: Final = 18


class _Pseudo:
    """The pseudo-header fields at the beginning of a request's block, None for those that are not there."""

    __slots__ = ("authority", "count", "method", "path", "protocol", "scheme", "size")

    def __init__(self) -> None:
        self.method: bytes | None = None
        self.scheme: bytes | None = None
        self.authority: bytes | None = None
        self.path: bytes | None = None
        self.protocol: bytes | None = None
        self.count = 0
        self.size = 0


def read_request(
    fields: Sequence[Field], limits: Http2Limits, counts: dict[str, int], known: Known | None = None, *, end: bool
) -> RequestHead:
    """The request that a header block makes; see `agent.codec.http2.HeadReceived`. Raises ProtocolError."""
    pseudo = _pseudo(fields)
    headers, size = read_fields(fields[pseudo.count :], limits, known)
    size += pseudo.size
    if size > limits.max_head_bytes:
        raise ProtocolError(431, "head_too_large")
    method = pseudo.method or b""
    if method not in _METHODS and not is_token(method):
        raise ProtocolError(400, "bad_method")
    index = headers.index
    authority = _authority(pseudo.authority, headers)
    length = 0 if end else CHUNKED
    request = RequestHead(method, b"", headers, version=b"2", authority=authority, content_length=length, size=size)
    if method == b"CONNECT":
        _connect(request, pseudo)
    else:
        _set_path_and_scheme(request, pseudo)
        if pseudo.protocol is not None:
            raise ProtocolError(400, "protocol_without_connect")
    request.target = request.path
    if not _SPECIAL.isdisjoint(index):
        _judge_special(request, end=end)
    if limits.underscores != "allow":
        check_underscores(headers, limits, counts)
    return request


def _pseudo(fields: Sequence[Field]) -> _Pseudo:
    pseudo = _Pseudo()
    unknown = False
    for name, value in fields:
        if not name or name[0] != _COLON:
            break
        pseudo.count += 1
        pseudo.size += len(value)
        before = None
        if name == b":method":
            before, pseudo.method = pseudo.method, value
        elif name == b":path":
            before, pseudo.path = pseudo.path, value
        elif name == b":scheme":
            before, pseudo.scheme = pseudo.scheme, value
        elif name == b":authority":
            before, pseudo.authority = pseudo.authority, value
        elif name == b":protocol":
            before, pseudo.protocol = pseudo.protocol, value
        else:
            unknown = True
        if before is not None:
            raise ProtocolError(400, "duplicate_pseudo_header")
    if unknown:
        raise ProtocolError(400, "pseudo_header")
    return pseudo


def _connect(request: RequestHead, pseudo: _Pseudo) -> None:
    """CONNECT (RFC 9113 8.5) has no path and no scheme; with a :protocol (RFC 8441) it has both."""
    if pseudo.authority is None:
        raise ProtocolError(400, "missing_host")  # a Host field does not stand for it there
    if pseudo.protocol is not None:
        if not is_token(pseudo.protocol):
            raise ProtocolError(400, "protocol_without_connect")
        _set_path_and_scheme(request, pseudo)
        request.upgrade = pseudo.protocol.lower()
        return
    if pseudo.path is not None or pseudo.scheme is not None:
        raise ProtocolError(400, "pseudo_header")
    if not is_host_port(request.authority):
        raise ProtocolError(400, "bad_target_form")
    request.path, request.scheme = request.authority, b"http"


def _judge_special(request: RequestHead, *, end: bool) -> None:
    """Fields that say how the message is to be read."""
    index = request.headers.index
    te = index.get(b"te")
    if te is not None and te.lower() != b"trailers":
        raise ProtocolError(400, "bad_te")
    if b"content-length" in index:
        announced = _length(index[b"content-length"])
        if request.method == b"CONNECT":
            if announced:
                raise ProtocolError(400, "connect_with_body")
            request.headers.remove(b"content-length")  # a tunnel has no length (RFC 9110 9.3.6)
        elif end and announced:
            raise ProtocolError(400, "content_length_mismatch")
        else:
            request.content_length = announced
    if b"expect" in index:
        if index[b"expect"].lower() != b"100-continue":
            raise ProtocolError(417, "bad_expectation")
        request.expect_continue = True


def _authority(authority: bytes | None, headers: Headers) -> bytes:
    host = headers.index.get(b"host")
    if host is not None:
        if authority is None:
            authority = host
        elif host.lower() != authority.lower():
            raise ProtocolError(400, "host_mismatch")
        headers.remove(b"host")
    if authority is None:
        raise ProtocolError(400, "missing_host")
    if authority not in _good_hosts:
        if not is_host(authority):
            raise ProtocolError(400, "bad_host")
        if len(_good_hosts) >= _MAX_HOSTS:
            _good_hosts.clear()
        if len(authority) <= _LONGEST_HOST:
            _good_hosts.add(authority)
    return authority


def _set_path_and_scheme(request: RequestHead, pseudo: _Pseudo) -> None:
    path, scheme = pseudo.path, pseudo.scheme
    if path is None or scheme is None:
        raise ProtocolError(400, "missing_pseudo_header")
    if scheme not in _SCHEMES:
        scheme = scheme.lower()
        if scheme not in _SCHEMES:
            raise ProtocolError(400, "bad_scheme")
    if not is_target(path):
        raise ProtocolError(400, "fragment_in_target" if b"#" in path else "bad_target")
    if path[0] != _SLASH and not (path == b"*" and request.method == b"OPTIONS"):
        raise ProtocolError(400, "bad_target_form")
    request.path, request.scheme = path, scheme


def read_response(
    fields: Sequence[Field],
    limits: Http2Limits,
    counts: dict[str, int],
    method: bytes,
    known: Known | None = None,
    *,
    end: bool,
) -> ResponseHead:
    """The response that a header block makes, to a request of that method. Raises ProtocolError."""
    if not fields or fields[0][0] != b":status":
        raise ProtocolError(400, "missing_pseudo_header")
    status = _STATUSES.get(fields[0][1])
    if status is None:
        raise ProtocolError(400, "bad_status")
    headers, size = read_fields(fields[1:], limits, known)
    index = headers.index
    length = 0 if end else CHUNKED
    if status < 200 or (method == b"CONNECT" and status < 300):
        headers.remove(b"content-length")  # it means nothing there (RFC 9110 8.6, 9.3.6)
    elif status == 204 and index.get(b"content-length") == b"0":
        headers.remove(b"content-length")  # it may not be there (RFC 9110 8.6)
    if b"content-length" in index:
        announced = _length(index[b"content-length"])
        bodyless = method == b"HEAD" or status in (204, 304)
        if announced and (status == 204 or (end and not bodyless)):
            raise ProtocolError(400, "content_length_mismatch")
        if not end:
            length = 0 if bodyless else announced
    if status < 200 and end:
        raise ProtocolError(400, "end_of_interim")
    if limits.underscores != "allow":
        check_underscores(headers, limits, counts)
    return ResponseHead(status, headers, version=b"2", content_length=length, size=size)


def read_fields(fields: Sequence[Field], limits: Http2Limits, known: Known | None = None) -> tuple[Headers, int]:
    """The regular fields of a block, cookie crumbs joined, and their size. Raises ProtocolError.

    With `known`, which the caller keeps for one connection, `fields` is a tuple.
    """
    if known is None:
        return _judge_fields(fields, limits)
    assert isinstance(fields, tuple)
    read = known.get(fields)
    if read is None:
        headers, size = _judge_fields(fields, limits)
        if size <= _MAX_KNOWN_SIZE:
            if len(known) >= _MAX_KNOWN:
                known.clear()
            known[fields] = headers.copy(), size
        return headers, size
    before, size = read
    headers = Headers()
    headers.items = before.items.copy()
    headers.index = before.index.copy()
    return headers, size


def _judge_fields(fields: Sequence[Field], limits: Http2Limits) -> tuple[Headers, int]:
    count = len(fields)
    if count > limits.max_fields:
        raise ProtocolError(431, "too_many_fields")
    headers = Headers()
    index = headers.index
    size = _FIELD_COST * count
    plain, edged = True, False
    known_names = _plain_names
    for name, value in fields:
        size += len(name) + len(value)
        if name not in known_names:
            plain = False
        if value:
            first, last = value[0], value[-1]
            if first in (_SPACE, _TAB) or last in (_SPACE, _TAB):
                edged = True
        index[name] = value
    if size > limits.max_head_bytes:
        raise ProtocolError(431, "head_too_large")
    if not plain:
        _judge_names([name for name, _ in fields])
    text = b"".join([value for _, value in fields])
    if edged or text.translate(_VALUE_BYTES) != text:
        raise ProtocolError(400, "bad_field_value")
    headers.items = list(fields)
    if len(index) != count:
        _join(headers)
    if not plain and not _CONNECTION.isdisjoint(index):
        raise ProtocolError(400, "connection_field")
    return headers, size


def _judge_names(names: Sequence[bytes]) -> None:
    """Whether these are names of fields, in lower case. Raises ProtocolError."""
    text = b"\n".join(names)
    if text.translate(None, _NAME_BYTES) or text.count(b"\n") != len(names) - 1 or b"" in names:
        late = any(name[:1] == b":" for name in names)
        raise ProtocolError(400, "pseudo_header" if late else "bad_field_name")
    _remember(names)


def _remember(names: Iterable[bytes]) -> None:
    """Know tokens again, those in lower case that belong to no connection."""
    if len(_plain_names) >= _MAX_NAMES:
        _plain_names.clear()
    for name in names:
        if name not in _DROP and len(name) <= _LONGEST_NAME and name == name.lower():
            _plain_names[name] = True


def _join(headers: Headers) -> None:
    """Several fields of one name: cookies become one field (RFC 9113 8.2.3), others are joined in the index."""
    items: list[Any] = headers.items
    crumbs = [field for field in items if field[0] == b"cookie"]
    if len(crumbs) > 1:
        cookie = b"; ".join(filter(None, map(_VALUE, crumbs)))
        marked = next((field for field in crumbs if type(field) is not tuple), None)
        whole = (b"cookie", cookie) if marked is None else type(marked)(b"cookie", cookie)
        first = items.index(crumbs[0])
        headers.items = [*items[:first], whole, *(field for field in items[first + 1 :] if field[0] != b"cookie")]
    index: dict[bytes, bytes] = {}
    for name, value in headers.items:
        index[name] = index[name] + b", " + value if name in index else value
    headers.index = index


def _length(value: bytes) -> int:
    length = 0
    for octet in value:
        digit = octet - _ZERO
        if not 0 <= digit <= 9:
            break
        length = 10 * length + digit
    else:
        if 0 < len(value) <= _MAX_DIGITS:
            return length
    raise ProtocolError(400, "duplicate_content_length" if b"," in value else "bad_content_length")


def read_trailers(
    fields: Sequence[Field],
    limits: Http2Limits,
    counts: dict[str, int],
    known: Known | None = None,
    *,
    tunnel: bool = False,
) -> Headers:
    """Trailers without the fields that may not come so late. Raises ProtocolError.

    `tunnel`: they came in one that a CONNECT has made, where there may be nothing but data (RFC 9113 8.5).
    """
    if tunnel:
        raise ProtocolError(400, "head_in_tunnel")
    trailers, _ = read_fields(fields, limits, known)
    if limits.underscores != "allow":
        check_underscores(trailers, limits, counts)
    for name in [name for name in trailers.index if name in FORBIDDEN_TRAILERS or name.startswith(b"x-forwarded-")]:
        trailers.remove(name)
        counts["trailer_field_dropped"] = counts.get("trailer_field_dropped", 0) + 1
    return trailers


# --- to send


def request_fields(head: RequestHead) -> list[Field]:
    """The header block of a request; values of fields are for `check_values`, or the encoder, to judge.

    Raises ProtocolError (500, `bad_field_to_send`).
    """
    authority = head.authority
    if head.upgrade is not None:
        pseudo = [
            (b":method", b"CONNECT"),
            (b":protocol", head.upgrade),
            (b":scheme", head.scheme),
            (b":authority", authority),
            (b":path", head.path),
        ]
    elif head.method == b"CONNECT":
        pseudo = [(b":method", b"CONNECT"), (b":authority", authority)]
    else:
        pseudo = [
            (b":method", head.method),
            (b":scheme", head.scheme),
            (b":authority", authority),
            (b":path", head.path),
        ]
    length = head.content_length
    if length > 0 and head.upgrade is None and b"content-length" not in head.headers.index:
        pseudo.append((b"content-length", b"%d" % length))
    return pseudo + _regular(head.headers, _DROP)


def response_fields(head: ResponseHead) -> list[Field]:
    """The header block of a response, like that of a request. Raises ProtocolError (500, `bad_field_to_send`)."""
    status = _STATUS_FIELDS.get(head.status) or (b":status", b"%d" % head.status)
    return [status, *_regular(head.headers, _DROP_RESPONSE)]


def _regular(headers: Headers, drop: frozenset[bytes]) -> list[Field]:
    """Fields with lower-case names, but those in `drop`; values are not looked at. Raises ProtocolError."""
    items: list[Any] = headers.items  # not taken apart, compiled code would make plain tuples of them
    index = headers.index
    if _are_plain(items) and index.get(b"te", _TRAILERS) == _TRAILERS:
        return items
    if not all_tokens(index.keys()):
        raise ProtocolError(500, "bad_field_to_send")
    _remember(index)
    te = index.get(b"te")
    if te is not None and te.strip().lower() != b"trailers":
        drop |= {b"te"}
    return [
        field if field[0] == lower else (lower, field[1]) for field in items if (lower := field[0].lower()) not in drop
    ]


def _are_plain(items: list[Field]) -> bool:
    known = _plain_names
    plain = True
    for name, _ in items:
        if name not in known:
            plain = False
    return plain


def trailer_fields(trailers: Headers) -> list[Field]:
    """The header block of trailers, their values judged. Raises ProtocolError (500, `bad_field_to_send`)."""
    regular: list[Any] = _regular(trailers, FORBIDDEN_TRAILERS)
    fields: list[Any] = [field for field in regular if field[0] not in FORBIDDEN_TRAILERS]
    check_values(fields)
    return fields


def check_values(fields: list[Field]) -> None:
    """Raise ProtocolError (500, `bad_field_to_send`) for NUL, CR or LF in a value."""
    for _, value in fields:
        if breaks_out(value):
            raise ProtocolError(500, "bad_field_to_send")
