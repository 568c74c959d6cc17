"""Conversations over HTTP/2, the same with either engine: messages both ways and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.codec import http2_server
from agent.codec.headers import Headers
from agent.codec.http2 import (
    ENHANCE_YOUR_CALM,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    DataReceived,
    Http2Limits,
    PongReceived,
    SettingsReceived,
)
from agent.codec.message import CHUNKED, ProtocolError, RequestHead, ResponseHead
from tests.attributes import attributes
from tests.fake_http2_peer import (
    CONNECT_PROTOCOL,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    ENGINES,
    GET,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW,
    MAX_STREAMS,
    OK,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITIZED,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    FakeClient,
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
)

pytestmark = pytest.mark.parametrize("engine", ENGINES)


def asked(stream: FakeClient, number: int = 1) -> RequestHead:
    head = next(event.head for event in heads(stream.events) if event.stream_id == number)
    assert isinstance(head, RequestHead)
    return head


# --- greeting


def test_a_server_greets_with_its_settings(engine: str) -> None:
    client = FakeClient(engine, Http2Limits(max_concurrent_streams=7, stream_window=70000), greet=False)
    first, *others = client.sent()
    assert (first.kind, first.flags) == (SETTINGS, 0)
    told = {
        int.from_bytes(first.payload[at : at + 2], "big"): int.from_bytes(first.payload[at + 2 : at + 6], "big")
        for at in range(0, len(first.payload), 6)
    }
    assert told[MAX_STREAMS] == 7
    assert told[INITIAL_WINDOW] == 70000
    assert told[CONNECT_PROTOCOL] == 1
    assert [(each.kind, each.stream) for each in others] == [(WINDOW_UPDATE, 0)]
    assert int.from_bytes(others[0].payload, "big") == 1024 * 1024 - 65535


def test_a_client_greets_with_the_preface_and_takes_no_pushes(engine: str) -> None:
    first = FakeServer(engine, greet=False).sent()[0]
    assert first.kind == SETTINGS
    assert ENABLE_PUSH.to_bytes(2, "big") + bytes(4) in first.payload


def test_settings_are_acknowledged_and_told(engine: str) -> None:
    server = FakeServer(engine, greet=False)
    assert server.codec.max_streams == 100
    assert not server.codec.extended_connect
    server.sent()
    told = server.take(settings((MAX_STREAMS, 5), (CONNECT_PROTOCOL, 1)))
    assert any(isinstance(event, SettingsReceived) for event in told)
    assert (server.codec.max_streams, server.codec.extended_connect) == (5, True)
    assert [(each.kind, each.flags) for each in server.sent()] == [(SETTINGS, 1)]


def test_later_settings_change_only_what_they_name(engine: str) -> None:
    server = FakeServer(engine, greet=False)
    server.take(settings((MAX_STREAMS, 5)))
    server.take(settings((INITIAL_WINDOW, 70000)))
    assert server.codec.max_streams == 5
    server.take(settings((MAX_STREAMS, 9)))
    assert server.codec.max_streams == 9


def test_a_server_that_names_no_limit_of_streams_has_none(engine: str) -> None:
    assert FakeServer(engine).codec.max_streams > 1000


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\n\r\n" + bytes(20), PREFACE[:-1] + b"x"])
def test_what_is_not_the_preface(engine: str, greeting: bytes) -> None:
    client = FakeClient(engine, greet=False)
    assert client.fails(greeting) == PROTOCOL_ERROR
    assert client.codec.failed == "bad_preface"
    assert client.codec.counts == {"bad_preface": 1}


def test_a_dead_connection_takes_and_sends_nothing_more(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, GET))
    client.fails(frame(DATA, 0, 0, b"x"))
    codec = client.codec
    assert codec.receive_data(ping()) == []
    codec.send_head(1, response(), end=False)
    codec.send_data(1, b"x", end=True)
    codec.send_end(1)
    codec.consume(1, 10)
    codec.reset(1, 8)
    codec.ping(b"12345678")
    codec.goaway()
    codec.announce_shutdown()
    assert codec.queued(1) == 0
    assert codec.data_to_send(1000) == b""


def test_no_stream_is_opened_on_a_dead_connection(engine: str) -> None:
    server = FakeServer(engine)
    server.fails(frame(DATA, 0, 0, b"x"))
    assert server.codec.open_stream(request(), end=True) == 0


# --- a server's requests and responses


def test_a_request_and_its_response(engine: str) -> None:
    client = FakeClient(engine)
    events = client.take(client.headers(1, [*GET, (b"x-a", b"1")]))
    assert [(event.stream_id, event.end) for event in heads(events)] == [(1, True)]
    head = asked(client)
    assert (head.method, head.path, head.authority, head.version) == (b"GET", b"/", b"a.example", b"2")
    assert head.headers.items == [(b"x-a", b"1")]
    client.codec.send_head(1, response(200, (b"X-B", b"2"), (b"Connection", b"close")), end=False)
    client.codec.send_data(1, b"hello")
    client.codec.send_end(1)
    answer, *rest = client.sent()
    assert answer.fields == [(b":status", b"200"), (b"x-b", b"2")]
    assert b"".join(each.payload for each in rest) == b"hello"
    assert rest[-1].end
    assert client.codec.queued(1) == 0


def test_a_request_with_a_body_and_trailers(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, [*POST, (b"te", b"trailers")], end=False))
    client.take(data(1, b"one"), data(1, b"two", padding=5))
    events = client.take(client.headers(1, [(b"grpc-status", b"0"), (b"host", b"x")]))
    assert asked(client).content_length == CHUNKED
    assert body(client.events, 1) == b"onetwo"
    assert [event.trailers.items for event in trailers(events)] == [[(b"grpc-status", b"0")]]
    assert client.codec.counts == {"trailer_field_dropped": 1}


def test_a_body_that_ends_with_its_last_data(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, [*POST, (b"content-length", b"5")], end=False))
    given = client.take(data(1, b"hello", end=True))
    last = given[-1]
    assert isinstance(last, DataReceived)
    assert (last.data, last.credit, last.end) == (b"hello", 5, True)
    assert asked(client).content_length == 5


def test_an_empty_last_data_frame_ends_the_body(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, POST, end=False), data(1, b"hello"))
    given = client.take(data(1, end=True))
    assert [event.end for event in given if isinstance(event, DataReceived)] == [True]


def test_informational_heads_go_before_the_final_one(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, [*POST, (b"expect", b"100-continue")], end=False))
    assert asked(client).expect_continue
    client.codec.send_head(1, response(100), end=False)
    client.codec.send_head(1, response(103, (b"link", b"</x>")), end=False)
    client.codec.send_head(1, response(204), end=True)
    sent = client.sent()
    assert [each.fields[0][1] for each in sent] == [b"100", b"103", b"204"]
    assert [each.end for each in sent] == [False, False, True]


def test_response_trailers(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, GET))
    client.codec.send_head(1, response(), end=False)
    client.codec.send_data(1, b"x")
    client.codec.send_end(1, Headers([(b"Grpc-Status", b"0"), (b"Content-Length", b"1")]))
    last = client.sent()[-1]
    assert last.kind == HEADERS
    assert last.end
    assert last.fields == [(b"grpc-status", b"0")]


def test_trailers_of_forbidden_fields_only_end_the_stream_all_the_same(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, GET))
    client.codec.send_head(1, response(), end=False)
    client.codec.send_end(1, Headers([(b"Content-Length", b"1")]))
    last = client.sent()[-1]
    assert last.end
    assert last.fields == []


def test_heads_that_cannot_be_sent_leave_the_stream_for_another(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, GET))
    with pytest.raises(ProtocolError) as caught:
        client.codec.send_head(1, response(200, (b"x", b"a\r\nb")), end=True)
    assert (caught.value.status, caught.value.reason) == (500, "bad_field_to_send")
    client.codec.send_head(1, response(500), end=True)
    assert client.sent()[0].fields == [(b":status", b"500")]


@pytest.mark.parametrize("open_", [True, False], ids=["request open", "request ended"])
def test_nothing_is_sent_after_our_end(engine: str, open_: bool) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, POST, end=not open_), client.headers(3, POST, end=not open_))
    client.codec.send_head(1, response(), end=True)
    client.codec.send_head(3, response(), end=False)
    client.codec.send_data(3, b"x", end=True)
    for number in (1, 3):
        client.codec.send_data(number, b"more")
        client.codec.send_data(number, b"more", end=True)
        client.codec.send_end(number)
        client.codec.send_end(number, Headers([(b"x-t", b"1")]))
        client.codec.send_head(number, response(), end=False)
    assert sorted((each.stream, each.kind, each.end) for each in client.sent()) == [
        (1, HEADERS, True),
        (3, DATA, True),
        (3, HEADERS, False),
    ]
    assert client.alive()


def test_nothing_is_sent_before_our_head(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, POST, end=False))
    client.codec.send_data(1, b"early")
    assert client.sent() == []
    client.codec.send_head(1, response(), end=False)
    client.codec.send_data(1, b"x", end=True)
    assert [each.payload for each in client.sent() if each.kind == DATA] == [b"x"]


def test_nothing_is_sent_after_a_request_s_end(engine: str) -> None:
    server = FakeServer(engine)
    number = server.codec.open_stream(request(), end=True)
    server.codec.send_data(number, b"more")
    server.codec.send_end(number, Headers([(b"x-t", b"1")]))
    assert [(each.kind, each.end) for each in server.sent()] == [(HEADERS, True)]
    assert server.alive()


def test_extended_connect(engine: str) -> None:
    client = FakeClient(engine)
    fields = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]
    client.take(client.headers(1, fields, end=False), data(1, b"ping"))
    head = asked(client)
    assert (head.method, head.upgrade, head.path) == (b"CONNECT", b"websocket", b"/")
    client.codec.send_head(1, response(), end=False)
    client.codec.send_data(1, b"pong")
    assert [each.kind for each in client.sent()] == [HEADERS, DATA]
    assert body(client.events, 1) == b"ping"


def test_connect(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, [(b":method", b"CONNECT"), (b":authority", b"a.example:443")], end=False))
    assert asked(client).authority == b"a.example:443"


REFUSED: dict[str, Fields] = {
    "connection_field": [*GET, (b"connection", b"close")],
    "bad_field_name": [*GET, (b"X-Upper", b"1")],
    "bad_field_value": [*GET, (b"x", b"a\nb")],
    "host_mismatch": [*GET, (b"host", b"b.example")],
    "missing_host": [field for field in GET if field[0] != b":authority"],
    "bad_target": [*GET[:3], (b":path", b"/a b")],
    "bad_te": [*GET, (b"te", b"gzip")],
    "duplicate_pseudo_header": [*GET, (b":path", b"/b")],
    "missing_pseudo_header": GET[:3],
    "content_length_mismatch": [*GET, (b"content-length", b"5")],
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
def test_a_malformed_request_is_reset_and_its_neighbour_is_served(engine: str, fields: Fields) -> None:
    client = FakeClient(engine)
    assert client.take(client.headers(1, fields)) == []
    assert [(each.stream, each.code) for each in client.sent() if each.kind == RST_STREAM] == [(1, PROTOCOL_ERROR)]
    assert sum(client.codec.counts.values()) == 1, "counted, once"
    client.take(client.headers(3, GET))
    assert asked(client, 3).path == b"/"
    assert not client.codec.failed


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ([*GET, (b"expect", b"x")], b"417", "bad_expectation"),
        ([*GET, *((b"x", b"1") for _ in range(200))], b"431", "too_many_fields"),
        ([*GET, (b"x", b"1" * 70000)], b"431", "head_too_large"),
        ([*GET[:3], (b":path", b"/" + b"1" * 70000)], b"431", "head_too_large"),
    ],
)
@pytest.mark.parametrize("end", [True, False])
def test_a_request_with_a_status_for_it_is_answered(
    engine: str, fields: Fields, status: bytes, reason: str, end: bool
) -> None:
    client = FakeClient(engine)
    block = client.block(fields)
    pieces = [block[at : at + 16000] for at in range(0, len(block), 16000)]
    last = len(pieces) - 1
    for number, piece in enumerate(pieces):
        flags = (END_HEADERS if number == last else 0) | (END_STREAM if end and not number else 0)
        assert client.take(frame(CONTINUATION if number else HEADERS, flags, 1, piece)) == []
    answer, *rest = client.sent()
    assert answer.fields[0] == (b":status", status)
    assert answer.end
    assert all(each.kind == RST_STREAM and each.code == 0 for each in rest)
    assert client.codec.counts == {reason: 1}
    client.take(client.headers(3, GET))
    assert asked(client, 3).path == b"/"


def test_more_body_than_announced(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, [*POST, (b"content-length", b"3")], end=False))
    client.take(data(1, b"hello", end=True))
    assert body(client.events, 1) == b""
    assert client.codec.failed or [event.stream_id for event in resets(client.events)] == [1]


def test_less_body_than_announced_never_ends_well(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, [*POST, (b"content-length", b"9")], end=False))
    client.take(data(1, b"hello", end=True))
    assert not any(isinstance(event, DataReceived) and event.end for event in client.events)
    assert client.codec.failed or [event.stream_id for event in resets(client.events)] == [1]


def test_bad_trailers_reset_the_stream(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, POST, end=False))
    events = client.take(client.headers(1, [(b"connection", b"x")]))
    assert [(event.stream_id, event.remote, event.code) for event in resets(events)] == [(1, False, PROTOCOL_ERROR)]
    assert trailers(events) == []


def test_more_streams_than_we_allow_are_refused(engine: str) -> None:
    client = FakeClient(engine, Http2Limits(max_concurrent_streams=2))
    for number in (1, 3, 5):
        client.take(client.headers(number, GET))
    assert [event.stream_id for event in heads(client.events)] == [1, 3]
    assert [(each.kind, each.stream, each.code) for each in client.sent()] == [(RST_STREAM, 5, REFUSED_STREAM)]
    assert client.codec.counts == {"too_many_streams": 1}
    client.codec.send_head(1, response(), end=True)
    assert [each.stream for each in client.sent()] == [1]
    client.take(client.headers(7, GET))
    assert heads(client.events)[-1].stream_id == 7


def test_streams_beyond_our_limit_are_a_flood_too(engine: str) -> None:
    client = FakeClient(engine, Http2Limits(max_concurrent_streams=1))
    client.take(*(client.headers(number, GET) for number in range(1, 805, 2)))
    assert client.codec.failed == "rapid_reset"
    assert client.codec.counts["too_many_streams"] == 401


# --- a client's


def test_a_client_s_request_and_its_response(engine: str) -> None:
    server = FakeServer(engine)
    number = server.codec.open_stream(request(b"POST", (b"Host", b"x"), (b"X-A", b"1"), length=5), end=False)
    server.codec.send_data(number, b"hello", end=True)
    head, content = server.sent()
    assert (number, head.stream) == (1, 1)
    assert dict(head.fields) == {
        b":method": b"POST",
        b":scheme": b"http",
        b":authority": b"a.example",
        b":path": b"/",
        b"x-a": b"1",
        b"content-length": b"5",
    }
    assert (content.payload, content.end) == (b"hello", True)
    events = server.take(server.headers(1, [*OK, (b"x-b", b"2")], end=False), data(1, b"world", end=True))
    got = heads(events)[0].head
    assert isinstance(got, ResponseHead)
    assert (got.status, got.headers.items, got.content_length) == (200, [(b"x-b", b"2")], CHUNKED)
    assert body(events, 1) == b"world"
    assert server.codec.open_stream(request(), end=True) == 3


def test_informational_heads_are_given_out(engine: str) -> None:
    server = FakeServer(engine)
    number = server.requested()
    interim = server.headers(number, [(b":status", b"103"), (b"link", b"x")], end=False)
    events = server.take(interim, server.headers(number, OK))
    assert [(event.head.status, event.end) for event in heads(events) if isinstance(event.head, ResponseHead)] == [
        (103, False),
        (200, True),
    ]


def test_informational_heads_without_end(engine: str) -> None:
    server = FakeServer(engine)
    number = server.requested()
    for _ in range(40):
        server.take(server.headers(number, [(b":status", b"103")], end=False))
    assert [(event.reason, event.remote) for event in resets(server.events)] == [("too_many_interim", False)]


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", b"200"), (b"GET", b"204"), (b"GET", b"304")])
def test_responses_without_a_body(engine: str, method: bytes, status: bytes) -> None:
    server = FakeServer(engine)
    number = server.requested(method=method)
    fields = [(b":status", status), *([(b"content-length", b"5")] if status != b"204" else [])]
    events = server.take(server.headers(number, fields))
    assert [(event.end, event.head.content_length) for event in heads(events)] == [(True, 0)]
    assert server.alive()


def test_response_trailers_are_given_out(engine: str) -> None:
    server = FakeServer(engine)
    number = server.requested()
    events = server.take(server.headers(number, OK, end=False), server.headers(number, [(b"grpc-status", b"0")]))
    assert [event.trailers.items for event in trailers(events)] == [[(b"grpc-status", b"0")]]


BAD_RESPONSES: dict[str, Fields] = {
    "missing_pseudo_header": [(b"x", b"1")],
    "bad_status": [(b":status", b"2x0")],
    "bad_status_101": [(b":status", b"101")],
    "connection_field": [*OK, (b"connection", b"close")],
    "bad_field_value": [*OK, (b"x", b"a\r\nb")],
    "duplicate": [*OK, (b":status", b"200")],
}


@pytest.mark.parametrize("fields", BAD_RESPONSES.values(), ids=BAD_RESPONSES)
def test_a_malformed_response_resets_its_stream_and_spares_the_others(engine: str, fields: Fields) -> None:
    server = FakeServer(engine)
    number, other = server.requested(), server.requested()
    events = server.take(server.headers(number, fields, end=False))
    assert heads(events) == []
    assert [(event.stream_id, event.remote) for event in resets(events)] == [(number, False)]
    assert resets(events)[0].reason
    assert [each.stream for each in server.sent() if each.kind == RST_STREAM] == [number]
    assert len(heads(server.take(server.headers(other, OK)))) == 1


def test_a_response_shorter_than_announced_is_not_given_out_whole(engine: str) -> None:
    server = FakeServer(engine)
    number = server.requested()
    events = server.take(server.headers(number, [*OK, (b"content-length", b"5")]))
    assert heads(events) == []
    assert [event.stream_id for event in resets(events)] == [number]


def test_a_request_that_cannot_be_sent_costs_no_number(engine: str) -> None:
    server = FakeServer(engine)
    with pytest.raises(ProtocolError) as caught:
        server.codec.open_stream(request(b"GET", (b"x", b"a\nb")), end=True)
    assert (caught.value.status, caught.value.reason) == (500, "bad_field_to_send")
    assert server.requested() == 1


def test_extended_connect_is_asked_for(engine: str) -> None:
    server = FakeServer(engine, greet=False)
    server.take(settings((CONNECT_PROTOCOL, 1)))
    number = server.codec.open_stream(request(b"GET", upgrade=b"websocket"), end=False)
    head = next(each for each in server.sent() if each.kind == HEADERS)
    assert (number, dict(head.fields)[b":protocol"], dict(head.fields)[b":method"]) == (1, b"websocket", b"CONNECT")
    server.take(server.headers(1, OK, end=False), data(1, b"x"))
    server.codec.send_data(1, b"y")
    assert server.sent()[-1].payload == b"y"
    assert body(server.events, 1) == b"x"


# --- ping, header blocks, pieces


def test_pings_are_answered_and_asked(engine: str) -> None:
    client = FakeClient(engine)
    client.take(ping(b"abcdefgh"))
    assert [(each.kind, each.flags, each.payload) for each in client.sent()] == [(PING, 1, b"abcdefgh")]
    client.codec.ping(b"12345678")
    assert [(each.kind, each.flags, each.payload) for each in client.sent()] == [(PING, 0, b"12345678")]
    told = client.take(ping(b"12345678", ack=True))
    assert [event.payload for event in told if isinstance(event, PongReceived)] == [b"12345678"]


def test_a_head_over_continuations_with_padding_and_priority(engine: str) -> None:
    client = FakeClient(engine)
    block = client.block([*GET, (b"x", b"y" * 100)])
    start = bytes((3,)) + bytes(5) + block[:20] + bytes(3)
    assert client.take(frame(HEADERS, END_STREAM | PADDED | PRIORITIZED, 1, start)) == []
    assert client.codec.in_head
    assert client.take(frame(CONTINUATION, 0, 1, block[20:40])) == []
    assert client.codec.in_head
    client.take(frame(CONTINUATION, END_HEADERS, 1, block[40:]))
    assert not client.codec.in_head
    assert asked(client).headers.get(b"x") == b"y" * 100


def test_a_large_head_to_send_goes_in_continuations(engine: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, GET))
    client.codec.send_head(1, response(200, *((b"x-%d" % number, b"\x01y" * 2000) for number in range(10))), end=True)
    sent = client.sent()
    assert len(sent[0].fields) == 11
    assert sent[0].end
    assert len(sent[0].payload) <= 16384


def test_the_encoder_keeps_to_a_table_that_costs_us_little(engine: str) -> None:
    client = FakeClient(engine, greet=False)
    client.decoder.max_allowed_table_size = 1 << 30
    client.take(PREFACE + settings((HEADER_TABLE_SIZE, 2**32 - 1)))
    for number in range(1, 41, 2):
        client.take(client.headers(number, GET))
        client.codec.send_head(
            number, response(200, *((b"x-%d-%d" % (number, at), b"y") for at in range(90))), end=True
        )
    client.sent()
    assert client.decoder.header_table_size <= 4096


def test_a_peer_without_a_table_is_obeyed(engine: str) -> None:
    client = FakeClient(engine, greet=False)
    client.take(PREFACE + settings((HEADER_TABLE_SIZE, 0)))
    client.sent()
    client.decoder.max_allowed_table_size = 0
    for number in (1, 3):
        client.take(client.headers(number, GET))
        client.codec.send_head(number, response(200, (b"x", b"y")), end=True)
        assert client.sent()[0].fields == [(b":status", b"200"), (b"x", b"y")]


def conversation(client: FakeClient) -> list[bytes]:
    return [
        client.headers(1, [*POST, (b"cookie", b"a"), (b"cookie", b"b")], end=False),
        data(1, b"hello", padding=4),
        ping(),
        client.headers(3, [*GET, (b"X", b"bad")]),
        client.headers(5, GET),
        data(1, b"world"),
        client.headers(1, [(b"x-t", b"1")]),
        client.headers(7, POST, end=False),
        rst_stream(7, 8),
        goaway(0),
    ]


@pytest.mark.parametrize("size", [1, 7, 9, 1000])
def test_any_cutting_of_the_stream_gives_the_same(engine: str, size: int) -> None:
    def told(feed: Callable[[FakeClient, bytes], object]) -> list[object]:
        client = FakeClient(engine)
        feed(client, b"".join(conversation(client)))
        rest = [
            attributes(event, but=("head", "trailers"))
            for event in client.events
            if not isinstance(event, DataReceived)
        ]
        return [rest, body(client.events, 1), [item.head.headers.items for item in heads(client.events)], client.sent()]

    whole = told(lambda client, stream: client.take(stream))
    pieces = told(lambda client, stream: client.take(*(stream[at : at + size] for at in range(0, len(stream), size))))
    assert pieces == whole
    assert whole[1] == b"helloworld"


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (rst_stream(1), "rapid_reset"),
        (ping(), "control_flood"),
        (frame(WINDOW_UPDATE, 0, 0, (1).to_bytes(4, "big")), "window_update_flood"),
    ],
)
def test_floods_end_the_connection_with_a_goaway(engine: str, piece: bytes, reason: str) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, GET))
    client.take(piece * 5000)
    assert client.codec.failed == reason
    assert client.codec.counts[reason] == 1
    last = client.sent()[-1]
    assert (last.kind, last.code) == (GOAWAY, ENHANCE_YOUR_CALM)


def test_a_head_that_grows_when_decompressed_ends_the_connection_and_tells_which_streams_were_taken(
    engine: str,
) -> None:
    client = FakeClient(engine)
    client.take(client.headers(1, GET))
    client.take(client.headers(3, [*GET, (b"x", b"y" * 3000)]))
    bomb = client.block(GET) + b"\xbe" * 4000
    assert client.fails(frame(HEADERS, END_HEADERS | END_STREAM, 5, bomb)) == ENHANCE_YOUR_CALM
    assert client.codec.failed == "head_flood"
    assert client.frames[-1].last_stream >= 3


def test_resets_that_the_client_forces_are_a_flood_too(engine: str) -> None:
    client = FakeClient(engine)
    for number in range(1, 1201, 2):
        client.take(client.headers(number, [*GET, (b"x", b"\n")]))
        client.sent()
    assert client.codec.failed == "rapid_reset"


@pytest.mark.parametrize("bad", [[*GET, (b"", b"")], [*GET, (b"x", b"\n")], [*GET, (b"expect", b"x")]])
def test_nothing_is_answered_after_too_many_resets_in_one_read(engine: str, bad: Fields) -> None:
    client = FakeClient(engine)
    client.take(b"".join(client.headers(number, bad) for number in range(1, 201, 2)) + ping())
    assert client.codec.failed == "rapid_reset"
    *_, last = answers = client.sent()
    assert (last.kind, last.code) == (GOAWAY, ENHANCE_YOUR_CALM)
    assert PING not in [each.kind for each in answers]


def test_a_flood_that_takes_its_time_is_none(engine: str) -> None:
    client = FakeClient(engine)
    for number in range(1, 2001, 2):
        client.now += 0.02
        client.take(client.headers(number, POST, end=False) + rst_stream(number))
    assert not client.codec.failed
    assert len(heads(client.events)) == 1000


def test_engines_are_known(engine: str) -> None:
    assert http2_server(Http2Limits(), engine, lambda: 0.0).failed == ""
    with pytest.raises(ValueError, match="write one of"):
        http2_server(Http2Limits(), engine + "er", lambda: 0.0)
