"""Every reason of the gate, asked of both engines, whole and byte by byte."""

import ast
from pathlib import Path

import pytest

from agent.codec import gate, http1_client, http1_server
from agent.codec.headers import Headers
from agent.codec.message import Limits, ProtocolError, RequestHead, ResponseHead

HOST = b"Host: a.example\r\n"

REFUSED_LINES = [
    (b"GET /\ra HTTP/1.1", 400, "bare_cr"),
    (b"GET /a HTTP/1.1\nX: y", 400, "bare_lf"),
    (b"GET /\x00 HTTP/1.1", 400, "control_byte"),
    (b"\x16\x03\x01", 400, "control_byte"),
    (b"GET  / HTTP/1.1", 400, "bad_request_line"),
    (b"GET / HTTP/1.1 ", 400, "bad_request_line"),
    (b"GET /a b HTTP/1.1", 400, "bad_request_line"),
    (b"GET / http/1.1", 400, "bad_request_line"),
    (b"GET / HTTP/1.10", 400, "bad_request_line"),
    (b"PROXY TCP4 10.0.0.1 10.0.0.2 1111 80", 400, "bad_request_line"),
    (b" / HTTP/1.1", 400, "bad_method"),
    (b"G(T / HTTP/1.1", 400, "bad_method"),
    (b"\xefGET / HTTP/1.1", 400, "bad_method"),
    (b"GET  HTTP/1.1", 400, "bad_target"),
    (b"GET /caf\xc3\xa9 HTTP/1.1", 400, "bad_target"),
    (b"GET http://u@b/ HTTP/1.1", 400, "bad_target"),
    (b"GET http:///x HTTP/1.1", 400, "bad_target"),
    (b"GET http://a\\b/ HTTP/1.1", 400, "bad_target"),
    (b"GET a.example:80 HTTP/1.1", 400, "bad_target_form"),
    (b"GET @a.example/x HTTP/1.1", 400, "bad_target_form"),
    (b"GET ftp://a/ HTTP/1.1", 400, "bad_target_form"),
    (b"GET * HTTP/1.1", 400, "bad_target_form"),
    (b"CONNECT /x HTTP/1.1", 400, "bad_target_form"),
    (b"CONNECT a.example HTTP/1.1", 400, "bad_target_form"),
    (b"CONNECT a.example:99999 HTTP/1.1", 400, "bad_target_form"),
    (b"GET /a#b HTTP/1.1", 400, "fragment_in_target"),
    (b"GET /", 505, "http_0_9"),
    (b"PRI * HTTP/2.0", 505, "http2_preface"),
    (b"GET / HTTP/2.0", 505, "unsupported_version"),
    (b"GET / HTTP/0.9", 505, "unsupported_version"),
    (b"GET / HTTP/1.2", 505, "unsupported_version"),
]

REFUSED_FIELDS = [
    (b"X: a\rb\r\n", 400, "bare_cr"),
    (b"X: a\nb\r\n", 400, "bare_lf"),
    (b"X: a\x00\r\n", 400, "control_byte"),
    (b"X: a\x7f\r\n", 400, "control_byte"),
    (b"X: a\r\n b\r\n", 400, "obs_fold"),
    (b"X:\r\n\tb\r\n", 400, "obs_fold"),
    (b"X a\r\n", 400, "bad_field_line"),
    (b"X : a\r\n", 400, "space_before_colon"),
    (b"X\t: a\r\n", 400, "space_before_colon"),
    (b"X(: a\r\n", 400, "bad_field_name"),
    (b": a\r\n", 400, "bad_field_name"),
    (b"X\xe9: a\r\n", 400, "bad_field_name"),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400, "cl_te_conflict"),
    (b"Content-Length: 0\r\nTransfer-Encoding: x\r\n", 400, "cl_te_conflict"),
    (b"Content-Length: 5\r\nContent-Length: 5\r\n", 400, "duplicate_content_length"),
    (b"content-length: 0\r\nCONTENT-LENGTH: 43\r\n", 400, "duplicate_content_length"),
    (b"Content-Length: 5, 5\r\n", 400, "duplicate_content_length"),
    *[
        (b"Content-Length: %b\r\n" % value, 400, "bad_content_length")
        for value in (b"", b"+5", b"-5", b"0x5", b"5_0", b"5 5", b"5;x", b"\xd9\xa5", b"1" * 19)
    ],
    *[
        (b"Transfer-Encoding: %b\r\n" % value, 400, "bad_transfer_encoding")
        for value in (
            b"",
            b'"chunked"',
            b"chun ked",
            b"chunked, identity",
            b"chunked, chunked",
            b",chunked",
            b"chunked\x85",
        )
    ],
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400, "bad_transfer_encoding"),
    (b"Transfer-Encoding: gzip\r\n", 501, "unknown_transfer_coding"),
    (b"Transfer-Encoding: gzip, chunked\r\n", 501, "unknown_transfer_coding"),
    (b"Transfer-Encoding: chunkedx\r\n", 501, "unknown_transfer_coding"),
    (b"Expect: y 100-continue\r\n", 417, "bad_expectation"),
    (b"Host: a.example\r\n", 400, "duplicate_host"),
]

REFUSED_HOSTS = [
    b"u@a",
    b"a/b",
    b"a b",
    b"a\tb",
    b"a,b",
    b"http://a",
    b"a?b",
    b"a\\b",
    b"a%2e",
    b"",
    b"[a]",
    b"a:b",
    b"a:1:2",
]
REFUSED_HOSTS += [b"a:65536", b"a:080", b"a:123456"]


def refusal(engine: str, stream: bytes, cut: str, limits: Limits | None = None) -> tuple[int, str]:
    codec = http1_server(limits or Limits(), engine)

    def feed() -> None:
        for piece in [stream] if cut == "whole" else [stream[at : at + 1] for at in range(len(stream))]:
            codec.receive_data(piece)
            codec.next_event()

    with pytest.raises(ProtocolError) as caught:
        feed()
    assert codec.must_close
    return caught.value.status, caught.value.reason


both = pytest.mark.parametrize("engine", ["fast", "reference"])
cuts = pytest.mark.parametrize("cut", ["whole", "bytes"])


@both
@cuts
@pytest.mark.parametrize(("line", "status", "reason"), REFUSED_LINES, ids=lambda value: repr(value))
def test_request_lines_that_are_refused(engine: str, cut: str, line: bytes, status: int, reason: str) -> None:
    assert refusal(engine, line + b"\r\n" + HOST + b"\r\n", cut) == (status, reason)


@both
@cuts
@pytest.mark.parametrize(("fields", "status", "reason"), REFUSED_FIELDS, ids=lambda value: repr(value)[:40])
def test_fields_that_are_refused(engine: str, cut: str, fields: bytes, status: int, reason: str) -> None:
    assert refusal(engine, b"POST / HTTP/1.1\r\n" + HOST + fields + b"\r\n", cut) == (status, reason)


@both
@pytest.mark.parametrize("host", REFUSED_HOSTS, ids=repr)
def test_hosts_that_are_refused(engine: str, host: bytes) -> None:
    assert refusal(engine, b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", "whole") == (400, "bad_host")


@pytest.mark.parametrize("host", [b"a", b"a_b.c", b"A.example:80", b"[::1]", b"[fd00::1]:8080", b"10.0.0.1:1", b"a:"])
def test_hosts_that_pass(host: bytes) -> None:
    assert gate.is_host(host)


@both
def test_what_http_1_0_may_not_have_and_what_http_1_1_must(engine: str) -> None:
    assert refusal(engine, b"GET / HTTP/1.1\r\n\r\n", "whole") == (400, "missing_host")
    assert refusal(engine, b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "whole") == (400, "te_in_http10")
    stream = b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 1\r\n\r\n"
    assert refusal(engine, stream, "whole") == (400, "connect_with_body")


@both
@cuts
def test_heads_are_bounded_in_size_and_in_number_of_fields(engine: str, cut: str) -> None:
    limits = Limits(max_head_bytes=300, max_fields=5)
    assert refusal(engine, b"GET /" + b"a" * 400, cut, limits) == (414, "target_too_long")
    assert refusal(engine, b"GET / HTTP/1.1\r\nX: " + b"a" * 400, cut, limits) == (431, "head_too_large")
    assert refusal(engine, b"GET / HTTP/1.1\r\n" + HOST + b"X:\r\n" * 5 + b"\r\n", cut, limits) == (
        431,
        "too_many_fields",
    )
    exact = b"GET / HTTP/1.1\r\n" + HOST + b"X: "
    exact += b"a" * (300 - len(exact) - 4) + b"\r\n\r\n"
    codec = http1_server(limits, engine)
    codec.receive_data(exact)
    assert isinstance(codec.next_event(), RequestHead)
    assert refusal(engine, exact[:20] + b"a" + exact[20:], cut, limits) == (431, "head_too_large")


@both
def test_underscores_are_refused_dropped_or_let_through(engine: str) -> None:
    stream = b"GET / HTTP/1.1\r\n" + HOST + b"X_A: 1\r\nX-B: 2\r\n\r\n"
    assert refusal(engine, stream, "whole", Limits(underscores="reject")) == (400, "underscore_in_name")
    for mode, kept in (("drop", False), ("allow", True)):
        codec = http1_server(Limits(underscores=mode), engine)
        codec.receive_data(stream)
        head = codec.next_event()
        assert isinstance(head, RequestHead)
        assert (b"x_a" in head.headers) is kept
        assert codec.counts == ({} if kept else {"underscore_field_dropped": 1})


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        (b"GET", b"/a?b", (b"http", None, b"/a?b")),
        (b"OPTIONS", b"*", (b"http", None, b"*")),
        (b"GET", b"http://b.example", (b"http", b"b.example", b"/")),
        (b"GET", b"HTTPS://b:8/x?y", (b"https", b"b:8", b"/x?y")),
        (b"GET", b"http://b?x=1", (b"http", b"b", b"/?x=1")),
        (b"OPTIONS", b"http://b", (b"http", b"b", b"*")),
        (b"CONNECT", b"b:443", (b"http", b"b:443", b"")),
    ],
)
def test_targets(method: bytes, target: bytes, expected: tuple[bytes, bytes | None, bytes]) -> None:
    assert gate.split_target(method, target) == expected


@both
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"HTTP/2.0 200 OK", "unsupported_version"),
        (b"http/1.1 200 OK", "bad_status_line"),
        (b"SSH-2.0-x", "bad_status_line"),
        (b"HTTP/1.1 20 OK", "bad_status_line"),
        (b"HTTP/1.1 2000 OK", "bad_status_line"),
        (b"HTTP/1.1 +20 OK", "bad_status_line"),
        (b"HTTP/1.1 099 x", "bad_status"),
        (b"HTTP/1.1 600 x", "bad_status"),
        (b"HTTP/1.1 200 OK\r\nA : b", "space_before_colon"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1", "duplicate_content_length"),
        (b"HTTP/1.1 204 OK\r\nContent-Length: x", "bad_content_length"),
    ],
)
def test_responses_that_are_refused(engine: str, line: bytes, reason: str) -> None:
    codec = http1_client(Limits(), engine)
    codec.send_head(RequestHead(b"GET", b"/", Headers([(b"Host", b"a")])))
    codec.receive_data(line + b"\r\n\r\n")
    with pytest.raises(ProtocolError) as caught:
        codec.next_event()
    assert (caught.value.status, caught.value.reason) == (502, reason)


def test_a_head_that_only_the_engine_refuses_has_a_reason_too() -> None:
    def refuse(head: bytes) -> Headers | None:
        return None

    for parse in (
        lambda: gate.parse_request(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", Limits(), refuse, {}),
        lambda: gate.parse_response(b"HTTP/1.1 200 OK\r\n\r\n", Limits(), refuse, {}, b"GET"),
    ):
        with pytest.raises(ProtocolError) as caught:
            parse()
        assert caught.value.reason == "bad_head"


def test_every_reason_is_in_the_table_of_the_module() -> None:
    source = Path(__file__).parents[3] / "agent" / "codec" / "gate.py"  # a compiled module has no docstring
    table = ast.get_docstring(ast.parse(source.read_text())) or ""
    for _, _, reason in REFUSED_LINES + REFUSED_FIELDS:
        assert reason in table


def test_a_body_announced_with_204_ends_the_persistence() -> None:
    response = ResponseHead(204, Headers([(b"Content-Length", b"6")]))
    counts: dict[str, int] = {}
    gate.finish_response(response, Limits(underscores="drop"), counts, b"GET")
    assert (response.content_length, response.keep_alive, counts) == (0, False, {"body_on_204": 1})


@pytest.mark.parametrize(
    ("target", "path"),
    [(b"/a", b"/a"), (b"/a?b=/c", b"/a"), (b"/a#f", b"/a"), (b"/a#f?x", b"/a"), (b"*", b"*")],
)
def test_the_path_ends_at_query_and_fragment(target: bytes, path: bytes) -> None:
    assert gate.path_of(target) == path
