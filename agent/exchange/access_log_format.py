"""Access-log lines: Envoy's format strings, compiled once into a function from a record to bytes.

What clients wrote (path, headers, SNI) is escaped, so that one exchange is one line and quotes stay paired.
The writer is in access_log.py. Pure: no I/O, no clock.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from agent.codec.headers import marks_all_but
from agent.exchange.record import Record
from mesh.errors import ConfigError

Value: TypeAlias = str | int | bytes | None
Operator: TypeAlias = Callable[[Record, float], Value]
"""A record and the Unix time at which its exchange began, to a value; None or empty is absent."""

DEFAULT_FORMAT: Final = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" '
    '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" '
    '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% '
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% "
    "%ROUTE_NAME%\n"
)
DEFAULT_JSON: Final = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "route_name": "%ROUTE_NAME%",
}

_OPERATOR = re.compile(r"%(?:(?P<name>[A-Z][A-Z0-9_]*)(?:\((?P<argument>[^()]*)\))?(?::(?P<length>\d+))?)?%")
_UNSAFE = re.compile(r'[^\x20-\x7e]|["\\]')
_PLAIN: Final = marks_all_but(bytes(set(range(0x20, 0x7F)) - set(b'"\\')))
_MOST_KEPT: Final = 4096
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t", '"': r"\"", "\\": r"\\"}
_GRPC_NAMES = (
    *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists"),
    *("PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented"),
    *("Internal", "Unavailable", "DataLoss", "Unauthenticated"),
)
# Envoy's operators that a record cannot answer yet; any other name is a mistake.
_NOT_SERVED: Final = re.compile(
    "UPSTREAM_.+|DOWNSTREAM_.+|(DYNAMIC|CLUSTER)_METADATA|FILTER_(STATE|CHAIN_NAME)|TRAILER|CEL|ENVIRONMENT|HOSTNAME|"
    "CONNECTION_ID|STREAM_ID|VIRTUAL_CLUSTER_NAME|(REQUEST|RESPONSE)(_TX)?_DURATION|ROUNDTRIP_DURATION|COMMON_DURATION|"
    "EMIT_TIME|RESPONSE_FLAGS_LONG|LOCAL_REPLY_BODY|TRACE_ID|QUERY_PARAM|PATH|TLS_JA3_FINGERPRINT|UNIQUE_ID|"
    "CUSTOM_FLAGS|ACCESS_LOG_TYPE|(REQUEST|RESPONSE)_HEADERS_BYTES|RESPONSE_TRAILERS_BYTES"
)


class AccessLog:
    """A compiled format. Call it, or its `render`, with a record and the Unix time at which the exchange ended.

    `not_served` names the operators that always render as absent, so that the operator hears of it once.
    """

    __slots__ = ("not_served", "render")

    def __init__(self, render: Callable[[Record, float], bytes], not_served: tuple[str, ...]) -> None:
        self.render = render
        self.not_served = not_served

    def __call__(self, record: Record, wall_time: float) -> bytes:
        return self.render(record, wall_time)

    @classmethod
    def compile(cls, format: str | None = None, encoding: str = "TEXT") -> AccessLog:
        """Prepare `format` (accessLogFormat; None or empty: Istio's default) in TEXT or JSON.

        A JSON format is an object whose values are format strings. Raises ConfigError for an unknown operator,
        a lone percent sign, or a JSON format that is no object of strings.
        """
        not_served: list[str] = []
        if encoding == "JSON":
            fields = _json_fields(format) if format else DEFAULT_JSON
            render = _compile_json(fields, not_served)
        elif encoding == "TEXT":
            render = _compile_text(format or DEFAULT_FORMAT, not_served)
            if (format or DEFAULT_FORMAT).rstrip("\n") == DEFAULT_FORMAT.rstrip("\n"):
                render = _default_line(render)
        else:
            raise ConfigError(
                f"{encoding!r} is no access-log encoding", path="accessLogEncoding", remedy="write TEXT or JSON"
            )
        return cls(render, tuple(dict.fromkeys(not_served)))


_THOUSANDTHS: Final = tuple(f".{millisecond:03d}Z" for millisecond in range(1000))


class _StartTime:
    """ISO-8601 UTC with milliseconds; the last text is kept, as many lines share it."""

    __slots__ = ("_millisecond", "_second", "_text", "_whole")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""
        self._millisecond = -1
        self._whole = ""

    def __call__(self, wall: float) -> str:
        milliseconds = int(wall * 1000 + 0.5)
        if milliseconds != self._millisecond:
            second = milliseconds // 1000
            if second != self._second:
                self._second = second
                self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._millisecond = milliseconds
            self._whole = self._text + _THOUSANDTHS[milliseconds % 1000]
        return self._whole


def _default_line(escaping: Callable[[Record, float], bytes]) -> Callable[[Record, float], bytes]:
    """Istio's default line from pieces: what is of the proxy (outcome, addresses, names) repeats and is kept, escaped;
    a line whose client wrote anything to escape is left to `escaping`."""
    start_time = _StartTime()
    kept: dict[tuple[object, ...], tuple[bytes, bytes]] = {}

    def render(r: Record, wall_time: float) -> bytes:
        written = (r.method, r.path, r.forwarded_for, r.user_agent, r.request_id, r.authority)
        text = b"".join(written)
        if text.translate(_PLAIN) != text:
            return escaping(r, wall_time)
        key = (
            *(r.protocol, r.response_code, r.flags, r.details, r.termination_details, r.transport_failure),
            *(r.upstream_host, r.cluster, r.upstream_local, r.downstream_local, r.downstream_remote),
            *(r.server_name, r.route),
        )
        pieces = kept.get(key)
        if pieces is None:
            if len(kept) >= _MOST_KEPT:
                kept.clear()
            pieces = kept[key] = _pieces(r)
        outcome, places = pieces
        method, path, forwarded_for, user_agent, request_id, authority = written
        duration = r.end - r.start
        service_time = r.upstream_service_time
        return b'[%b] "%b %b %b %d %d %d %b "%b" "%b" "%b" "%b" %b' % (
            start_time(wall_time - duration).encode(),
            method or b"-",
            path or b"-",
            outcome,
            r.bytes_received,
            r.bytes_sent,
            int(duration * 1000),
            b"-" if service_time is None else b"%d" % service_time,
            forwarded_for or b"-",
            user_agent or b"-",
            request_id or b"-",
            authority or b"-",
            places,
        )

    return render


def _pieces(r: Record) -> tuple[bytes, bytes]:
    """What is of the proxy in the middle and at the end of the default line."""
    outcome = (
        f'{escape(r.protocol)}" {r.response_code} {escape(",".join(r.flags))} {escape(r.details)} '
        f'{escape(r.termination_details)} "{escape(r.transport_failure)}"'
    )
    names = (r.cluster, r.upstream_local, r.downstream_local, r.downstream_remote, r.server_name, r.route)
    places = f'"{escape(r.upstream_host)}" {" ".join(map(escape, names))}\n'
    return outcome.encode(), places.encode()


def _compile_text(format: str, not_served: list[str]) -> Callable[[Record, float], bytes]:
    parts = _parse(format if format.endswith("\n") else format + "\n", not_served)

    def render(record: Record, wall_time: float) -> bytes:
        start = wall_time - (record.end - record.start)
        return "".join([part if isinstance(part, str) else escape(part(record, start)) for part in parts]).encode()

    return render


def _compile_json(fields: dict[str, str], not_served: list[str]) -> Callable[[Record, float], bytes]:
    compiled = {key: _parse(format, not_served) for key, format in fields.items()}
    encode = msgspec.json.Encoder().encode

    def render(record: Record, wall_time: float) -> bytes:
        start = wall_time - (record.end - record.start)
        return encode({key: _json_value(parts, record, start) for key, parts in compiled.items()}) + b"\n"

    return render


def _json_value(parts: list[str | Operator], record: Record, start: float) -> str | int | None:
    """One operator alone keeps its type and is null when absent; among text it is text."""
    if len(parts) == 1 and not isinstance(parts[0], str):
        value = parts[0](record, start)
        return value if isinstance(value, int) else _text(value) or None
    return "".join([part if isinstance(part, str) else _text(part(record, start)) or "-" for part in parts])


def _json_fields(format: str) -> dict[str, str]:
    try:
        return msgspec.json.decode(format.encode(), type=dict[str, str])
    except msgspec.DecodeError as exc:
        raise ConfigError(
            f"not a JSON object of strings: {exc}",
            path="accessLogFormat",
            remedy='write {"name": "%OPERATOR%", …} or set accessLogEncoding: TEXT',
        ) from exc


def escape(value: Value) -> str:
    r"""Text for one log line: `-` when absent; `\n`, `\"`, `\\` and `\xNN` for what may not stand in it."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        text = value.decode("latin-1")
    else:
        text = value or ""
        if not text.isascii():
            text = text.encode("utf-8", "surrogateescape").decode("latin-1")
    return _UNSAFE.sub(_escaped, text) or "-"


def _escaped(match: re.Match[str]) -> str:
    character = match.group()
    return _SHORT_ESCAPES.get(character) or f"\\x{ord(character):02x}"


def _text(value: Value) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "" if value is None else str(value)


# From format string to operators


def _parse(format: str, not_served: list[str]) -> list[str | Operator]:
    parts: list[str | Operator] = []
    position = 0
    for match in _OPERATOR.finditer(format):
        _add_literal(parts, format[position : match.start()], format)
        position = match.end()
        name = match["name"]
        if name is None:
            parts.append("%")
        else:
            operator = _operator(name, match["argument"], match.group(), not_served)
            parts.append(_cut(operator, int(match["length"])) if match["length"] else operator)
    _add_literal(parts, format[position:], format)
    return parts


def _add_literal(parts: list[str | Operator], text: str, format: str) -> None:
    if "%" in text:
        raise ConfigError(
            f"{text.strip()!r} has a percent sign that begins no operator",
            path="accessLogFormat",
            remedy="write %NAME%, %NAME(ARGUMENT)% or %NAME(ARGUMENT):LENGTH%, and %% for a percent sign",
        )
    if text:
        parts.append(text)


def _operator(name: str, argument: str | None, written: str, not_served: list[str]) -> Operator:
    if name in _ARGUMENT_FREE and not argument:
        return _ARGUMENT_FREE[name]
    if name == "START_TIME":
        return _start_time(argument)
    if name in ("REQ", "RESP"):
        operator = _header(argument, _REQUEST_HEADERS if name == "REQ" else _RESPONSE_HEADERS)
        if operator is not None:
            return operator
    elif name == "GRPC_STATUS":
        return _grpc_status_name
    elif name not in _ARGUMENT_FREE and not _NOT_SERVED.fullmatch(name):
        raise ConfigError(
            f"{written} is no operator of Envoy's access log",
            path="accessLogFormat",
            remedy="see Envoy's list of command operators; names are in capitals",
        )
    not_served.append(written)
    return _absent


def _header(argument: str | None, held: dict[str, Operator]) -> Operator | None:
    """`A?B`: A where it is present, else B; None when the record holds neither."""
    names = [name.strip().lower() for name in (argument or "").split("?")]
    if names == ["x-envoy-original-path", ":path"]:
        names = [":path"]  # the record has the path as the client wrote it
    operators = [held[name] for name in names if name in held]
    if not operators:
        return None
    if len(operators) == 1:
        return operators[0]
    first, second = operators[:2]
    return lambda record, start: first(record, start) or second(record, start)


def _cut(operator: Operator, length: int) -> Operator:
    def cut(record: Record, start: float) -> Value:
        value = operator(record, start)
        return value if value is None or isinstance(value, int) else value[:length]

    return cut


def _start_time(argument: str | None) -> Operator:
    """Envoy's START_TIME: strftime with `%s` (Unix seconds) and `%Nf` or `%f` (N digits of the fraction, 9)."""
    if not argument:
        default = _StartTime()
        return lambda record, start: default(start)

    def formatted(record: Record, start: float) -> str:
        seconds, fraction = divmod(round(start * 1_000_000), 1_000_000)
        digits = f"{fraction:06d}000"
        text = re.sub(r"%([1-9]?)f", lambda match: digits[: int(match[1] or 9)], argument)
        return time.strftime(text.replace("%s", str(seconds)), time.gmtime(seconds))

    return formatted


def _absent(record: Record, start: float) -> Value:
    return None


def _grpc_status_name(record: Record, start: float) -> Value:
    status = record.grpc_status
    known = status.isascii() and status.isdigit() and int(status) < len(_GRPC_NAMES)
    return _GRPC_NAMES[int(status)] if known else status


def _without_port(address: str) -> str:
    return address.rpartition(":")[0].strip("[]") or address


_REQUEST_HEADERS: Final[dict[str, Operator]] = {
    ":method": lambda r, _: r.method,
    ":path": lambda r, _: r.path,
    ":authority": lambda r, _: r.authority,
    "host": lambda r, _: r.authority,
    "x-forwarded-for": lambda r, _: r.forwarded_for,
    "user-agent": lambda r, _: r.user_agent,
    "x-request-id": lambda r, _: r.request_id,
}
_RESPONSE_HEADERS: Final[dict[str, Operator]] = {
    ":status": lambda r, _: r.response_code,
    "x-envoy-upstream-service-time": lambda r, _: r.upstream_service_time,
    "grpc-status": lambda r, _: r.grpc_status,
}
_ARGUMENT_FREE: Final[dict[str, Operator]] = {
    "PROTOCOL": lambda r, _: r.protocol,
    "RESPONSE_CODE": lambda r, _: r.response_code,
    "RESPONSE_FLAGS": lambda r, _: ",".join(r.flags) or "-",
    "RESPONSE_CODE_DETAILS": lambda r, _: r.details,
    "CONNECTION_TERMINATION_DETAILS": lambda r, _: r.termination_details,
    "UPSTREAM_TRANSPORT_FAILURE_REASON": lambda r, _: r.transport_failure,
    "BYTES_RECEIVED": lambda r, _: r.bytes_received,
    "BYTES_SENT": lambda r, _: r.bytes_sent,
    "DURATION": lambda r, _: int((r.end - r.start) * 1000),
    "UPSTREAM_HOST": lambda r, _: r.upstream_host,
    "UPSTREAM_REMOTE_ADDRESS": lambda r, _: r.upstream_host,
    "UPSTREAM_CLUSTER": lambda r, _: r.cluster,
    "UPSTREAM_CLUSTER_RAW": lambda r, _: r.cluster,
    "UPSTREAM_LOCAL_ADDRESS": lambda r, _: r.upstream_local,
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": lambda r, _: r.attempts,
    "UPSTREAM_PEER_URI_SAN": lambda r, _: None if r.inbound else r.peer_principal,
    "DOWNSTREAM_PEER_URI_SAN": lambda r, _: r.peer_principal if r.inbound else None,
    "DOWNSTREAM_LOCAL_ADDRESS": lambda r, _: r.downstream_local,
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": lambda r, _: _without_port(r.downstream_local),
    "DOWNSTREAM_REMOTE_ADDRESS": lambda r, _: r.downstream_remote,
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda r, _: _without_port(r.downstream_remote),
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": lambda r, _: r.downstream_remote,
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": lambda r, _: _without_port(r.downstream_remote),
    "REQUESTED_SERVER_NAME": lambda r, _: r.server_name,
    "ROUTE_NAME": lambda r, _: r.route,
    "GRPC_STATUS_NUMBER": lambda r, _: int(r.grpc_status) if r.grpc_status.isdecimal() else r.grpc_status,
}
