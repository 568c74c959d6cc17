"""The question to grpc.health.v1 and its answers: bytes, and the call against a fake codec."""

from __future__ import annotations

from typing import Any

import pytest

from agent.codec.headers import Headers
from agent.codec.http2 import DataReceived, GoAwayReceived, HeadReceived, StreamReset, TrailersReceived
from agent.codec.message import ResponseHead
from agent.upstream.grpc_health import HealthCall, answer_error, encode_request


def framed(message: bytes) -> bytes:
    return b"\x00" + len(message).to_bytes(4, "big") + message


SERVING = framed(b"\x08\x01")


@pytest.mark.parametrize(
    ("service", "message"),
    [("", b""), ("pkg.Books", b"\x0a\x09pkg.Books"), ("x" * 200, b"\x0a\xc8\x01" + b"x" * 200)],
)
def test_a_request(service: str, message: bytes) -> None:
    assert encode_request(service) == framed(message)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (SERVING, ""),
        (framed(b"\x08\x02"), "NOT_SERVING"),
        (framed(b"\x08\x03"), "SERVICE_UNKNOWN"),
        (framed(b"\x08\x00"), "UNKNOWN"),
        (framed(b""), "UNKNOWN"),
        (framed(b"\x08\xac\x02"), "status 300"),
        (framed(b"\x12\x03abc\x19" + b"8" * 8 + b"\x25" + b"4" * 4 + b"\x08\x01"), ""),  # unknown fields
        (framed(b"\x08"), "not a HealthCheckResponse"),
        (framed(b"\x08" + b"\xff" * 10 + b"\x01"), "not a HealthCheckResponse"),
        (framed(b"\x12\x05ab"), "not a HealthCheckResponse"),
        (framed(b"\x0b"), "not a HealthCheckResponse"),
        (b"\x01" + SERVING[1:], "not a gRPC message"),  # compressed
        (SERVING[:-1], "not a gRPC message"),
        (SERVING + b"x", "not a gRPC message"),
        (b"", "not a gRPC message"),
    ],
)
def test_an_answer(data: bytes, error: str) -> None:
    assert answer_error(data) == error


class FakeCodec:
    """Hands out the events that it was made with, at the first bytes."""

    def __init__(self, *events: Any, failed: str = "") -> None:
        self.events = list(events)
        self.failed = failed
        self.sent: list[Any] = []

    def open_stream(self, head: Any, *, end: bool) -> int:
        self.sent.append((head, end))
        return 1

    def send_data(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        self.sent.append((stream_id, data, end))

    def receive_data(self, data: bytes) -> list[Any]:
        return self.events

    def data_to_send(self, limit: int) -> bytes:
        return b"preface"[:limit]


def head(*, status: int = 200, end: bool = False, **fields: str) -> HeadReceived:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return HeadReceived(1, ResponseHead(status, Headers(pairs)), end)


def trailers(status: str) -> TrailersReceived:
    return TrailersReceived(1, Headers(((b"grpc-status", status.encode()),)))


def data(given: bytes = SERVING, *, end: bool = False) -> DataReceived:
    return DataReceived(1, given, len(given), end)


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ((head(), data(), trailers("0")), ""),
        ((head(), data(SERVING[:3]), data(SERVING[3:]), trailers("0")), ""),
        ((head(status=103), head(), data(), trailers("0")), ""),
        ((GoAwayReceived(1, 0), head(), data(), trailers("0")), ""),
        ((head(), data(framed(b"\x08\x02")), trailers("0")), "NOT_SERVING"),
        ((head(end=True, grpc_status="5"),), "grpc-status 5"),
        ((head(end=True),), "no grpc-status"),
        ((head(), data(end=True)), "no grpc-status"),
        ((head(), data(), trailers("14")), "grpc-status 14"),
        ((head(status=404),), "status 404"),
        ((head(), data(b"x" * 5000)), "a long answer"),
        ((StreamReset(1, 7, True),), "stream reset, code 7"),
        ((GoAwayReceived(0, 0),), "went away"),
        ((), None),
        ((DataReceived(3, b"", 0, True),), None),
    ],
)
def test_a_call(events: tuple[Any, ...], error: str | None) -> None:
    call = HealthCall(FakeCodec(*events), "10.0.0.1:80", "", 1.0)  # type: ignore[arg-type]
    assert call.data_to_send() == b"preface"
    call.receive_data(b"bytes")
    assert call.error == error


def test_what_is_asked() -> None:
    codec = FakeCodec()
    HealthCall(codec, "10.0.0.1:80", "pkg.Books", 1.5)  # type: ignore[arg-type]
    (asked, end), body = codec.sent
    assert (asked.method, asked.path, asked.authority) == (b"POST", b"/grpc.health.v1.Health/Check", b"10.0.0.1:80")
    assert asked.headers.index[b"grpc-timeout"] == b"1500m"
    assert asked.headers.index[b"te"] == b"trailers"
    assert not end
    assert body == (1, encode_request("pkg.Books"), True)


def test_a_peer_that_hangs_up_or_speaks_something_else() -> None:
    call = HealthCall(FakeCodec(), "a:1", "", 1.0)  # type: ignore[arg-type]
    call.receive_data(b"")
    assert call.error == "closed before an answer came"
    call = HealthCall(FakeCodec(failed="bad_preface"), "a:1", "", 1.0)  # type: ignore[arg-type]
    call.receive_data(b"HTTP/1.1 400")
    assert call.error == "not HTTP/2: bad_preface"
