"""gRPC's words: content types, statuses, messages."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.codec.headers import Headers
from agent.exchange import grpc


@pytest.mark.parametrize(
    ("content_type", "is_grpc"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=x", True),
        (b"application/grpc-web", True),
        (b"application/grpc-web-text+proto", True),
        (b"application/grpcish", False),
        (b"application/json", False),
        (b"text/plain; application/grpc", False),
        (b"", False),
        (None, False),
    ],
)
def test_who_speaks_grpc(content_type: bytes | None, is_grpc: bool) -> None:
    fields = () if content_type is None else ((b"Content-Type", content_type),)
    assert grpc.is_grpc(Headers(fields)) is is_grpc


@pytest.mark.parametrize(
    ("http", "status"),
    [
        *((400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14)),
        *((200, 2), (301, 2), (408, 2), (418, 2), (500, 2), (505, 2)),
    ],
)
def test_an_http_status_as_a_grpc_status(http: int, status: int) -> None:
    assert grpc.status_of_http(http) == status


def test_a_grpc_status_as_an_http_status() -> None:
    http = [grpc.http_of_status(status) for status in range(17)]
    assert http == [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401]


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("16", 16), ("17", 2), ("", 2), ("x", 2), ("-1", 2), ("007", 2), ("\u0661", 2)]
)
def test_what_a_peer_writes_is_one_of_seventeen_statuses(text: str, number: int) -> None:
    assert grpc.status_number(text) == number


def test_a_message_is_percent_encoded_but_readable() -> None:
    assert grpc.message(b"no healthy upstream: 50% of \xc3\xa9\n") == b"no healthy upstream: 50%25 of %C3%A9%0A"


@given(st.binary(max_size=64))
def test_a_message_comes_back_as_it_was_and_is_always_a_field_value(body: bytes) -> None:
    made = grpc.message(body)
    assert unquote_to_bytes(made) == body
    assert all(0x20 <= byte < 0x7F for byte in made)


def test_a_long_message_is_cut() -> None:
    assert len(grpc.message(b"\x00" * 100_000)) < 8000
