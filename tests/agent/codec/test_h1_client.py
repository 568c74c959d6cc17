import pytest

from agent.codec import http1_client
from agent.codec.h1_client import ClientConnection
from agent.codec.headers import Headers
from agent.codec.message import CHUNKED, END, End, Limits, ProtocolError, RequestHead, ResponseHead

HOST = [(b"Host", b"a")]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

both = pytest.mark.parametrize("engine", ["fast", "reference"])


def asking(engine: str = "auto", method: bytes = b"GET", **head: object) -> ClientConnection:
    codec = http1_client(Limits(), engine)
    codec.send_head(RequestHead(method, b"/", Headers(HOST), **head))  # type: ignore[arg-type]
    codec.send_end()
    return codec


def events(codec: ClientConnection, data: bytes) -> list[object]:
    codec.receive_data(data)
    seen: list[object] = []
    while (event := codec.next_event()) is not None:
        seen.append(event.status if isinstance(event, ResponseHead) else event)
    return seen


@both
def test_a_response_and_the_next(engine: str) -> None:
    codec = asking(engine)
    assert not codec.start_next()
    assert events(codec, OK) == [200, b"hello", END]
    assert codec.reusable
    assert codec.start_next()
    assert not codec.reusable
    assert codec.send_head(RequestHead(b"GET", b"/2", Headers(HOST))) == b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (
            RequestHead(b"GET", b"/a?b", Headers([*HOST, (b"x-A", b"1")])),
            b"GET /a?b HTTP/1.1\r\nHost: a\r\nx-A: 1\r\n\r\n",
        ),
        (RequestHead(b"GET", b"http://b/x", Headers(HOST), path=b"/x"), b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        (RequestHead(b"POST", b"/", Headers(HOST)), b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n"),
        (
            RequestHead(b"POST", b"/", Headers([*HOST, (b"Content-Length", b"3")]), content_length=3),
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
        ),
        (
            RequestHead(b"POST", b"/", Headers([*HOST, (b"Content-Length", b"3")]), content_length=CHUNKED),
            b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
        (
            RequestHead(b"GET", b"/", Headers([*HOST, (b"Content-Length", b"3")])),
            b"GET / HTTP/1.1\r\nHost: a\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            RequestHead(b"GET", b"/", Headers([*HOST, (b"Connection", b"x"), (b"Upgrade", b"y")]), keep_alive=False),
            b"GET / HTTP/1.1\r\nHost: a\r\nconnection: close\r\n\r\n",
        ),
        (
            RequestHead(b"GET", b"/", Headers([*HOST, (b"Upgrade", b"X")]), upgrade=b"x"),
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: X\r\nconnection: upgrade\r\n\r\n",
        ),
        (
            RequestHead(b"GET", b"/", Headers(HOST), upgrade=b"x"),
            b"GET / HTTP/1.1\r\nHost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        ),
        (
            RequestHead(b"CONNECT", b"b:1", Headers(HOST), authority=b"b:1"),
            b"CONNECT b:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (RequestHead(b"GET", b"/", Headers(), authority=b"b"), b"GET / HTTP/1.1\r\nhost: b\r\n\r\n"),
    ],
)
def test_requests_as_bytes(head: RequestHead, expected: bytes) -> None:
    assert http1_client(Limits()).send_head(head) == expected


@pytest.mark.parametrize(
    "head",
    [
        RequestHead(b"GET", b"/a b", Headers(HOST)),
        RequestHead(b"GET", b"/a\r\nX: 1", Headers(HOST)),
        RequestHead(b"GET /", b"/", Headers(HOST)),
        RequestHead(b"GET", b"/", Headers([(b"X", b"1\r\nY: 2")])),
        RequestHead(b"GET", b"/", Headers(), authority=b"a\r\nX: 1"),
        RequestHead(b"GET", b"/", Headers(HOST), upgrade=b"x\r\nY: 2"),
    ],
)
def test_nothing_is_injected_into_a_request(head: RequestHead) -> None:
    with pytest.raises(ProtocolError) as caught:
        http1_client(Limits()).send_head(head)
    assert (caught.value.status, caught.value.reason) == (500, "bad_field_to_send")


@both
def test_interim_heads_are_given_out_and_bounded(engine: str) -> None:
    codec = asking(engine)
    assert events(codec, b"HTTP/1.1 100 Continue\r\nContent-Length: 6\r\n\r\nHTTP/1.1 103 x\r\n\r\n" + OK) == [
        100,
        103,
        200,
        b"hello",
        END,
    ]
    assert codec.reusable
    with pytest.raises(ProtocolError, match="too_many_interim"):
        events(asking(engine), b"HTTP/1.1 102 x\r\n\r\n" * 50)


@both
@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 x\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_responses_without_a_body(engine: str, method: bytes, response: bytes) -> None:
    codec = asking(engine, method)
    assert events(codec, response)[1:] == [END]
    assert codec.reusable


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    codec = asking()
    codec.receive_data(b"HTTP/1.1 200 OK\r\n\r\nhel")
    head = codec.next_event()
    assert isinstance(head, ResponseHead)
    assert (head.content_length, head.keep_alive) == (None, False)
    assert codec.next_event() == b"hel"
    assert codec.next_event() is None
    assert events(codec, b"lo") == [b"lo"]
    assert events(codec, b"") == [END]
    assert not codec.reusable


@both
def test_chunks_and_trailers(engine: str) -> None:
    codec = asking(engine)
    seen = events(codec, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\n")
    assert seen[:2] == [200, b"hello"]
    assert isinstance(seen[2], End)
    assert seen[2].trailers is not None
    assert codec.reusable


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"", "eof_before_response"),
        (b"HTTP/1.1 200", "eof_in_head"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "eof_in_body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "eof_in_body"),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "te_in_http10"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", "cl_te_conflict"),
        (b"HTTP/1.1 101 x\r\nUpgrade: x\r\n\r\n", "unasked_upgrade"),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", "bad_status_line"),
    ],
)
def test_faults_of_the_server(response: bytes, reason: str) -> None:
    codec = asking()

    def feed() -> None:
        for piece in (response, b""):
            events(codec, piece)

    with pytest.raises(ProtocolError) as caught:
        feed()
    assert (caught.value.status, caught.value.reason) == (502, reason)
    assert not codec.reusable


def test_junk_behind_a_response_is_counted_and_costs_the_connection() -> None:
    codec = asking()
    assert events(codec, OK + b"HTTP/1.1 200 OK") == [200, b"hello", END]
    assert not codec.reusable
    assert codec.counts == {"junk_after_response": 1}
    assert codec.take_unread() == b"HTTP/1.1 200 OK"
    codec = asking()
    assert events(codec, OK) == [200, b"hello", END]
    assert codec.reusable
    codec.receive_data(b"late")
    assert not codec.reusable
    assert codec.counts == {"junk_after_response": 1}


def test_an_answer_that_nobody_asked_for() -> None:
    codec = http1_client(Limits())
    assert codec.next_event() is None
    codec.receive_data(b"HTTP/1.1 408 x\r\n\r\n")
    with pytest.raises(ProtocolError, match="unsolicited_response"):
        codec.next_event()


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n",
    ],
)
def test_responses_that_end_the_connection(response: bytes) -> None:
    codec = asking()
    assert events(codec, response)[-1] is END
    assert not codec.reusable


def test_other_ends_of_the_connection() -> None:
    codec = asking(keep_alive=False)
    events(codec, OK)
    assert not codec.reusable
    codec = asking()
    codec.receive_data(OK)
    events(codec, b"")
    assert not codec.reusable
    codec = asking()
    events(codec, OK)
    codec.receive_data(b"")
    assert not codec.reusable


def test_an_old_server_may_keep_the_connection() -> None:
    codec = asking()
    events(codec, b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
    assert codec.reusable


def test_tunnels() -> None:
    codec = asking(upgrade=b"websocket")
    assert events(codec, b"HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\n\r\nfirst") == [101, END]
    codec.receive_data(b" bytes")
    assert codec.take_unread() == b"first bytes"
    assert not codec.reusable
    assert codec.counts == {}
    codec = asking(method=b"CONNECT", authority=b"a:1")
    assert events(codec, b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nfirst") == [200, END]
    assert codec.take_unread() == b"first"
    with pytest.raises(ProtocolError, match="unasked_upgrade"):
        events(asking(upgrade=b"websocket"), b"HTTP/1.1 101 x\r\nUpgrade: other\r\n\r\n")


def test_an_early_response_is_reusable_only_when_the_request_is_complete() -> None:
    codec = http1_client(Limits())
    codec.send_head(RequestHead(b"POST", b"/", Headers(HOST), content_length=3))
    assert events(codec, OK) == [200, b"hello", END]
    assert not codec.reusable
    assert codec.send_data(b"abc") == b"abc"
    assert codec.send_end() == b""
    assert codec.reusable


def test_request_bodies() -> None:
    codec = http1_client(Limits())
    codec.send_head(RequestHead(b"POST", b"/", Headers(HOST), content_length=CHUNKED))
    assert codec.send_data(b"abc") == b"3\r\nabc\r\n"
    assert codec.send_end(Headers([(b"X", b"1"), (b"Host", b"b")])) == b"0\r\nX: 1\r\n\r\n"
    codec = http1_client(Limits())
    codec.send_head(RequestHead(b"POST", b"/", Headers(HOST), content_length=2))
    with pytest.raises(ProtocolError, match="body_too_short"):
        codec.send_end()
    with pytest.raises(ProtocolError, match="body_too_long"):
        codec.send_data(b"abc")
    codec = http1_client(Limits())
    for part in (lambda: codec.send_data(b""), codec.send_end):
        with pytest.raises(ProtocolError, match="no_request_begun"):
            part()
    codec.send_head(RequestHead(b"GET", b"/", Headers(HOST)))
    assert codec.send_end(Headers([(b"X", b"1")])) == b""
    assert codec.counts == {"trailers_dropped": 1}
    with pytest.raises(ProtocolError, match="request_already_begun"):
        codec.send_head(RequestHead(b"GET", b"/", Headers(HOST)))
