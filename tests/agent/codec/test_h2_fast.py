"""What is the fast engine's own: the library's refusals are told at once and under our names."""

from __future__ import annotations

import pytest

from agent.codec.http2 import StreamReset
from tests.fake_http2_peer import (
    DATA,
    GET,
    GOAWAY,
    HEADERS,
    MAX_STREAMS,
    OK,
    POST,
    RST_STREAM,
    FakeClient,
    FakeServer,
    data,
    frame,
    goaway,
    response,
    rst_stream,
    settings,
    window_update,
)


def test_a_reset_of_the_library_s_own_is_told_with_the_bytes_that_caused_it() -> None:
    client = FakeClient("fast")
    client.take(client.headers(1, [*POST, (b"content-length", b"3")], end=False))
    (event,) = client.take(data(1, b"hello", end=True))
    assert isinstance(event, StreamReset)
    assert (event.stream_id, event.remote, event.reason) == (1, False, "malformed_message")
    assert [each.kind for each in client.sent()] == [RST_STREAM]


def test_a_malformed_request_is_counted_though_it_was_never_given_out() -> None:
    client = FakeClient("fast")
    assert client.take(client.headers(1, GET[:3])) == []
    assert client.codec.counts == {"malformed_message": 1}


def test_a_failure_of_the_connection_ends_with_one_goaway() -> None:
    client = FakeClient("fast")
    client.take(client.headers(1, GET))
    client.take(frame(DATA, 0, 0, b"x"))
    assert client.codec.failed == "protocol_error"
    assert [each.kind for each in client.sent()] == [GOAWAY]


def test_an_answer_to_a_refused_request_goes_before_the_reset() -> None:
    client = FakeClient("fast")
    client.take(client.headers(1, [*POST, (b"expect", b"x")], end=False))
    assert [each.kind for each in client.sent()] == [HEADERS, RST_STREAM]


@pytest.mark.parametrize("piece", [window_update(1, 0), window_update(1, 2**31 - 1)])
def test_bad_window_updates_of_a_stream(piece: bytes) -> None:
    client = FakeClient("fast")
    client.take(client.headers(1, POST, end=False))
    client.take(piece)
    assert client.codec.failed or [event for event in client.events if isinstance(event, StreamReset)]


def test_a_response_s_numbers_are_forgotten_when_it_is_over() -> None:
    server = FakeServer("fast")
    number = server.requested()
    server.take(server.headers(number, OK))
    server.codec.reset(number, 8)
    server.codec.send_data(number, b"x")
    assert server.sent() == []


def test_data_of_an_answered_request_that_goes_on_is_credited() -> None:
    client = FakeClient("fast")
    client.take(client.headers(1, [*POST, (b"expect", b"x")], end=False))
    client.sent()
    client.take(*(data(1, b"x" * 16000) for _ in range(40)))
    assert sum(int.from_bytes(each.payload, "big") for each in client.sent() if each.kind == 8) > 0
    client.take(client.headers(3, GET))
    client.codec.send_head(3, response(), end=True)
    assert [each.stream for each in client.sent() if each.kind == HEADERS] == [3]


def test_a_request_that_is_to_be_answered_but_was_reset_in_the_same_bytes() -> None:
    client = FakeClient("fast")
    client.take(client.headers(1, [*POST, (b"expect", b"x")], end=False) + rst_stream(1))
    assert client.codec.counts == {"bad_expectation": 1}
    assert client.alive()


def test_a_goaway_charges_nothing_for_the_streams_above_it() -> None:
    server = FakeServer("fast")
    server.take(settings((MAX_STREAMS, 1000)))
    for _ in range(600):
        server.requested()
    events = server.take(goaway(1))
    assert not server.codec.failed
    assert server.codec.counts == {}
    assert len(events) == 1, "the driver ends them"


def test_a_peer_that_says_goodbye_with_an_error_is_no_failure_of_ours() -> None:
    server = FakeServer("fast")
    number = server.requested()
    server.take(goaway(number, 0xB), server.headers(number, OK))
    assert server.codec.failed == ""
