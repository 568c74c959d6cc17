"""Windows, queues, resets and goodbyes over HTTP/2, the same with either engine."""

from __future__ import annotations

import pytest

from agent.codec.headers import Headers
from agent.codec.http2 import (
    CANCEL,
    FLOW_CONTROL_ERROR,
    INTERNAL_ERROR,
    NO_ERROR,
    DataReceived,
    GoAwayReceived,
    Http2Limits,
    StreamReset,
)
from tests.fake_http2_peer import (
    DATA,
    ENGINES,
    GET,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    OK,
    POST,
    RST_STREAM,
    WINDOW_UPDATE,
    FakeClient,
    FakePeer,
    FakeServer,
    data,
    frame,
    goaway,
    heads,
    request,
    resets,
    response,
    rst_stream,
    settings,
    window_update,
)

pytestmark = pytest.mark.parametrize("engine", ENGINES)

FULL = b"x" * 16384


def given_back(peer: FakePeer, stream: int) -> int:
    """What the frames still to be sent give back to that window."""
    return sum(
        int.from_bytes(each.payload, "big")
        for each in peer.sent()
        if each.kind == WINDOW_UPDATE and each.stream == stream
    )


@pytest.mark.parametrize("window", [1000, 65535])
def test_a_connection_s_window_that_is_no_larger_than_it_begins_is_not_told(engine: str, window: int) -> None:
    client = FakeClient(engine, Http2Limits(connection_window=window), greet=False)
    assert [each for each in client.sent() if each.kind == WINDOW_UPDATE] == []


def answering(engine: str, *numbers: int) -> FakeClient:
    """A client whose requests have been answered with a head each; the bodies are to come."""
    client = FakeClient(engine)
    for number in numbers or (1,):
        client.take(client.headers(number, GET))
        client.codec.send_head(number, response(), end=False)
    client.sent()
    return client


# --- the windows that we give


def test_nothing_is_given_back_before_it_was_passed_on(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, POST, end=False), *[data(1, FULL)] * 15)
    assert given_back(client, 1) == 0


def test_what_was_passed_on_is_given_back(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, POST, end=False))
    for event in client.take(*[data(1, FULL)] * 15):
        assert isinstance(event, DataReceived)
        assert event.credit == len(FULL)
        client.codec.consume(1, event.credit)
    frames = client.sent()
    for stream in (0, 1):
        updates = [each for each in frames if each.kind == WINDOW_UPDATE and each.stream == stream]
        given = sum(int.from_bytes(each.payload, "big") for each in updates)
        assert given <= 15 * len(FULL)
        if stream:
            assert given >= 8 * len(FULL), "half a window may wait, no more"


def test_a_stream_beyond_its_window(engine: str) -> None:
    client = FakeClient(engine, Http2Limits(stream_window=65536))
    client.take(client.headers(1, POST, end=False), *[data(1, FULL)] * 4)
    assert not client.codec.failed
    client.take(data(1, b"x"))
    codes = [each.code for each in client.sent() if each.kind in (GOAWAY, RST_STREAM)]
    assert codes == [FLOW_CONTROL_ERROR]
    assert client.codec.failed or resets(client.events)


def test_a_connection_beyond_its_window(engine: str) -> None:
    client = FakeClient(engine, Http2Limits(stream_window=65536, connection_window=100_000))
    for number in (1, 3):
        client.take(client.headers(number, POST, end=False))
    client.take(*[data(1, FULL)] * 4, *[data(3, FULL)] * 2)
    assert not client.codec.failed
    assert client.fails(data(3, FULL)) == FLOW_CONTROL_ERROR


def test_padding_is_given_back_as_if_it_had_been_read(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, POST, end=False))
    for _ in range(3000):  # three times the connection's window, nearly all of it padding
        for event in client.take(data(1, b"xy", padding=255)):
            assert isinstance(event, DataReceived)
            client.codec.consume(1, event.credit)
    assert not client.codec.failed
    assert not resets(client.events)


@pytest.mark.parametrize("by", ["us", "them"])
def test_data_of_a_stream_that_is_gone_does_not_eat_the_connection(engine: str, by: str) -> None:
    client = FakeClient(engine)
    for number in range(1, 41, 2):
        client.take(client.headers(number, POST, end=False), *[data(number, FULL)] * 4)
        if by == "us":
            client.codec.reset(number, CANCEL)
            client.sent()
            client.take(*[data(number, FULL)] * 4)
        else:
            client.take(rst_stream(number))
        for event in client.events:  # the driver returns what it had not passed on
            if isinstance(event, DataReceived) and event.stream_id == number:
                client.codec.consume(number, event.credit)
        client.sent()
    assert not client.codec.failed


def test_consuming_after_the_end_is_for_the_connection(engine: str) -> None:
    client = FakeClient(engine)
    for number in range(1, 61, 2):
        client.take(client.headers(number, POST, end=False), data(number, FULL), data(number, FULL, end=True))
        client.codec.send_head(number, response(), end=True)
        client.sent()
        client.codec.consume(number, 2 * len(FULL))
    assert not client.codec.failed
    assert client.alive()


# --- the windows that we are given


def test_a_body_waits_for_the_stream_s_window(engine: str) -> None:
    client = FakeClient(engine, greet=False)
    client.take(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings((INITIAL_WINDOW, 10)))
    client.take(client.headers(1, GET))
    client.codec.send_head(1, response(), end=False)
    client.codec.send_data(1, b"0123456789abcde", end=True)
    assert b"".join(each.payload for each in client.sent() if each.kind == DATA) == b"0123456789"
    assert client.codec.queued(1) == 5
    client.take(window_update(1, 3))
    assert [(each.payload, each.end) for each in client.sent()] == [(b"abc", False)]
    client.take(window_update(1, 10))
    assert [(each.payload, each.end) for each in client.sent()] == [(b"de", True)]
    assert client.codec.queued(1) == 0


def test_bodies_wait_for_the_connection_s_window(engine: str) -> None:
    client = answering(engine, 1, 3)
    for number in (1, 3):
        client.codec.send_data(number, b"x" * 60000, end=True)
    assert sum(len(each.payload) for each in client.sent()) == 65535
    client.take(window_update(0, 100_000))
    assert sum(len(each.payload) for each in client.sent()) == 120_000 - 65535
    assert {each.stream for each in client.frames if each.kind == DATA and each.end} == {1, 3}


def test_new_settings_move_the_windows_of_open_streams(engine: str) -> None:
    client = answering(engine)
    client.codec.send_data(1, b"x" * 65000)
    client.sent()
    client.take(settings((INITIAL_WINDOW, 1000)))  # the window is 64000 below zero now
    client.codec.send_data(1, b"y" * 1000)
    assert not [each for each in client.sent() if each.kind == DATA]
    client.take(window_update(1, 64000))
    assert not [each for each in client.sent() if each.kind == DATA]
    client.take(window_update(1, 100), window_update(0, 100))
    assert [each.payload for each in client.sent() if each.kind == DATA] == [b"y" * 100]


def test_larger_windows_by_settings_wake_what_waits(engine: str) -> None:
    client = FakeClient(engine, greet=False)
    client.take(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings((INITIAL_WINDOW, 0)))
    client.take(client.headers(1, GET))
    client.codec.send_head(1, response(), end=False)
    client.codec.send_data(1, b"hello", end=True)
    assert [each.kind for each in client.sent() if each.kind == DATA] == []
    client.take(settings((INITIAL_WINDOW, 100)))
    assert [each.payload for each in client.sent() if each.kind == DATA] == [b"hello"]


@pytest.mark.parametrize("stream", [0, 1])
def test_a_window_beyond_its_largest_size(engine: str, stream: int) -> None:
    client = answering(engine)
    client.take(window_update(stream, 2**31 - 1))
    codes = [each.code for each in client.sent() if each.kind in (GOAWAY, RST_STREAM)]
    assert codes == [FLOW_CONTROL_ERROR]
    assert client.codec.failed or (stream and resets(client.events))


# --- queues


def test_about_as_much_as_asked_for_is_sent_at_a_time(engine: str) -> None:
    client = answering(engine)
    client.codec.send_data(1, b"x" * 60000, end=True)
    total, turns = 0, 0
    while piece := client.codec.data_to_send(5000):
        assert len(piece) <= 5000 + 16384 + 9
        total += len(piece)
        turns += 1
    assert 60000 < total < 60300
    assert turns >= 3


def test_no_stream_starves_another(engine: str) -> None:
    numbers = tuple(range(1, 41, 2))
    client = answering(engine, *numbers)
    client.take(window_update(0, 1 << 24))
    for number in numbers:
        client.codec.send_data(number, b"x" * 60000, end=True)
    seen: list[int] = []
    while len(seen) < 2 * len(numbers):
        seen += [each.stream for each in client.read(16384)]
    assert set(seen) == set(numbers)
    assert max(seen.count(number) for number in numbers) <= 3


def test_the_order_of_one_stream_is_kept(engine: str) -> None:
    client = answering(engine)
    for at in range(50):
        client.codec.send_data(1, b"%d," % at)
    client.codec.send_end(1, Headers([(b"x-t", b"1")]))
    frames = client.sent()
    assert b"".join(each.payload for each in frames if each.kind == DATA) == b"".join(b"%d," % at for at in range(50))
    assert frames[-1].fields == [(b"x-t", b"1")]


def test_trailers_wait_for_the_body(engine: str) -> None:
    client = answering(engine)
    client.codec.send_data(1, b"x" * 70000)
    client.codec.send_end(1, Headers([(b"x-t", b"1")]))
    assert all(each.kind == DATA for each in client.sent())
    client.take(window_update(0, 10000), window_update(1, 10000))
    assert [(each.kind, each.end) for each in client.sent()] == [(DATA, False), (HEADERS, True)]


def test_nothing_is_queued_for_a_stream_that_never_was(engine: str) -> None:
    client = FakeClient(engine)
    client.codec.send_data(9, b"x")
    client.codec.send_head(9, response(), end=True)
    client.codec.send_end(9)
    client.codec.reset(9, CANCEL)
    assert client.codec.queued(9) == 0
    assert client.sent() == []


# --- resets


def test_the_peer_resets(engine: str) -> None:
    client = answering(engine)
    client.codec.send_data(1, b"x" * 70000)
    client.sent()
    (event,) = client.take(rst_stream(1, CANCEL))
    assert isinstance(event, StreamReset)
    assert (event.stream_id, event.code, event.remote, event.reason) == (1, CANCEL, True, "")
    assert client.codec.queued(1) == 0
    client.codec.send_data(1, b"late")
    client.codec.send_end(1)
    client.take(window_update(0, 100_000))
    assert client.sent() == []


def test_we_reset(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, POST, end=False))
    client.codec.send_head(1, response(), end=False)
    client.sent()
    client.codec.send_data(1, b"x")
    client.codec.reset(1, INTERNAL_ERROR)
    client.codec.reset(1, INTERNAL_ERROR)
    assert [(each.kind, each.stream, each.code) for each in client.sent()] == [(RST_STREAM, 1, INTERNAL_ERROR)]
    late = client.take(data(1, b"x"), client.headers(1, [(b"x-t", b"1")]))
    assert late == [], "no event comes of it, nor of what was on its way"
    assert client.alive()


def test_a_client_resets(engine: str) -> None:
    server = FakeServer(engine)
    number = server.requested(end=False)
    server.codec.reset(number, CANCEL)
    assert [(each.kind, each.code) for each in server.sent()] == [(RST_STREAM, CANCEL)]
    assert server.take(server.headers(number, OK, end=False), data(number, b"x", end=True)) == []
    assert server.alive()


def test_a_server_that_has_answered_may_reset_a_body_it_does_not_want(engine: str) -> None:
    server = FakeServer(engine)
    number = server.requested(method=b"POST", end=False)
    events = server.take(server.headers(number, OK), rst_stream(number, NO_ERROR))
    assert heads(events)[0].end
    assert [(event.code, event.remote) for event in resets(events)] == [(NO_ERROR, True)]


# --- goodbyes


def test_a_shutdown_is_announced_and_then_said(engine: str) -> None:
    client = answering(engine)
    client.codec.announce_shutdown()
    assert [(each.last_stream, each.code) for each in client.sent()] == [(2**31 - 1, NO_ERROR)]
    client.take(client.headers(3, GET))
    assert [event.stream_id for event in heads(client.events)] == [1, 3], "what was on its way is still served"
    client.codec.goaway()
    assert [(each.last_stream, each.code) for each in client.sent()] == [(3, NO_ERROR)]
    client.take(client.headers(5, GET))
    assert [event.stream_id for event in heads(client.events)] == [1, 3]
    client.codec.send_data(1, b"bye", end=True)
    assert [(each.payload, each.end) for each in client.sent() if each.kind == DATA] == [(b"bye", True)]
    assert not client.codec.failed


def test_a_client_s_goaway_does_not_cut_its_answers(engine: str) -> None:
    client = answering(engine, 1, 3)
    (event,) = client.take(goaway(0))
    assert isinstance(event, GoAwayReceived)
    assert (event.last_stream_id, event.code) == (0, NO_ERROR)
    client.codec.send_data(1, b"one", end=True)
    client.codec.send_end(3, Headers([(b"x-t", b"1")]))
    assert {each.stream for each in client.sent() if each.end} == {1, 3}


def test_a_server_s_goaway_leaves_the_streams_below_it(engine: str) -> None:
    server = FakeServer(engine)
    first, second = server.requested(), server.requested()
    events = server.take(goaway(first, NO_ERROR))
    assert [event.last_stream_id for event in events if isinstance(event, GoAwayReceived)] == [first]
    assert server.codec.open_stream(request(), end=True) == 0
    server.codec.reset(second, CANCEL)  # the driver ends those above
    events = server.take(server.headers(first, OK, end=False), data(first, b"x", end=True))
    assert len(heads(events)) == 1
    assert not server.codec.failed


def test_a_notice_and_then_the_real_goaway(engine: str) -> None:
    server = FakeServer(engine)
    first = server.requested()
    events = server.take(goaway(2**31 - 1), goaway(first))
    assert [event.last_stream_id for event in events if isinstance(event, GoAwayReceived)] == [2**31 - 1, first]


def test_a_client_says_goodbye(engine: str) -> None:
    server = FakeServer(engine)
    number = server.requested()
    server.codec.goaway()
    assert [(each.kind, each.last_stream, each.code) for each in server.sent()] == [(GOAWAY, 0, NO_ERROR)]
    assert len(heads(server.take(server.headers(number, OK)))) == 1


def test_an_error_of_the_connection_is_no_goodbye(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, GET))
    client.fails(frame(DATA, 0, 3, b"idle"))
    assert client.codec.counts
    assert client.codec.receive_data(client.headers(5, GET)) == []


LATE = {
    "data": data(1, b"late") * 3,
    "end": data(1, b"late", end=True) * 2,
    "window": window_update(1, 5),
    "bad window": window_update(1, 0),
    "reset": rst_stream(1),
    "data and reset": data(1, b"late") + rst_stream(1) + data(1, b"late"),
}


@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
@pytest.mark.parametrize("cause", ["ours", "malformed", "answered", "too many"])
def test_what_comes_late_for_a_stream_that_we_have_reset_is_ignored(engine: str, late: bytes, cause: str) -> None:
    client = FakeClient(engine, Http2Limits(max_concurrent_streams=0 if cause == "too many" else 5))
    field = {"malformed": [(b"connection", b"x")], "answered": [(b"expect", b"x")]}.get(cause, [])
    client.take(client.headers(1, [*POST, *field], end=False))
    if cause == "ours":
        client.codec.reset(1, CANCEL)
    assert [each.stream for each in client.sent() if each.kind == RST_STREAM] == [1]
    client.take(client.headers(1, [(b"x-t", b"late")], end=False) if cause == "ours" else b"", late)
    client.codec.reset(1, CANCEL)
    assert [each for each in client.sent() if each.kind != WINDOW_UPDATE] == []
    assert client.alive()


@pytest.mark.parametrize("late", LATE.values(), ids=LATE)
def test_what_comes_late_for_a_request_that_we_have_reset_is_ignored(engine: str, late: bytes) -> None:
    server = FakeServer(engine)
    server.requested(end=False)
    server.codec.reset(1, CANCEL)
    assert [each.kind for each in server.sent()] == [RST_STREAM]
    before = len(server.events)
    server.take(server.headers(1, OK, end=False), late, server.headers(1, [(b"x-t", b"late")]))
    assert server.events[before:] == []
    assert [each for each in server.sent() if each.kind != WINDOW_UPDATE] == []
    assert server.alive()


def test_what_comes_for_a_stream_that_the_peer_has_reset_is_not_answered(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, POST, end=False), rst_stream(1), data(1, b"x") * 3)
    assert [each for each in client.sent() if each.kind != WINDOW_UPDATE] == []
    assert client.alive()


def test_late_data_is_given_back_to_the_connection(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, POST, end=False))
    client.codec.reset(1, CANCEL)
    client.sent()
    client.take(*(data(1, FULL) for _ in range(64)))
    assert given_back(client, 0) >= 512 * 1024
    assert client.alive()
