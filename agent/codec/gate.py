"""The framing gate of HTTP/1: what RFC 9112 and the history of request smuggling say to refuse.

Works on the raw bytes of a head and on the fields that an engine read from it; no engine is imported here. The
fast path asks a few yes/no questions at C speed; `diagnose_*` looks again, in the order in which the bytes came, to
name the reason. Hence both engines, and any cutting of the stream into pieces, give the same answer.

Reasons (stable tokens for logs and counters), with the status that a server answers; a client codec raises them as 502:

    400 bare_cr, bare_lf, control_byte       a byte that may not stand in a head
    400 bad_request_line, bad_method, bad_target, bad_target_form, fragment_in_target, bad_status_line, bad_status
    414 target_too_long; 431 head_too_large, too_many_fields, trailers_too_large
    505 http_0_9, http2_preface, unsupported_version
    400 obs_fold, bad_field_line, space_before_colon, bad_field_name, underscore_in_name
    400 cl_te_conflict, bad_content_length, duplicate_content_length, te_in_http10, bad_transfer_encoding
    501 unknown_transfer_coding; 417 bad_expectation
    400 missing_host, duplicate_host, bad_host, connect_with_body
    400 bad_chunk_line, bad_chunk_end, chunk_too_large, chunk_line_too_long, chunk_extensions_too_large
    400 eof_in_head, eof_in_body              the peer ended the stream there
    502 eof_before_response, too_many_interim, unasked_upgrade, unsolicited_response
    400 bad_head                             an engine refused what the gate finds no fault with
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from agent.codec.headers import Headers, marks_all_but
from agent.codec.message import CHUNKED, Limits, ProtocolError, RequestHead, ResponseHead

CRLF: Final = b"\r\n"
TEXT: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
"""Bytes that may stand in a line of a head."""

# '#' is left out: a fragment never belongs in a request target (RFC 9110 4.2.4).
_TARGET: Final = marks_all_but(bytes(byte for byte in range(0x21, 0x7F) if byte != 0x23))
_CUTS: Final = marks_all_but(bytes(byte for byte in range(256) if byte not in b"?#"))
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_BYTE: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n")
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
# Narrower than RFC 3986's reg-name: sub-delims and %-escapes never name a host, but they do fool host policies.
_NAME: Final = rb"(?:[A-Za-z0-9._~\-]+|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT: Final = rb"(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST: Final = re.compile(rb"%b(?::%b?)?" % (_NAME, _PORT))
_HOST_PORT: Final = re.compile(rb"%b:%b" % (_NAME, _PORT))
_ABSOLUTE: Final = re.compile(rb"(https?)://([^/?]*)(.*)", re.IGNORECASE)
_METHODS: Final = frozenset((b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"TRACE"))

FORBIDDEN_TRAILERS: Final = frozenset(
    b"authorization cache-control connection content-encoding content-length content-range content-type cookie date "
    b"expect expires forwarded host if-match if-modified-since if-none-match if-unmodified-since keep-alive location "
    b"max-forwards proxy-authenticate proxy-authorization proxy-connection range retry-after set-cookie te trailer "
    b"transfer-encoding upgrade vary via www-authenticate".split()
)
"""Fields that frame, route or authenticate; RFC 9110 6.5.1 keeps them out of trailers."""

FieldReader = Callable[[bytes], Headers | None]
"""An engine: the fields of a whole head (start line and empty line included), one of each line between the two; None
when it refuses: a line is no field, or holds a byte that may not stand in one. The first line is not its business."""


def is_token(data: bytes) -> bool:
    """Whether `data` is a token (RFC 9110 5.6.2)."""
    return _TOKEN.fullmatch(data) is not None


def is_target(data: bytes) -> bool:
    """Whether `data` may stand as a request target: not empty, visible ASCII, no fragment."""
    return bool(data) and data.translate(_TARGET) == data


def path_of(target: bytes) -> bytes:
    """The path without query and fragment."""
    if target.translate(_CUTS) == target:
        return target
    cut = target.find(b"?")
    if cut >= 0:
        target = target[:cut]
    cut = target.find(b"#")
    return target if cut < 0 else target[:cut]


def check_bytes(data: bytes) -> None:
    """Raise for the first byte that may not stand in a head. A CR at the very end is taken for half of a CRLF."""
    if data[-1:] == b"\r":
        data = data[:-1]
    if len(data.translate(None, TEXT)) != 2 * data.count(CRLF):
        found = _BAD_BYTE.search(data)
        byte = found.group() if found else b""
        raise ProtocolError(400, {b"\r": "bare_cr", b"\n": "bare_lf"}.get(byte, "control_byte"))


def check_partial(data: bytes, line_rule: Callable[[bytes], object]) -> None:
    """Raise for what is already wrong with the beginning of a head; `line_rule` judges the first line."""
    end = data.find(CRLF)
    if end < 0:
        check_bytes(data)
        return
    check_bytes(data[: end + 2])
    line_rule(data[:end])
    check_bytes(data[end + 2 :])


def check_size(data: bytes, limits: Limits, line_rule: Callable[[bytes], object]) -> None:
    """Raise 414 or 431 for a head that is longer than the limit, or what is wrong with its beginning."""
    start = data[: limits.max_head_bytes]
    check_partial(start, line_rule)
    if CRLF in start:
        raise ProtocolError(431, "head_too_large")
    raise ProtocolError(414, "target_too_long")


# --- requests


def split_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Method, target and version of a request line; raises for whatever is wrong with it."""
    parts = line.split(b" ")
    if len(parts) != 3:
        if len(parts) == 2 and parts[0] == b"GET" and parts[1][:1] == b"/":
            raise ProtocolError(505, "http_0_9")
        raise ProtocolError(400, "bad_request_line")
    method, target, version = parts
    if not is_token(method):
        raise ProtocolError(400, "bad_method")
    if version != b"HTTP/1.1" and version != b"HTTP/1.0":
        if line == b"PRI * HTTP/2.0":
            raise ProtocolError(505, "http2_preface")
        if _VERSION.fullmatch(version):
            raise ProtocolError(505, "unsupported_version")
        raise ProtocolError(400, "bad_request_line")
    split_target(method, target)
    return method, target, version


def split_target(method: bytes, target: bytes) -> tuple[bytes, bytes | None, bytes]:
    """Scheme, authority (None: take Host) and path of a request target (RFC 9112 3.2)."""
    if not is_target(target):
        raise ProtocolError(400, "fragment_in_target" if b"#" in target else "bad_target")
    if method == b"CONNECT":
        if not is_host_port(target):
            raise ProtocolError(400, "bad_target_form")
        return b"http", target, b""
    if target[0] == 0x2F:
        return b"http", None, target
    if target == b"*" and method == b"OPTIONS":
        return b"http", None, target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise ProtocolError(400, "bad_target_form")
    scheme, authority, path = absolute.groups()
    if not is_host(authority):
        raise ProtocolError(400, "bad_target")
    if path[:1] != b"/":
        # RFC 9112 3.2.4: OPTIONS for a whole server comes as an absolute form without a path.
        path = b"*" if method == b"OPTIONS" and not path else b"/" + path
    return scheme.lower(), authority, path


def is_host(value: bytes) -> bool:
    """Whether `value` is host or host:port: no userinfo, no list, no path, a port that exists."""
    return _HOST.fullmatch(value) is not None


def is_host_port(data: bytes) -> bool:
    """Whether `data` names a host and a port, as CONNECT must (RFC 9110 9.3.6)."""
    return _HOST_PORT.fullmatch(data) is not None


def parse_request(head: bytes, limits: Limits, read: FieldReader, counts: dict[str, int]) -> RequestHead:
    """The request whose complete head, empty line included, is `head`; raises ProtocolError."""
    line = head[: head.find(CRLF)]
    parts = line.split(b" ")
    headers = read(head)
    if len(parts) == 3 and headers is not None and len(headers.items) <= limits.max_fields:
        method, target, version = parts
        if method in _METHODS and target[:1] == b"/" and target.translate(_TARGET) == target and version == b"HTTP/1.1":
            scheme, authority, path = b"http", None, target
        else:
            check_bytes(line + CRLF)
            method, target, version = split_request_line(line)
            scheme, authority, path = split_target(method, target)
        request = RequestHead(method, target, headers, version=version[5:], scheme=scheme, path=path, size=len(head))
        finish_request(request, authority, limits, counts)
        return request
    diagnose_request(head, limits)
    raise ProtocolError(400, "bad_head")


def finish_request(request: RequestHead, authority: bytes | None, limits: Limits, counts: dict[str, int]) -> None:
    """Fill what the fields decide: authority, body length, persistence, expectation, upgrade."""
    headers = request.headers
    index = headers.index
    modern = request.version == b"1.1"
    length = request.content_length = body_length(headers, modern) or 0
    host = index.get(b"host")
    if host is None:
        if modern:
            raise ProtocolError(400, "missing_host")
    elif host not in _good_hosts and not _is_new_host(host):
        names = [name for name, _ in headers.items if name.lower() == b"host"]
        raise ProtocolError(400, "duplicate_host" if len(names) > 1 else "bad_host")
    if authority is None:
        request.authority = host or b""
    else:
        request.authority = authority
        if host != authority:
            headers.set(b"Host", authority)
    options = _options(index.get(b"connection"))
    request.keep_alive = b"close" not in options and (modern or b"keep-alive" in options)
    request.expect_continue = b"expect" in index and _expects(index[b"expect"], modern)
    request.upgrade = None
    if request.method == b"CONNECT":
        if length:
            raise ProtocolError(400, "connect_with_body")
    elif b"upgrade" in options and modern and not length:
        request.upgrade = _upgrade_token(index.get(b"upgrade", b""))
    if limits.underscores != "allow":
        check_underscores(headers, limits, counts)


_MOST_HOSTS: Final = 1024
_good_hosts: set[bytes] = set()
"""Hosts that were found good; it begins anew when it is full."""


def _is_new_host(host: bytes) -> bool:
    if not _HOST.fullmatch(host):
        return False
    if len(host) <= 255:
        if len(_good_hosts) >= _MOST_HOSTS:
            _good_hosts.clear()
        _good_hosts.add(host)
    return True


_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()
_COMMON_OPTIONS: Final = {
    b"keep-alive": frozenset((b"keep-alive",)),
    b"close": frozenset((b"close",)),
}


def _options(value: bytes | None) -> frozenset[bytes]:
    if value is None:
        return _NO_OPTIONS
    return _COMMON_OPTIONS.get(value) or frozenset(_elements(value))


def _elements(value: bytes) -> list[bytes]:
    return [element.strip(b" \t") for element in value.lower().split(b",")]


def _expects(value: bytes, modern: bool) -> bool:
    if value.lower() != b"100-continue":
        raise ProtocolError(417, "bad_expectation")
    return modern


def _upgrade_token(value: bytes) -> bytes | None:
    # A list leaves the choice to the server; a proxy that must know the tunnel's protocol does not offer one.
    return value.lower() if is_token(value.replace(b"/", b"")) else None


def diagnose_request(head: bytes, limits: Limits) -> None:
    """Raise the reason why a complete request head is refused; return when there is none."""
    check_partial(head, split_request_line)
    line, _, rest = head.partition(CRLF)
    headers = split_fields(rest, limits)
    method, target, version = split_request_line(line)
    scheme, authority, path = split_target(method, target)
    request = RequestHead(method, target, headers, version=version[5:], scheme=scheme, path=path)
    finish_request(request, authority, limits, {})


# --- responses


def split_status_line(line: bytes) -> tuple[bytes, int, bytes]:
    """Version, status (100 to 599) and reason phrase of a status line."""
    version, _, rest = line.partition(b" ")
    code, space, reason = rest[:3], rest[3:4], rest[4:]
    if version != b"HTTP/1.1" and version != b"HTTP/1.0":
        raise ProtocolError(400, "unsupported_version" if _VERSION.fullmatch(version) else "bad_status_line")
    if len(code) != 3 or not code.isdigit() or space not in (b" ", b""):
        raise ProtocolError(400, "bad_status_line")
    status = int(code)
    if not 100 <= status <= 599:
        raise ProtocolError(400, "bad_status")
    return version[5:], status, reason


_LONGEST_STATUS_LINE: Final = 64
_MOST_STATUS_LINES: Final = 256
_status_lines: dict[bytes, tuple[bytes, int, bytes]] = {}
"""Lines that were found good; it stops growing when it is full."""


def parse_response(
    head: bytes, limits: Limits, read: FieldReader, counts: dict[str, int], method: bytes
) -> ResponseHead:
    """The response to a `method` request whose complete head is `head`; raises ProtocolError (as a server would)."""
    line = head[: head.find(CRLF)]
    known = _status_lines.get(line)
    if known is None:
        check_partial(head, split_status_line)
        known = split_status_line(line)
        if len(line) <= _LONGEST_STATUS_LINE and len(_status_lines) < _MOST_STATUS_LINES:
            _status_lines[line] = known
    headers = read(head)
    if headers is not None:
        version, status, reason = known
        if len(headers.items) <= limits.max_fields:
            response = ResponseHead(status, headers, reason=reason, version=version, size=len(head))
            finish_response(response, limits, counts, method)
            return response
    diagnose_response(head, limits, method)
    raise ProtocolError(400, "bad_head")


def finish_response(response: ResponseHead, limits: Limits, counts: dict[str, int], method: bytes) -> None:
    """Fill what the fields decide: body length and persistence (RFC 9112 6.3 and 9.3)."""
    headers = response.headers
    modern = response.version == b"1.1"
    length = body_length(headers, modern)
    status = response.status
    options = _options(headers.index.get(b"connection"))
    response.keep_alive = b"close" not in options and (modern or b"keep-alive" in options)
    if status < 200 or status == 204:
        if length and status == 204:
            # A peer that announces a body where none can be may also send it.
            counts["body_on_204"] = counts.get("body_on_204", 0) + 1
            response.keep_alive = False
        length = 0
    elif status == 304 or method == b"HEAD" or (method == b"CONNECT" and status < 300):
        length = 0
    response.content_length = length
    if length is None:
        response.keep_alive = False
    if limits.underscores != "allow":
        check_underscores(headers, limits, counts)


def diagnose_response(head: bytes, limits: Limits, method: bytes) -> None:
    """Raise the reason why a complete response head is refused; return when there is none."""
    check_partial(head, split_status_line)
    line, _, rest = head.partition(CRLF)
    headers = split_fields(rest, limits)
    version, status, _ = split_status_line(line)
    finish_response(ResponseHead(status, headers, version=version), limits, {}, method)


# --- fields


def split_fields(block: bytes, limits: Limits) -> Headers:
    """The fields of `block` (lines, then the empty line), read strictly; its bytes are checked already."""
    lines = block[:-4].split(CRLF) if len(block) > 2 else []
    if len(lines) > limits.max_fields:
        raise ProtocolError(431, "too_many_fields")
    headers = Headers()
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            raise ProtocolError(400, "obs_fold")
        name, colon, value = line.partition(b":")
        if not colon:
            raise ProtocolError(400, "bad_field_line")
        if name[-1:] in (b" ", b"\t"):
            raise ProtocolError(400, "space_before_colon")
        if not is_token(name):
            raise ProtocolError(400, "bad_field_name")
        headers.add(name, value.strip(b" \t"))
    return headers


def check_underscores(headers: Headers, limits: Limits, counts: dict[str, int]) -> None:
    """Refuse or drop names with an underscore, which some servers take for a dash (CGI variables)."""
    for name in [name for name in headers.index if b"_" in name]:
        if limits.underscores == "reject":
            raise ProtocolError(400, "underscore_in_name")
        headers.remove(name)
        counts["underscore_field_dropped"] = counts.get("underscore_field_dropped", 0) + 1


def body_length(headers: Headers, modern: bool) -> int | None:
    """What Transfer-Encoding and Content-Length say: CHUNKED, a number, or None when neither is there."""
    index = headers.index
    coding = index.get(b"transfer-encoding")
    length = index.get(b"content-length")
    if coding is not None:
        _check_coding(coding, length is not None, modern)
        if coding != b"chunked":
            headers.set(b"Transfer-Encoding", b"chunked")
        return CHUNKED
    if length is None:
        return None
    # 18 digits stay below 2**63 in every server behind us.
    if length.isdigit() and len(length) <= 18:
        return int(length)
    raise ProtocolError(400, "duplicate_content_length" if b"," in length else "bad_content_length")


def _check_coding(value: bytes, with_length: bool, modern: bool) -> None:
    if with_length:
        raise ProtocolError(400, "cl_te_conflict")
    if not modern:
        raise ProtocolError(400, "te_in_http10")
    if value.lower() == b"chunked":
        return
    codings = _elements(value)
    known = all(is_token(coding) for coding in codings)
    if known and b"chunked" not in codings[:-1] and b"identity" not in codings:
        raise ProtocolError(501, "unknown_transfer_coding")
    raise ProtocolError(400, "bad_transfer_encoding")


def read_trailers(block: bytes, limits: Limits, counts: dict[str, int]) -> Headers | None:
    """The trailers in `block` (lines, then the empty line) without the fields that may not come so late."""
    check_bytes(block)
    trailers = split_fields(block, limits)
    if limits.underscores != "allow":
        check_underscores(trailers, limits, counts)
    for name in [name for name in trailers.index if name in FORBIDDEN_TRAILERS or name.startswith(b"x-forwarded-")]:
        trailers.remove(name)
        counts["trailer_field_dropped"] = counts.get("trailer_field_dropped", 0) + 1
    return trailers if trailers.items else None
