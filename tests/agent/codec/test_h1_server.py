import pytest

from agent.codec import http1_server
from agent.codec.h1_server import ServerConnection
from agent.codec.headers import Headers
from agent.codec.message import CHUNKED, END, Limits, ProtocolError, RequestHead, ResponseHead

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
WEBSOCKET = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"

both = pytest.mark.parametrize("engine", ["fast", "reference"])


def serving(stream: bytes, engine: str = "auto") -> tuple[ServerConnection, RequestHead]:
    codec = http1_server(Limits(), engine)
    codec.receive_data(stream)
    head = codec.next_event()
    assert isinstance(head, RequestHead)
    while codec.next_event() is not None:
        pass
    return codec, head


def answer(codec: ServerConnection, status: int = 200, body: bytes = b"", **head: object) -> bytes:
    fields = head.pop("headers", Headers())
    assert isinstance(fields, Headers)
    out = codec.send_head(ResponseHead(status, fields, **head))  # type: ignore[arg-type]
    return out + codec.send_data(body) + codec.send_end()


@both
def test_what_a_head_tells(engine: str) -> None:
    stream = (
        b"POST http://B.example:81/x?y HTTP/1.1\r\nHost: a\r\nX: 1\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n"
    )
    _, head = serving(stream + b"hi", engine)
    assert (head.method, head.target, head.version) == (b"POST", b"http://B.example:81/x?y", b"1.1")
    assert (head.scheme, head.authority, head.path) == (b"http", b"B.example:81", b"/x?y")
    assert head.headers.items[0] == (b"Host", b"B.example:81")
    assert (head.content_length, head.keep_alive, head.expect_continue, head.upgrade) == (2, True, True, None)
    assert head.size == len(stream)


@both
def test_persistence(engine: str) -> None:
    for version, option, lasts in (
        (b"1.1", b"", True),
        (b"1.1", b"Connection: x, CLOSE\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: keep-alive, close\r\n", False),
    ):
        codec, head = serving(b"GET / HTTP/%b\r\nHost: a\r\n%b\r\n" % (version, option), engine)
        assert head.keep_alive is lasts
        out = answer(codec, content_length=0)
        assert (b"connection: close" in out) is not lasts
        assert (b"connection: keep-alive" in out) is (lasts and version == b"1.0")
        assert codec.start_next() is lasts


@both
def test_pipelined_requests_come_one_by_one(engine: str) -> None:
    codec, _ = serving(GET + b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n", engine)
    codec.receive_data(b"")
    assert answer(codec, content_length=0) == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    assert codec.start_next()
    head = codec.next_event()
    assert isinstance(head, RequestHead)
    assert head.path == b"/2"
    assert codec.next_event() is END
    # The client has ended its stream behind this request.
    assert codec.must_close
    assert b"connection: close" in answer(codec, content_length=0)
    assert not codec.start_next()


@pytest.mark.parametrize(
    ("length", "fields", "expected"),
    [
        (5, [], b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
        (5, [(b"Content-Length", b"5"), (b"X", b"1")], b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: 1\r\n\r\nhello"),
        (5, [(b"Content-Length", b"6")], b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
        (None, [(b"Content-Length", b"5")], b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        (None, [], b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        (
            CHUNKED,
            [(b"Transfer-Encoding", b"gzip"), (b"Content-Length", b"9"), (b"Connection", b"x")],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (5, [(b"Upgrade", b"h2c")], b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
    ],
)
def test_the_codec_owns_the_framing(length: int | None, fields: list[tuple[bytes, bytes]], expected: bytes) -> None:
    codec, _ = serving(GET)
    assert answer(codec, body=b"hello", content_length=length, headers=Headers(fields)) == expected
    assert codec.start_next()


def test_an_old_client_gets_an_unknown_length_until_the_close() -> None:
    codec, _ = serving(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert answer(codec, body=b"hello") == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
    assert not codec.start_next()


@pytest.mark.parametrize(
    ("method", "status", "length", "fields", "expected"),
    [
        (b"HEAD", 200, 0, [(b"Content-Length", b"9")], b"Content-Length: 9\r\n"),
        (b"HEAD", 200, 9, [], b"content-length: 9\r\n"),
        (b"HEAD", 200, None, [], b""),
        (b"GET", 304, 0, [(b"Content-Length", b"9"), (b"Transfer-Encoding", b"chunked")], b"Content-Length: 9\r\n"),
        (b"GET", 304, 0, [(b"Content-Length", b"x")], b""),
        (b"GET", 204, 0, [(b"Content-Length", b"9")], b""),
    ],
)
def test_responses_without_a_body(
    method: bytes, status: int, length: int | None, fields: list[tuple[bytes, bytes]], expected: bytes
) -> None:
    codec, _ = serving(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    out = answer(codec, status, b"ignored", content_length=length, headers=Headers(fields))
    assert out.partition(b"\r\n")[2] == expected + b"\r\n"
    assert codec.start_next()


def test_interim_heads_come_first_and_not_to_old_clients() -> None:
    codec, _ = serving(GET)
    hints = ResponseHead(103, Headers([(b"Link", b"</a>"), (b"Content-Length", b"3")]))
    assert codec.send_head(ResponseHead(100, Headers())) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert codec.send_head(hints) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    answer(codec, content_length=0)
    with pytest.raises(ProtocolError):
        codec.send_head(hints)
    codec, _ = serving(b"GET / HTTP/1.0\r\n\r\n")
    assert codec.send_head(hints) == b""
    assert codec.counts == {"interim_dropped": 1}


def test_an_upgrade_makes_a_tunnel() -> None:
    codec, head = serving(WEBSOCKET + b"early")
    assert head.upgrade == b"websocket"
    assert codec.take_unread() == b""
    out = codec.send_head(ResponseHead(101, Headers([(b"X", b"1"), (b"Connection", b"upgrade, x")])))
    assert out == (b"HTTP/1.1 101 Switching Protocols\r\nX: 1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    codec.receive_data(b" bird")
    assert codec.next_event() is None
    assert codec.take_unread() == b"early bird"
    assert codec.send_end() == b""
    assert not codec.start_next()


def test_a_refused_upgrade_leaves_the_next_bytes_a_request() -> None:
    codec, _ = serving(WEBSOCKET + GET)
    fields = Headers([(b"Upgrade", b"x")])
    assert b"Upgrade: x" in answer(codec, 426, content_length=0, headers=fields)
    assert codec.start_next()
    assert isinstance(codec.next_event(), RequestHead)


@pytest.mark.parametrize(
    "fields",
    [
        b"Upgrade: x\r\n",
        b"Connection: upgrade\r\n",
        b"Connection: upgrade\r\nUpgrade: a, b\r\n",
        b"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n",
    ],
)
def test_upgrades_that_are_not_taken_for_one(fields: bytes) -> None:
    codec, head = serving(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\nx")
    assert head.upgrade is None
    with pytest.raises(ProtocolError) as caught:
        codec.send_head(ResponseHead(101, Headers()))
    assert caught.value.reason == "upgrade_not_asked"


def test_connect_makes_a_tunnel_or_closes() -> None:
    connect = b"CONNECT b.example:443 HTTP/1.1\r\nHost: a\r\n\r\nearly"
    codec, head = serving(connect)
    assert (head.authority, head.path, head.headers.items) == (b"b.example:443", b"", [(b"Host", b"b.example:443")])
    out = codec.send_head(ResponseHead(200, Headers([(b"Content-Length", b"0")]), content_length=0))
    assert out == b"HTTP/1.1 200 OK\r\n\r\n"
    assert codec.take_unread() == b"early"
    codec, _ = serving(connect)
    assert b"connection: close" in answer(codec, 405, content_length=0)
    assert not codec.start_next()
    assert codec.take_unread() == b""


def test_after_a_refusal_one_last_response_goes_out() -> None:
    codec = http1_server(Limits())
    codec.receive_data(b"G(T / HTTP/1.1\r\n\r\n")
    with pytest.raises(ProtocolError) as caught:
        codec.next_event()
    out = answer(codec, caught.value.status, b"no", content_length=2)
    assert out == b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
    assert not codec.start_next()
    fresh = http1_server(Limits())
    with pytest.raises(ProtocolError):
        fresh.send_head(ResponseHead(101, Headers()))


def test_lengths_are_kept_to() -> None:
    codec, _ = serving(GET)
    codec.send_head(ResponseHead(200, Headers(), content_length=2))
    with pytest.raises(ProtocolError, match="body_too_long"):
        codec.send_data(b"abc")
    codec, _ = serving(GET)
    codec.send_head(ResponseHead(200, Headers(), content_length=2))
    with pytest.raises(ProtocolError, match="body_too_short"):
        codec.send_end()
    assert not codec.start_next()


def test_parts_out_of_order_are_refused() -> None:
    codec, _ = serving(GET)
    for part in (lambda: codec.send_data(b"x"), codec.send_end):
        with pytest.raises(ProtocolError, match="no_response_begun"):
            part()
    codec.send_head(ResponseHead(200, Headers()))
    with pytest.raises(ProtocolError, match="response_already_begun"):
        codec.send_head(ResponseHead(200, Headers()))


def test_trailers_need_chunks() -> None:
    trailers = Headers([(b"X-T", b"1"), (b"Content-Length", b"3")])
    codec, _ = serving(GET)
    codec.send_head(ResponseHead(200, Headers()))
    assert codec.send_end(trailers) == b"0\r\nX-T: 1\r\n\r\n"
    codec, _ = serving(GET)
    codec.send_head(ResponseHead(200, Headers(), content_length=0))
    assert codec.send_end(trailers) == b""
    assert codec.counts == {"trailers_dropped": 1}


def test_a_response_in_front_of_the_end_of_its_request_costs_the_connection() -> None:
    codec, _ = serving(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")
    answer(codec, 413, content_length=0)
    assert not codec.start_next()
    assert codec.must_close


def test_the_response_may_end_the_connection() -> None:
    codec, _ = serving(GET)
    assert b"connection: close" in answer(codec, content_length=0, keep_alive=False)
    assert not codec.start_next()


def test_the_end_of_an_idle_stream_is_no_fault() -> None:
    codec = http1_server(Limits())
    codec.receive_data(b"\r\n")
    assert codec.next_event() is None
    codec.receive_data(b"")
    assert codec.next_event() is None
    assert codec.must_close
