"""One question to grpc.health.v1.Health/Check, over an HTTP/2 connection of its own. Pure: bytes in, bytes out.

Two messages of one field each are not worth a protobuf library: HealthCheckRequest {string service = 1} and
HealthCheckResponse {ServingStatus status = 1}.
"""

from __future__ import annotations

from typing import Final

from agent.codec.headers import Headers
from agent.codec.http2 import DataReceived, GoAwayReceived, HeadReceived, Http2, StreamReset, TrailersReceived
from agent.codec.message import CHUNKED, RequestHead, ResponseHead
from agent.exchange.deadline import format_timeout

_PATH: Final = b"/grpc.health.v1.Health/Check"
_STATUSES: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_SERVING: Final = 1
_MAX_ANSWER: Final = 4096
_CHUNK: Final = 65536


def encode_request(service: str) -> bytes:
    """A HealthCheckRequest in gRPC's frame (flag 0: not compressed, four bytes of length); "" asks for the server."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def answer_error(data: bytes) -> str:
    """What is wrong with a framed HealthCheckResponse, or "" when it says SERVING."""
    if len(data) < 5 or data[0] != 0 or len(data) != 5 + int.from_bytes(data[1:5], "big"):
        return "not a gRPC message"
    try:
        status = _first_field(data[5:])
    except (IndexError, ValueError):
        return "not a HealthCheckResponse"
    if status == _SERVING:
        return ""
    return _STATUSES[status] if status < len(_STATUSES) else f"status {status}"


def _first_field(message: bytes) -> int:
    """Field 1, a varint, 0 when absent; fields that later versions may add are passed over."""
    at = found = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _read_varint(message, at)
            if tag >> 3 == 1:
                found = value
        elif kind == 2:
            length, at = _read_varint(message, at)
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(kind)
    if at != len(message):
        raise ValueError(at)
    return found


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError(number)


class HealthCall:
    """The call. Send `data_to_send`, feed `receive_data` until `error` is a text: "" is an app that serves."""

    def __init__(self, codec: Http2, authority: str, service: str, timeout: float) -> None:
        self.error: str | None = None
        self._codec = codec
        self._answer = b""
        headers = Headers(
            (
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
                (b"grpc-timeout", format_timeout(timeout)),
                (b"user-agent", b"Trioweave/HC"),
            )
        )
        head = RequestHead(b"POST", _PATH, headers, version=b"2", authority=authority.encode(), content_length=CHUNKED)
        self._stream = codec.open_stream(head, end=False)
        codec.send_data(self._stream, encode_request(service), end=True)

    def data_to_send(self) -> bytes:
        """Bytes for the peer; b"": nothing."""
        return self._codec.data_to_send(_CHUNK)

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; b"" is their end."""
        if not data:
            self._end("closed before an answer came")
            return
        for event in self._codec.receive_data(data):
            if isinstance(event, GoAwayReceived):
                if event.last_stream_id < self._stream:
                    self._end("went away")
            elif isinstance(event, HeadReceived | DataReceived | TrailersReceived | StreamReset):
                self._take(event)
        if self._codec.failed:
            self._end(f"not HTTP/2: {self._codec.failed}")

    def _take(self, event: HeadReceived | DataReceived | TrailersReceived | StreamReset) -> None:
        if event.stream_id != self._stream:
            return
        if isinstance(event, HeadReceived):
            assert isinstance(event.head, ResponseHead)
            if event.head.status != 200 and event.head.status >= 200:
                self._end(f"status {event.head.status}")
            elif event.end:
                self._judge(event.head.headers)
        elif isinstance(event, DataReceived):
            self._answer += event.data
            if event.end:
                self._end("no grpc-status")
            elif len(self._answer) > _MAX_ANSWER:
                self._end("a long answer")
        elif isinstance(event, TrailersReceived):
            self._judge(event.trailers)
        else:
            self._end(f"stream reset, code {event.code}")

    def _judge(self, trailers: Headers) -> None:
        status = trailers.index.get(b"grpc-status", b"").decode("ascii", "replace")
        if status == "0":
            self._end(answer_error(self._answer))
        else:
            self._end(f"grpc-status {status}" if status else "no grpc-status")

    def _end(self, error: str) -> None:
        if self.error is None:
            self.error = error
