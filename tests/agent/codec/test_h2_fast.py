"""What is the fast engine's own: mistakes are told at once and by name, and what is not read is bounded."""

from __future__ import annotations

import pytest

from agent.codec.http2 import PROTOCOL_ERROR, STREAM_CLOSED, DataReceived, Http2Limits, StreamReset
from tests.fake_http2_peer import (
    CONTINUATION,
    DATA,
    GET,
    GOAWAY,
    HEADERS,
    MAX_STREAMS,
    OK,
    POST,
    PREFACE,
    RST_STREAM,
    FakeClient,
    FakeServer,
    data,
    frame,
    goaway,
    heads,
    ping,
    resets,
    response,
    rst_stream,
    settings,
    window_update,
)


def test_a_mistake_is_told_with_the_bytes_that_made_it() -> None:
    client = FakeClient("fast")
    client.take(client.headers(1, [*POST, (b"content-length", b"3")], end=False))
    (event,) = client.take(data(1, b"hello", end=True))
    assert isinstance(event, StreamReset)
    assert (event.stream_id, event.remote, event.reason) == (1, False, "content_length_mismatch")
    assert [each.kind for each in client.sent()] == [RST_STREAM]


def test_a_malformed_request_is_counted_though_it_was_never_given_out() -> None:
    client = FakeClient("fast")
    assert client.take(client.headers(1, GET[:3])) == []
    assert client.codec.counts == {"missing_pseudo_header": 1}


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


def test_frames_that_a_stream_s_state_forbids_are_malformed_messages() -> None:
    client = FakeClient("fast")
    client.take(client.headers(1, GET), data(1, b"after the end"), client.headers(3, POST, end=False))
    client.take(client.headers(3, [(b"x-t", b"1")], end=False), client.headers(5, POST, end=False), window_update(5, 0))
    assert [(each.stream, each.code) for each in client.sent() if each.kind == RST_STREAM] == [
        (1, STREAM_CLOSED),
        (3, PROTOCOL_ERROR),
        (5, PROTOCOL_ERROR),
    ]
    assert client.codec.counts == {"malformed_message": 3}


def test_a_body_before_its_head_is_a_malformed_message() -> None:
    server = FakeServer("fast")
    number = server.requested()
    server.take(server.headers(number, [(b":status", b"103")], end=False))
    (event,) = server.take(data(number, b"x"))
    assert isinstance(event, StreamReset)
    assert (event.code, event.reason) == (PROTOCOL_ERROR, "malformed_message")


@pytest.mark.parametrize("limit", [1000, 200_000])
def test_a_stream_s_window_is_the_one_that_it_begins_with_until_ours_is_acknowledged(limit: int) -> None:
    client = FakeClient("fast", Http2Limits(stream_window=limit), greet=False)
    client.take(PREFACE + settings())
    client.take(client.headers(1, POST, end=False), *[data(1, b"x" * 16383)] * 4)
    assert client.alive(), "65532 bytes may have left before our settings came"
    client.take(settings(ack=True), client.headers(3, POST, end=False), data(3, b"x" * min(limit, 16384)))
    assert client.alive()
    assert not resets(client.events)
    client.take(data(3, b"x"), data(1, b"x"))
    assert [event.stream_id for event in resets(client.events)] == ([3, 1] if limit < 65535 else [])


def test_who_reads_no_answers_may_ask_for_no_more() -> None:
    client = FakeClient("fast")
    for number in range(1, 4001, 2):
        client.now += 1.0
        client.take(client.headers(number, GET))
        client.codec.send_head(number, response(200, (b"x", b"y" * 4000)), end=True)
        client.take(rst_stream(number))
    refused = client.codec.counts["answers_unread"]
    assert 1000 < refused < 2000, "a megabyte and no more"
    client.sent()
    client.take(client.headers(4001, GET))
    assert heads(client.events)[-1].stream_id == 4001


def test_streams_whose_answers_nobody_has_taken_are_open() -> None:
    client = FakeClient("fast", Http2Limits(max_concurrent_streams=2))
    for number in (1, 3, 5):
        client.take(client.headers(number, GET))
        client.codec.send_head(number, response(), end=number == 1)
        client.codec.send_data(number, b"x", end=True)
    assert client.codec.counts == {"too_many_streams": 1}
    assert [client.codec.queued(number) for number in (1, 3, 5)] == [0, 1, 0]
    client.sent()
    assert [client.codec.queued(number) for number in (1, 3, 5)] == [0, 0, 0]


def test_a_stream_reset_with_its_last_frames_not_yet_taken_is_gone_once() -> None:
    client = FakeClient("fast")
    client.take(client.headers(1, POST, end=False))
    client.codec.send_head(1, response(), end=False)
    client.codec.send_data(1, b"x", end=True)
    client.codec.reset(1, 0)
    assert [each.kind for each in client.sent()] == [HEADERS, DATA, RST_STREAM]
    client.take(client.headers(1, [(b"x-t", b"late")]))
    assert client.alive()


def test_a_header_block_is_ended_by_its_own_continuations_alone() -> None:
    for piece in (ping(), frame(CONTINUATION, 4, 3, b"x"), frame(HEADERS, 4, 1, b"x")):
        client = FakeClient("fast")
        assert client.fails(frame(HEADERS, 0, 1, b"\x82") + piece) == PROTOCOL_ERROR


def test_padding_counts_for_the_windows_and_is_credited() -> None:
    client = FakeClient("fast")
    client.take(client.headers(1, POST, end=False))
    (event,) = client.take(data(1, b"body", padding=10))
    assert isinstance(event, DataReceived)
    assert (event.data, event.credit) == (b"body", 15)


def test_what_is_no_setting_s_value_ends_the_connection() -> None:
    assert FakeClient("fast").fails(settings((9, 2))) == PROTOCOL_ERROR
