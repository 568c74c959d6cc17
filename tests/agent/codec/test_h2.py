"""What is the reference engine's own: its queues towards the peer, and what it keeps h2 from doing."""

from __future__ import annotations

from tests.fake_http2_peer import (
    DATA,
    GET,
    GOAWAY,
    HEADER_TABLE_SIZE,
    PREFACE,
    FakeClient,
    data,
    frame,
    goaway,
    ping,
    response,
    settings,
)


def test_frames_before_a_bad_one_in_the_same_bytes_are_told() -> None:
    client = FakeClient("reference")
    events = client.take(client.headers(1, GET) + frame(DATA, 0, 0, b"x"))
    assert len(events) == 1
    assert client.codec.failed == "protocol_error"


def test_one_goaway_tells_of_a_failure() -> None:
    client = FakeClient("reference")
    client.take(client.headers(1, GET))
    client.take(frame(DATA, 0, 0, b"x"))
    assert [(each.kind, each.last_stream) for each in client.sent()] == [(GOAWAY, 1)]


def test_answers_queued_before_a_failure_are_sent() -> None:
    client = FakeClient("reference")
    client.take(ping() + frame(DATA, 0, 0, b"x"))
    assert [each.kind for each in client.sent()] == [6, GOAWAY]


def test_streams_take_turns_frame_by_frame() -> None:
    client = FakeClient("reference")
    for number in (1, 3):
        client.take(client.headers(number, GET))
        client.codec.send_head(number, response(), end=False)
    client.sent()
    for number in (1, 3):
        client.codec.send_data(number, b"x" * 10000)
        client.codec.send_data(number, b"y" * 10000, end=True)
    assert [each.stream for each in client.sent()] == [1, 3, 1, 3]


def test_h2_sends_on_after_the_peer_s_goaway() -> None:
    client = FakeClient("reference")
    client.take(client.headers(1, GET), goaway(0))
    client.codec.send_head(1, response(), end=False)
    client.codec.send_data(1, b"x", end=True)
    assert [each.end for each in client.sent()] == [False, True]


def test_a_table_that_shrank_and_grew_between_two_blocks_is_told_by_its_smallest_size() -> None:
    client = FakeClient("reference", greet=False)
    client.take(PREFACE + settings((HEADER_TABLE_SIZE, 100)) + settings((HEADER_TABLE_SIZE, 1 << 20)))
    client.sent()
    client.take(client.headers(1, GET))
    client.codec.send_head(1, response(200, (b"x", b"y")), end=True)
    # RFC 7541 4.2, 6.3: two updates, to 100 and to 4096
    assert client.sent()[0].payload.startswith(b"\x3f\x45\x3f\xe1\x1f")


def test_a_preface_cut_in_two_is_put_together() -> None:
    client = FakeClient("reference", greet=False)
    client.take(PREFACE[:5], PREFACE[5:] + settings()[:3], settings()[3:])
    assert client.alive()
    client.take(client.headers(1, GET, end=False), data(1, b"x"))
    assert len(client.events) == 3
