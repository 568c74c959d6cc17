"""The fast engine's streams: what it asks back of windows, and that nothing stays of what is over."""

from __future__ import annotations

import gc

import pytest

from agent.codec.h2_sending import Stream
from agent.codec.http2 import CANCEL, DataReceived, Http2Limits
from tests.fake_http2_peer import (
    DATA,
    GET,
    HEADERS,
    OK,
    POST,
    RST_STREAM,
    WINDOW_UPDATE,
    FakeClient,
    FakeServer,
    data,
    request,
    response,
    rst_stream,
)


def updates(peer: FakeClient) -> list[tuple[int, int]]:
    return [(each.stream, int.from_bytes(each.payload, "big")) for each in peer.sent() if each.kind == WINDOW_UPDATE]


def test_windows_are_given_back_by_halves() -> None:
    client = FakeClient("fast", Http2Limits(stream_window=80_000, connection_window=160_000))
    client.take(client.headers(1, POST, end=False))
    told = []
    for _ in range(10):
        for event in client.take(data(1, b"x" * 10_000)):
            assert isinstance(event, DataReceived)
            client.codec.consume(1, event.credit)
        told.append(updates(client))
    assert told == [[], [], [], [(1, 40_000)], [], [], [], [(0, 80_000), (1, 40_000)], [], []]


def test_no_window_is_given_to_a_stream_that_has_ended() -> None:
    client = FakeClient("fast", Http2Limits(stream_window=65535))
    client.take(client.headers(1, POST, end=False), data(1, b"x" * 16384) * 3, data(1, end=True))
    client.codec.consume(1, 3 * 16384)
    assert updates(client) == []


def test_a_window_of_nothing_is_a_window() -> None:
    client = FakeClient("fast", Http2Limits(stream_window=0))
    client.take(client.headers(1, POST, end=False), data(1, b"x"))
    assert [each.kind for each in client.sent()] == [RST_STREAM]


@pytest.mark.parametrize("ended", ["both", "reset by us", "reset by the peer", "refused"])
def test_nothing_is_left_of_streams_that_are_over(ended: str) -> None:
    before = _streams_alive()
    client, server = FakeClient("fast"), FakeServer("fast")
    for number in range(1, 2001, 2):
        client.now += 1.0
        server.now += 1.0
        client.take(client.headers(number, [*GET, (b"x\0" if ended == "refused" else b"x", b"1")]))
        server.codec.open_stream(request(), end=True)
        server.sent()
        if ended == "both":
            client.codec.send_head(number, response(), end=False)
            client.codec.send_data(number, b"x", end=True)
            server.take(server.headers(number, OK))
        elif ended == "reset by us":
            client.codec.send_head(number, response(), end=False)
            client.codec.send_data(number, b"x" * 10_000)
            client.codec.reset(number, CANCEL)
            server.codec.reset(number, CANCEL)
        else:
            client.take(rst_stream(number))
            server.take(rst_stream(number))
        client.sent()
        server.sent()
        for peer in (client, server):
            peer.events.clear()
            peer.frames.clear()
    assert client.alive()
    assert server.alive()
    assert _streams_alive() == before


def _streams_alive() -> int:
    gc.collect()
    return sum(type(each) is Stream for each in gc.get_objects())


def test_heads_that_are_out_of_place_are_not_sent() -> None:
    client = FakeClient("fast")
    client.take(client.headers(1, GET))
    client.codec.send_head(1, response(), end=False)
    client.codec.send_head(1, response(103), end=False)
    client.codec.send_head(1, response(), end=True)
    client.codec.send_data(1, b"x", end=True)
    assert [each.kind for each in client.sent()] == [HEADERS, DATA]
