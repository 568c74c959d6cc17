"""The MUSTs of RFC 9113 to which an endpoint can be held from outside, over both engines; and roles, where both apply.

A stream error may be taken for a connection error (5.4.1), so both pass where the RFC asks for a stream error.

Not testable without a socket, TLS or the other parts of the proxy, or not a duty of ours:
3.2, 3.3, 9.2  ALPN "h2", TLS 1.2 and its ciphers: TLS is the transport's.
4.2            a frame size that the peer may not exceed is ours to announce; we keep to the default (tested as such).
5.1            closing a connection at the end of stream numbers: 2^30 requests; open_stream then gives 0.
5.1.1          a first use of a number closes lower idle ones: seen only as the error for using them, which is tested.
5.2.1          a receiver's own flow control is its to choose; that it is told is tested with the windows.
6.5.3          SETTINGS that are never acknowledged: a deadline, which the driver holds.
6.8            retrying on a new connection after GOAWAY: the driver's.
7              unknown error codes have no special meaning: nothing to see but that they do nothing (tested).
8.1            a complete response before the request's end: the exchange decides.
8.4            pushes: we turn them off and send none; what a server's pushes meet is tested.
8.7            which requests may be retried: the exchange's.
9.1, 9.1.1     when connections are reused: the pool's.
10.3, 10.5     intermediaries and floods: tests/agent/codec/test_h2_heads.py and test_h2_gate.py.
"""

from __future__ import annotations

import pytest

from agent.codec.headers import Headers
from agent.codec.http2 import (
    COMPRESSION_ERROR,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    Http2Limits,
)
from tests.fake_http2_peer import (
    ACK,
    CONNECT_PROTOCOL,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    ENGINES,
    GET,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    OK,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    FakeClient,
    FakePeer,
    FakeServer,
    Fields,
    body,
    data,
    frame,
    goaway,
    heads,
    ping,
    request,
    resets,
    response,
    rst_stream,
    settings,
    trailers,
    window_update,
)


@pytest.fixture(params=ENGINES)
def client(request: pytest.FixtureRequest) -> FakeClient:
    """In front of a server codec; stream 1 is open, its body to come."""
    peer = FakeClient(request.param)
    peer.take(peer.headers(1, POST, end=False))
    return peer


@pytest.fixture(params=ENGINES)
def server(request: pytest.FixtureRequest) -> FakeServer:
    """In front of a client codec; on stream 1 a request was begun and a response too."""
    peer = FakeServer(request.param)
    assert peer.requested(end=False) == 1
    peer.take(peer.headers(1, OK, end=False))
    return peer


@pytest.fixture(params=[(engine, role) for engine in ENGINES for role in ("client", "server")], ids="-".join)
def peer(request: pytest.FixtureRequest) -> FakePeer:
    """Either of them."""
    engine, role = request.param
    made: FakePeer
    if role == "client":
        made = FakeClient(engine)
        made.take(made.headers(1, POST, end=False))
    else:
        made = FakeServer(engine)
        assert made.requested(method=b"POST", end=False) == 1
        made.take(made.headers(1, OK, end=False))
    return made


def engine_of(peer: FakePeer) -> str:
    return "reference" if "Reference" in type(peer.codec).__name__ else "fast"


def dies(peer: FakePeer, sent: bytes, *codes: int) -> None:
    """A connection error of one of these codes."""
    code = peer.fails(sent)
    assert not codes or code in codes, f"GOAWAY with {code:#x}"


def refuses(peer: FakePeer, sent: bytes, *codes: int, stream: int = 1) -> None:
    """A stream error of one of these codes, or a connection error."""
    peer.take(sent)
    frames = peer.sent()
    if not peer.codec.failed:
        found = [each.code for each in frames if each.kind == RST_STREAM and each.stream == stream]
        assert found, "nothing was refused"
        assert found[0] in codes
    else:
        assert frames[-1].kind == GOAWAY
        assert frames[-1].code != NO_ERROR


def lives(peer: FakePeer, sent: bytes) -> None:
    """Nothing comes of it."""
    before = len(peer.events)
    peer.take(sent)
    assert peer.alive()
    assert not resets(peer.events[before:])


# --- 3. starting


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_starts_with_the_preface_and_settings(engine: str) -> None:
    """3.4"""
    sent = FakeServer(engine, greet=False).codec.data_to_send(1 << 16)
    assert sent.startswith(PREFACE)
    assert sent[len(PREFACE) + 3] == SETTINGS


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_s_first_frame_is_settings(engine: str) -> None:
    """3.4"""
    assert FakeClient(engine, greet=False).sent()[0].kind == SETTINGS


@pytest.mark.parametrize("engine", ENGINES)
def test_the_peer_s_first_settings_are_acknowledged(engine: str) -> None:
    """3.4, 6.5.3"""
    client = FakeClient(engine, greet=False)
    client.take(PREFACE + settings())
    assert any(each.kind == SETTINGS and each.flags == ACK for each in client.sent())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", PREFACE[:-2] + b"\n\n" + settings()])
def test_an_invalid_preface_is_a_connection_error(engine: str, start: bytes) -> None:
    """3.4"""
    dies(FakeClient(engine, greet=False), start, PROTOCOL_ERROR)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("first", [ping(), window_update(0, 1), data(1, b"x")])
def test_a_preface_without_settings_is_a_connection_error(engine: str, first: bytes) -> None:
    """3.4"""
    dies(FakeClient(engine, greet=False), PREFACE + first, PROTOCOL_ERROR)
    dies(FakeServer(engine, greet=False), first, PROTOCOL_ERROR)


# --- 4. frames


def test_unknown_frame_types_are_ignored(peer: FakePeer) -> None:
    """4.1, 5.5"""
    lives(peer, frame(0xAB, 0xFF, 1, b"what") + frame(0xCD, 0, 0))


def test_unknown_flags_are_ignored(peer: FakePeer) -> None:
    """4.1"""
    lives(peer, frame(PING, 0xFE, 0, bytes(8)) + frame(DATA, 0xF6, 1, b"x"))
    assert body(peer.events, 1) == b"x"


def test_the_reserved_bit_is_ignored(peer: FakePeer) -> None:
    """4.1"""
    lives(peer, frame(DATA, 0, 1 | 1 << 31, b"x") + frame(WINDOW_UPDATE, 0, 1 << 31, (1 | 1 << 31).to_bytes(4, "big")))
    assert body(peer.events, 1) == b"x"


def test_frames_of_the_default_size_are_taken(peer: FakePeer) -> None:
    """4.2"""
    lives(peer, data(1, b"x" * 16384))


def test_frames_beyond_the_announced_size_are_an_error(peer: FakePeer) -> None:
    """4.2"""
    dies(peer, data(1, b"x" * 16385), FRAME_SIZE_ERROR)


@pytest.mark.parametrize(
    "sent",
    [
        frame(PING, 0, 0, bytes(7)),
        frame(PING, 0, 0, bytes(9)),
        frame(SETTINGS, 0, 0, bytes(5)),
        frame(SETTINGS, ACK, 0, bytes(6)),
        frame(WINDOW_UPDATE, 0, 0, bytes(3)),
        frame(WINDOW_UPDATE, 0, 1, bytes(5)),
        frame(RST_STREAM, 0, 1, bytes(3)),
        frame(RST_STREAM, 0, 1, bytes(5)),
        frame(GOAWAY, 0, 0, bytes(7)),
        frame(HEADERS, END_HEADERS | PRIORITIZED, 1, bytes(4)),
    ],
    ids=["ping-7", "ping-9", "settings-5", "ack-6", "wu-3", "wu-5", "rst-3", "rst-5", "goaway-7", "headers-priority-4"],
)
def test_frames_of_a_wrong_size_are_a_connection_error(peer: FakePeer, sent: bytes) -> None:
    """4.2, 6.4, 6.5, 6.7, 6.9"""
    dies(peer, sent, FRAME_SIZE_ERROR, PROTOCOL_ERROR)


@pytest.mark.parametrize("size", [4, 6])
def test_a_priority_frame_of_a_wrong_size_is_a_stream_error(peer: FakePeer, size: int) -> None:
    """6.3"""
    refuses(peer, frame(PRIORITY, 0, 1, bytes(size)), FRAME_SIZE_ERROR)


def test_a_header_block_is_not_interrupted(peer: FakePeer) -> None:
    """4.3, 6.2, 6.10"""
    block = peer.block([(b"x-t", b"1")])
    for between in (ping(), data(1, b"x"), settings(), frame(0xAB, 0, 1), window_update(0, 1)):
        twin = type(peer)(engine_of(peer))  # type: ignore[call-arg]
        if isinstance(twin, FakeServer):
            twin.requested()
        dies(twin, frame(HEADERS, END_STREAM, 1, block[:1]) + between, PROTOCOL_ERROR)


def test_a_continuation_of_another_stream_is_a_connection_error(client: FakeClient) -> None:
    """4.3, 6.10"""
    block = client.block(GET)
    dies(client, frame(HEADERS, END_STREAM, 3, block[:3]) + frame(CONTINUATION, 4, 1, block[3:]), PROTOCOL_ERROR)


@pytest.mark.parametrize(
    "block",
    [b"\xff" * 6, b"\x80", b"\xff\x00", b"\x82\x40\x05ab", b"\x3f\xe1\xff\x03"],
    ids=["endless index", "index 0", "index beyond the table", "cut short", "table beyond our size"],
)
def test_a_block_that_does_not_decompress_is_a_connection_error(peer: FakePeer, block: bytes) -> None:
    """4.3"""
    dies(peer, frame(HEADERS, END_HEADERS | END_STREAM, 1, block), COMPRESSION_ERROR)


def test_a_refused_stream_s_header_block_is_still_decompressed(client: FakeClient) -> None:
    """4.3: the table is the connection's"""
    client.codec.reset(1, 8)
    client.take(client.headers(1, [(b"x-new", b"table entry")]))
    client.take(client.headers(3, [*GET, (b"connection", b"close"), (b"x-other", b"table entry")]))
    client.take(client.headers(5, [*GET, (b"x-new", b"table entry"), (b"x-other", b"table entry")]))
    head = heads(client.events)[-1]
    assert (head.stream_id, head.head.headers.get(b"x-new"), head.head.headers.get(b"x-other")) == (
        5,
        b"table entry",
        b"table entry",
    )


# --- 5. streams


@pytest.mark.parametrize(
    "sent",
    [data(5, b"x"), rst_stream(5), window_update(5, 1), frame(CONTINUATION, END_HEADERS, 5, b"\x82")],
    ids=["data", "rst_stream", "window_update", "continuation"],
)
def test_frames_on_idle_streams_are_a_connection_error(peer: FakePeer, sent: bytes) -> None:
    """5.1, 6.1, 6.4, 6.9"""
    dies(peer, sent, PROTOCOL_ERROR, STREAM_CLOSED)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", [DATA, HEADERS, RST_STREAM, WINDOW_UPDATE])
def test_an_answer_to_a_request_that_has_not_left_is_a_connection_error(engine: str, kind: int) -> None:
    """5.1: to the server, the stream is idle"""
    server = FakeServer(engine)
    number = server.codec.open_stream(request(), end=False)
    early = {
        DATA: data(number, b"x"),
        HEADERS: server.headers(number, OK),
        RST_STREAM: rst_stream(number),
        WINDOW_UPDATE: window_update(number, 1),
    }
    dies(server, early[kind], PROTOCOL_ERROR, STREAM_CLOSED)
    assert heads(server.events) == []


def test_priority_may_come_in_any_state(peer: FakePeer) -> None:
    """5.1, 6.3"""
    lives(peer, b"".join(frame(PRIORITY, 0, number, bytes(4) + b"\x10") for number in (1, 3, 99)))


@pytest.mark.parametrize("late", [data(1, b"x"), frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82")])
def test_nothing_follows_the_end_of_the_peer_s_side(client: FakeClient, late: bytes) -> None:
    """5.1: half-closed (remote)"""
    client.take(data(1, b"x", end=True))
    refuses(client, late, STREAM_CLOSED)
    assert body(client.events, 1) == b"x"


def test_a_reset_is_not_answered_with_a_reset(peer: FakePeer) -> None:
    """5.4.2"""
    peer.take(rst_stream(1))
    assert not [each for each in peer.sent() if each.kind == RST_STREAM]


def test_frames_after_the_peer_s_reset_are_an_error(client: FakeClient) -> None:
    """5.1: closed; a STREAM_CLOSED error, or none for what may have been in flight"""
    client.take(rst_stream(1))
    client.take(data(1, b"x"))
    assert body(client.events, 1) == b""


def test_frames_in_flight_after_our_reset_are_ignored(peer: FakePeer) -> None:
    """5.1, 5.4.2"""
    peer.codec.reset(1, 8)
    peer.sent()
    before = len(peer.events)
    lives(peer, data(1, b"x") + peer.headers(1, [(b"x-t", b"1")]))
    assert peer.events[before:] == [event for event in peer.events[before:] if not hasattr(event, "stream_id")]


def test_data_for_a_stream_that_we_reset_counts_for_the_connection(peer: FakePeer) -> None:
    """5.1, 6.9: and is given back, else the connection would stall"""
    peer.codec.reset(1, 8)
    peer.sent()
    for _ in range(80):
        lives(peer, data(1, b"x" * 16384))
    assert any(each.kind == WINDOW_UPDATE and each.stream == 0 for each in peer.frames)


@pytest.mark.parametrize("number", [2, 4])
def test_a_client_s_streams_are_odd(client: FakeClient, number: int) -> None:
    """5.1.1"""
    dies(client, client.headers(number, GET), PROTOCOL_ERROR)


def test_a_client_opens_odd_streams_in_order(server: FakeServer) -> None:
    """5.1.1"""
    assert [server.requested() for _ in range(3)] == [3, 5, 7]


def test_a_server_opens_no_streams(server: FakeServer) -> None:
    """5.1.1, 8.1"""
    for number in (2, 5):
        twin = FakeServer(engine_of(server))
        twin.requested()
        dies(twin, twin.headers(number, OK), PROTOCOL_ERROR, STREAM_CLOSED)


def test_new_streams_have_higher_numbers_than_all_before(client: FakeClient) -> None:
    """5.1.1"""
    client.take(client.headers(7, GET))
    dies(client, client.headers(5, GET), PROTOCOL_ERROR, STREAM_CLOSED)


def test_stream_0_is_no_stream(peer: FakePeer) -> None:
    """5.1.1, 6.1, 6.2, 6.3, 6.4, 6.10"""
    for sent in (
        data(0, b"x"),
        frame(HEADERS, END_HEADERS | END_STREAM, 0, b"\x82"),
        frame(PRIORITY, 0, 0, bytes(5)),
        rst_stream(0),
        frame(CONTINUATION, END_HEADERS, 0, b"\x82"),
    ):
        dies(type(peer)(engine_of(peer)), sent, PROTOCOL_ERROR)  # type: ignore[call-arg]


@pytest.mark.parametrize("sent", [frame(SETTINGS, 0, 1), frame(PING, 0, 1, bytes(8)), frame(GOAWAY, 0, 1, bytes(8))])
def test_frames_of_the_connection_are_on_stream_0(peer: FakePeer, sent: bytes) -> None:
    """6.5, 6.7, 6.8"""
    dies(peer, sent, PROTOCOL_ERROR)


@pytest.mark.parametrize("engine", ENGINES)
def test_more_streams_than_announced_are_a_stream_error(engine: str) -> None:
    """5.1.2"""
    client = FakeClient(engine, Http2Limits(max_concurrent_streams=1))
    client.take(client.headers(1, POST, end=False))
    refuses(client, client.headers(3, GET), PROTOCOL_ERROR, REFUSED_STREAM, stream=3)
    assert len(heads(client.events)) == 1
    lives(client, data(1, b"x", end=True))


def test_after_a_connection_error_a_goaway_is_sent_and_nothing_else_read(peer: FakePeer) -> None:
    """5.4.1"""
    dies(peer, data(0, b"x"))
    assert peer.take(ping()) == []
    assert peer.sent() == []


def test_an_error_of_a_stream_leaves_the_others(client: FakeClient) -> None:
    """5.4.2"""
    client.take(client.headers(3, [*GET, (b"connection", b"close")]))
    assert [each.stream for each in client.sent() if each.kind == RST_STREAM] == [3]
    lives(client, data(1, b"x", end=True))


# --- 6. frames by type


@pytest.mark.parametrize("kind", [DATA, HEADERS])
@pytest.mark.parametrize("payload", [b"\x06abcde", b"\xff"])
def test_padding_as_long_as_the_frame_is_a_connection_error(client: FakeClient, kind: int, payload: bytes) -> None:
    """6.1, 6.2"""
    number = 1 if kind == DATA else 3
    dies(client, frame(kind, PADDED | END_HEADERS if kind == HEADERS else PADDED, number, payload), PROTOCOL_ERROR)


def test_padding_is_no_data(peer: FakePeer) -> None:
    """6.1"""
    lives(peer, data(1, b"body", padding=200) + data(1, b"", padding=0))
    assert body(peer.events, 1) == b"body"


def test_unknown_error_codes_mean_nothing_special(peer: FakePeer) -> None:
    """7"""
    events = peer.take(rst_stream(1, 0xDEAD))
    assert [(event.code, event.remote) for event in resets(events)] == [(0xDEAD, True)]
    assert peer.alive()


def test_settings_are_acknowledged_once_each(peer: FakePeer) -> None:
    """6.5.3"""
    peer.take(settings((INITIAL_WINDOW, 1000)) + settings())
    assert [each.flags for each in peer.sent() if each.kind == SETTINGS] == [ACK, ACK]


def test_unknown_settings_are_ignored(peer: FakePeer) -> None:
    """6.5.2"""
    lives(peer, settings((0xFFFF, 7)))


def test_settings_are_taken_in_order(client: FakeClient) -> None:
    """6.5: the last value counts"""
    client.take(settings((INITIAL_WINDOW, 5), (INITIAL_WINDOW, 3)))
    client.take(client.headers(3, GET))
    client.codec.send_head(3, response(), end=False)
    client.codec.send_data(3, b"hello")
    assert b"".join(each.payload for each in client.sent() if each.kind == DATA) == b"hel"


@pytest.mark.parametrize(
    ("value", "codes"),
    [
        ((ENABLE_PUSH, 2), (PROTOCOL_ERROR,)),
        ((INITIAL_WINDOW, 1 << 31), (FLOW_CONTROL_ERROR,)),
        ((MAX_FRAME, 16383), (PROTOCOL_ERROR,)),
        ((MAX_FRAME, 1 << 24), (PROTOCOL_ERROR,)),
        ((CONNECT_PROTOCOL, 2), (PROTOCOL_ERROR,)),
    ],
    ids=["push", "window", "small frame", "large frame", "connect"],
)
def test_settings_that_may_not_be(peer: FakePeer, value: tuple[int, int], codes: tuple[int, ...]) -> None:
    """6.5.2; RFC 8441 3"""
    dies(peer, settings(value), *codes)


def test_a_server_may_not_enable_pushes(server: FakeServer) -> None:
    """6.5.2"""
    dies(server, settings((ENABLE_PUSH, 1)), PROTOCOL_ERROR)


def test_frames_are_no_larger_than_the_peer_takes(client: FakeClient) -> None:
    """4.2, 6.5.2"""
    client.take(window_update(0, 1 << 20) + window_update(1, 1 << 20))
    client.codec.send_head(1, response(200, *((b"x-%d" % at, b"v" * 3000) for at in range(10))), end=False)
    client.codec.send_data(1, b"x" * 100_000, end=True)
    assert max(len(each.payload) for each in client.sent()) <= 16384


def test_a_push_is_a_connection_error(server: FakeServer) -> None:
    """6.6, 8.4: we have turned them off"""
    promise = (2).to_bytes(4, "big") + server.block(GET)
    dies(server, frame(PUSH_PROMISE, END_HEADERS, 1, promise), PROTOCOL_ERROR, REFUSED_STREAM)


def test_a_client_cannot_push(client: FakeClient) -> None:
    """6.6, 8.4"""
    dies(client, frame(PUSH_PROMISE, END_HEADERS, 1, (2).to_bytes(4, "big") + client.block(GET)), PROTOCOL_ERROR)


def test_pings_are_answered_with_their_payload(peer: FakePeer) -> None:
    """6.7"""
    peer.take(ping(b"\0\xff234567"))
    assert [(each.flags, each.payload) for each in peer.sent() if each.kind == PING] == [(ACK, b"\0\xff234567")]


def test_answers_to_pings_are_not_answered(peer: FakePeer) -> None:
    """6.7"""
    peer.take(ping(ack=True))
    assert not [each for each in peer.sent() if each.kind == PING]


def test_no_stream_is_opened_after_the_peer_s_goaway(server: FakeServer) -> None:
    """6.8"""
    server.take(goaway(1))
    assert server.codec.open_stream(request(), end=True) == 0


def test_the_last_stream_of_goaways_does_not_grow(client: FakeClient) -> None:
    """6.8"""
    client.codec.announce_shutdown()
    client.codec.goaway()
    client.codec.goaway()
    last = [each.last_stream for each in client.sent() if each.kind == GOAWAY]
    assert last == sorted(last, reverse=True)
    assert last[-1] == 1


def test_streams_beyond_our_goaway_are_not_processed(client: FakeClient) -> None:
    """6.8; their header blocks and data are still accounted for"""
    client.codec.goaway()
    client.sent()
    lives(client, client.headers(3, [*GET, (b"x-table", b"entry")], end=False) + data(3, b"x" * 16384))
    client.take(client.headers(1, [(b"x-table", b"entry")]))
    assert [event.stream_id for event in heads(client.events)] == [1]
    assert [event.trailers.items for event in trailers(client.events)] == [[(b"x-table", b"entry")]]


@pytest.mark.parametrize("stream", [0, 1])
def test_an_update_by_nothing_is_an_error(peer: FakePeer, stream: int) -> None:
    """6.9"""
    if stream:
        refuses(peer, window_update(1, 0), PROTOCOL_ERROR)
    else:
        dies(peer, window_update(0, 0), PROTOCOL_ERROR)


@pytest.mark.parametrize("stream", [0, 1])
def test_a_window_beyond_its_bound_is_an_error(peer: FakePeer, stream: int) -> None:
    """6.9.1"""
    if stream:
        refuses(peer, window_update(1, 2**31 - 1), FLOW_CONTROL_ERROR)
    else:
        dies(peer, window_update(0, 2**31 - 1), FLOW_CONTROL_ERROR)


def test_settings_that_push_a_window_beyond_its_bound_are_a_connection_error(peer: FakePeer) -> None:
    """6.9.2"""
    dies(peer, window_update(1, 1000) + settings((INITIAL_WINDOW, 2**31 - 1)), FLOW_CONTROL_ERROR)


def test_nothing_is_sent_beyond_a_window(client: FakeClient) -> None:
    """6.9.1, 6.9.2"""
    client.codec.send_head(1, response(), end=False)
    client.codec.send_data(1, b"x" * 100_000, end=True)
    assert sum(len(each.payload) for each in client.sent() if each.kind == DATA) == 65535
    client.take(settings((INITIAL_WINDOW, 0)) + window_update(0, 1 << 20) + window_update(1, 65535))
    assert not [each for each in client.sent() if each.kind == DATA], "the window was negative"


def test_an_update_for_a_closed_stream_is_no_error(client: FakeClient) -> None:
    """6.9"""
    client.take(data(1, b"x", end=True))
    client.codec.send_head(1, response(), end=True)
    client.sent()
    lives(client, window_update(1, 100))


def test_a_continuation_without_a_header_block_is_a_connection_error(peer: FakePeer) -> None:
    """6.10"""
    dies(peer, frame(CONTINUATION, END_HEADERS, 1, b"\x82"), PROTOCOL_ERROR)


# --- 8. messages


def changed(fields: Fields, **pseudo: bytes | None) -> Fields:
    left = [(name, pseudo.get(name[1:].decode(), value)) for name, value in fields]
    return [(name, value) for name, value in left if value is not None]


MALFORMED_REQUESTS: dict[str, Fields] = {
    "8.2.1 upper case name": [*GET, (b"X-A", b"1")],
    "8.2.1 space in name": [*GET, (b"x a", b"1")],
    "8.2.1 control in name": [*GET, (b"x\x01", b"1")],
    "8.2.1 high byte in name": [*GET, (b"x\x80", b"1")],
    "8.2.1 colon in name": [*GET, (b"x:y", b"1")],
    "8.2.1 empty name": [*GET, (b"", b"1")],
    "8.2.1 NUL in value": [*GET, (b"x", b"a\0")],
    "8.2.1 LF in value": [*GET, (b"x", b"a\nb")],
    "8.2.1 CR in value": [*GET, (b"x", b"a\rb")],
    "8.2.1 space before value": [*GET, (b"x", b" a")],
    "8.2.1 tab after value": [*GET, (b"x", b"a\t")],
    "8.2.2 connection": [*GET, (b"connection", b"keep-alive")],
    "8.2.2 proxy-connection": [*GET, (b"proxy-connection", b"keep-alive")],
    "8.2.2 keep-alive": [*GET, (b"keep-alive", b"1")],
    "8.2.2 transfer-encoding": [*GET, (b"transfer-encoding", b"chunked")],
    "8.2.2 upgrade": [*GET, (b"upgrade", b"h2c")],
    "8.2.2 te": [*GET, (b"te", b"gzip")],
    "8.3 undefined pseudo-header": [*GET, (b":foo", b"1")],
    "8.3 response pseudo-header": [*GET, (b":status", b"200")],
    "8.3 pseudo-header after a field": [*GET[:3], (b"x", b"1"), GET[3]],
    "8.3 pseudo-header twice": [*GET, (b":method", b"GET")],
    "8.3.1 no method": changed(GET, method=None),
    "8.3.1 no scheme": changed(GET, scheme=None),
    "8.3.1 no path": changed(GET, path=None),
    "8.3.1 empty path": changed(GET, path=b""),
    "8.3.1 asterisk for GET": changed(GET, path=b"*"),
    "8.3.1 userinfo in authority": changed(GET, authority=b"u@a.example"),
    "8.3.1 host unlike authority": [*GET, (b"host", b"b.example")],
    "8.5 connect with scheme": [(b":method", b"CONNECT"), (b":authority", b"a:1"), (b":scheme", b"http")],
    "8.5 connect with path": [(b":method", b"CONNECT"), (b":authority", b"a:1"), (b":path", b"/")],
    "8.5 connect without authority": [(b":method", b"CONNECT")],
    "8.1.1 content-length without content": [*GET, (b"content-length", b"5")],
    "8441 4 protocol without connect": [*GET, (b":protocol", b"websocket")],
    "8441 4 extended connect without path": [(b":method", b"CONNECT"), (b":protocol", b"x"), *GET[1:3]],
}


@pytest.mark.parametrize("fields", MALFORMED_REQUESTS.values(), ids=MALFORMED_REQUESTS)
def test_a_malformed_request_is_a_stream_error(client: FakeClient, fields: Fields) -> None:
    """8.1.1, 8.2.1, 8.2.2, 8.3, 8.3.1, 8.5; RFC 8441 4"""
    refuses(client, client.headers(3, fields), PROTOCOL_ERROR, stream=3)
    assert [event.stream_id for event in heads(client.events)] == [1]


MALFORMED_RESPONSES: dict[str, Fields] = {
    "8.2.1 upper case name": [*OK, (b"X-A", b"1")],
    "8.2.1 LF in value": [*OK, (b"x", b"a\nb")],
    "8.2.1 NUL in value": [*OK, (b"x", b"a\0b")],
    "8.2.2 connection": [*OK, (b"connection", b"close")],
    "8.2.2 transfer-encoding": [*OK, (b"transfer-encoding", b"chunked")],
    "8.3 request pseudo-header": [*OK, (b":path", b"/")],
    "8.3 pseudo-header after a field": [(b"x", b"1"), *OK],
    "8.3.2 no status": [(b"x", b"1")],
    "8.3.2 status twice": [*OK, *OK],
    "8.3.2 no number": [(b":status", b"abc")],
    "8.6 switching protocols": [(b":status", b"101")],
    "8.1.1 content-length without content": [*OK, (b"content-length", b"5")],
}


@pytest.mark.parametrize("fields", MALFORMED_RESPONSES.values(), ids=MALFORMED_RESPONSES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_malformed_response_is_a_stream_error(engine: str, fields: Fields) -> None:
    """8.1.1, 8.2.1, 8.2.2, 8.3, 8.3.2, 8.6"""
    server = FakeServer(engine)
    server.requested(end=False)
    refuses(server, server.headers(1, fields), PROTOCOL_ERROR)
    assert heads(server.events) == []


@pytest.mark.parametrize("late", [(b":path", b"/"), (b":status", b"200"), (b"connection", b"x"), (b"X", b"1")])
def test_malformed_trailers_are_a_stream_error(peer: FakePeer, late: tuple[bytes, bytes]) -> None:
    """8.1, 8.3"""
    refuses(peer, peer.headers(1, [late]), PROTOCOL_ERROR)
    assert trailers(peer.events) == []


def test_trailers_end_the_stream(peer: FakePeer) -> None:
    """8.1"""
    refuses(peer, peer.headers(1, [(b"x", b"1")], end=False), PROTOCOL_ERROR)
    assert trailers(peer.events) == []


@pytest.mark.parametrize("size", [4, 6])
def test_a_body_unlike_its_length_is_malformed(client: FakeClient, size: int) -> None:
    """8.1.1"""
    client.take(client.headers(3, [*POST, (b"content-length", b"5")], end=False))
    refuses(client, data(3, b"x" * size, end=True), PROTOCOL_ERROR, stream=3)


@pytest.mark.parametrize("size", [4, 6])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_response_s_body_unlike_its_length_is_malformed(engine: str, size: int) -> None:
    """8.1.1"""
    server = FakeServer(engine)
    server.requested(end=False)
    server.take(server.headers(1, [*OK, (b"content-length", b"5")], end=False))
    refuses(server, data(1, b"x" * size, end=True), PROTOCOL_ERROR)


def test_the_length_of_a_response_to_head_is_not_its_body_s(server: FakeServer) -> None:
    """8.1.1"""
    number = server.requested(method=b"HEAD")
    lives(server, server.headers(number, [*OK, (b"content-length", b"5")]))


def test_an_interim_response_does_not_end_the_stream(server: FakeServer) -> None:
    """8.1"""
    number = server.requested()
    refuses(server, server.headers(number, [(b":status", b"100")]), PROTOCOL_ERROR, stream=number)


def test_cookie_crumbs_are_put_together(client: FakeClient) -> None:
    """8.2.3"""
    client.take(client.headers(3, [*GET, (b"cookie", b"a=b"), (b"cookie", b"c=d")]))
    assert heads(client.events)[-1].head.headers.items == [(b"cookie", b"a=b; c=d")]


def test_host_stands_for_a_missing_authority(client: FakeClient) -> None:
    """8.3.1"""
    client.take(client.headers(3, [*changed(GET, authority=None), (b"host", b"b.example")]))
    head = heads(client.events)[-1].head
    assert getattr(head, "authority", None) == b"b.example"


def test_what_we_send_is_well_formed(server: FakeServer) -> None:
    """8.2, 8.2.1, 8.2.2, 8.3, 8.3.1"""
    fields = [(b"Connection", b"x"), (b"Keep-Alive", b"1"), (b"Upgrade", b"y"), (b"Transfer-Encoding", b"chunked")]
    server.codec.open_stream(request(b"OPTIONS", *fields, (b"X-Case", b"1"), (b"Host", b"z"), path=b"*"), end=True)
    sent = server.sent()[0].fields
    assert [name for name, _ in sent] == [b":method", b":scheme", b":authority", b":path", b"x-case"]
    assert dict(sent)[b":path"] == b"*"


def test_connect_is_sent_without_scheme_and_path(server: FakeServer) -> None:
    """8.5"""
    server.codec.open_stream(request(b"CONNECT", authority=b"a.example:443"), end=False)
    assert [name for name, _ in server.sent()[0].fields] == [b":method", b":authority"]


def test_a_response_of_ours_has_a_status_and_ends_once(client: FakeClient) -> None:
    """8.1, 8.3.2"""
    client.codec.send_head(1, response(103), end=False)
    client.codec.send_head(1, response(), end=False)
    client.codec.send_end(1, Headers([(b"x-t", b"1")]))
    client.codec.send_end(1)
    client.codec.send_data(1, b"x")
    frames = client.sent()
    assert [each.fields[0] for each in frames[:2]] == [(b":status", b"103"), (b":status", b"200")]
    assert [each.end for each in frames] == [False, False, True]


CONNECT: Fields = [(b":method", b"CONNECT"), (b":authority", b"a.example:443")]
EXTENDED: Fields = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("head", [[(b"x-t", b"1")], GET], ids=["trailers", "request"])
@pytest.mark.parametrize("asked", [CONNECT, EXTENDED], ids=["connect", "extended"])
def test_a_head_in_a_tunnel_is_a_stream_error(client: FakeClient, asked: Fields, head: Fields, end: bool) -> None:
    """8.5; RFC 8441 4"""
    client.take(client.headers(3, asked, end=False))
    client.codec.send_head(3, response(), end=False)
    client.sent()
    client.take(client.headers(3, head, end=end))
    assert [(each.kind, each.stream, each.code) for each in client.sent()] == [(RST_STREAM, 3, PROTOCOL_ERROR)]
    assert [event.stream_id for event in resets(client.events)] == [3]
    assert trailers(client.events) == []
    lives(client, data(1, b"x", end=True) + data(3, b"late"))


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("head", [[(b"x-t", b"1")], OK], ids=["trailers", "response"])
def test_a_server_s_head_in_a_tunnel_is_a_stream_error(server: FakeServer, head: Fields, end: bool) -> None:
    """8.5"""
    number = server.codec.open_stream(request(b"CONNECT", authority=b"a.example:443"), end=False)
    server.sent()
    server.take(server.headers(number, OK, end=False), data(number, b"x"), server.headers(number, head, end=end))
    assert [(each.kind, each.stream, each.code) for each in server.sent()] == [(RST_STREAM, number, PROTOCOL_ERROR)]
    assert [event.stream_id for event in resets(server.events)] == [number]
    assert trailers(server.events) == []
    lives(server, data(1, b"x", end=True))


def test_a_refusal_of_a_tunnel_may_have_trailers(server: FakeServer) -> None:
    """8.1, 8.5"""
    number = server.codec.open_stream(request(b"CONNECT", authority=b"a.example:443"), end=False)
    server.sent()
    server.take(server.headers(number, [(b":status", b"103")], end=False))
    server.take(server.headers(number, [(b":status", b"403")], end=False), server.headers(number, [(b"x-t", b"1")]))
    assert [event.trailers.items for event in trailers(server.events)] == [[(b"x-t", b"1")]]
    assert server.alive()
