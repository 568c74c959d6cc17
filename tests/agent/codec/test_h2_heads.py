"""What RFC 9113 8 asks of field lists, and what a proxy adds: every refusal by its reason."""

from __future__ import annotations

import pytest

from agent.codec import h2_heads
from agent.codec.headers import Headers
from agent.codec.http2 import Http2Limits
from agent.codec.message import CHUNKED, ProtocolError, RequestHead, ResponseHead

Fields = list[tuple[bytes, bytes]]

GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.example"), (b":path", b"/p?q")]
CONNECT: Fields = [(b":method", b"CONNECT"), (b":authority", b"a.example:443")]
WEBSOCKET: Fields = [(b":method", b"CONNECT"), (b":protocol", b"WebSocket"), *GET[1:]]
OK: Fields = [(b":status", b"200")]


def read(fields: Fields, *, end: bool = True, **limits: object) -> RequestHead:
    return h2_heads.read_request(fields, Http2Limits(**limits), {}, end=end)  # type: ignore[arg-type]


def read_response(fields: Fields, method: bytes = b"GET", *, end: bool = True) -> ResponseHead:
    return h2_heads.read_response(fields, Http2Limits(), {}, method, end=end)


def changed(fields: Fields, **pseudo: bytes | None) -> Fields:
    """`fields` with other pseudo-headers; None leaves one out."""
    left = [(name, pseudo.get(name[1:].decode(), value)) for name, value in fields]
    return [(name, value) for name, value in left if value is not None]


def test_a_request_is_told_in_full() -> None:
    head = read([*GET, (b"x-a", b"1"), (b"x-b", b""), (b"x-a", b"2")])
    assert (head.method, head.scheme, head.authority) == (b"GET", b"http", b"a.example")
    assert (head.target, head.path, head.version) == (b"/p?q", b"/p?q", b"2")
    assert head.headers.items == [(b"x-a", b"1"), (b"x-b", b""), (b"x-a", b"2")]
    assert head.headers.index == {b"x-a": b"1, 2", b"x-b": b""}
    assert (head.content_length, head.expect_continue, head.upgrade) == (0, False, None)


@pytest.mark.parametrize(
    ("fields", "end", "length"),
    [
        ([], True, 0),
        ([], False, CHUNKED),
        ([(b"content-length", b"7")], False, 7),
        ([(b"content-length", b"0")], True, 0),
    ],
)
def test_how_long_a_request_body_is(fields: Fields, end: bool, length: int) -> None:
    assert read([*GET, *fields], end=end).content_length == length


def test_cookie_crumbs_become_one_field_in_the_place_of_the_first() -> None:
    head = read([*GET, (b"cookie", b"a=b"), (b"x", b"1"), (b"cookie", b"c=d"), (b"cookie", b"e=f")])
    assert head.headers.items == [(b"cookie", b"a=b; c=d; e=f"), (b"x", b"1")]
    assert head.headers.index[b"cookie"] == b"a=b; c=d; e=f"


@pytest.mark.parametrize(
    ("fields", "authority"),
    [
        ([*GET, (b"host", b"A.Example")], b"a.example"),
        ([*changed(GET, authority=None), (b"host", b"b.example:80")], b"b.example:80"),
        (changed(GET, authority=b"[::1]:8080"), b"[::1]:8080"),
    ],
)
def test_the_authority_has_the_host_field_s_place(fields: Fields, authority: bytes) -> None:
    head = read(fields)
    assert head.authority == authority
    assert b"host" not in head.headers
    assert all(name != b"host" for name, _ in head.headers.items)


def test_connect_and_extended_connect() -> None:
    head = read(CONNECT, end=False)
    assert (head.method, head.authority, head.path, head.upgrade) == (
        b"CONNECT",
        b"a.example:443",
        head.authority,
        None,
    )
    head = read(WEBSOCKET, end=False)
    assert (head.method, head.upgrade, head.path) == (b"CONNECT", b"websocket", b"/p?q")


@pytest.mark.parametrize("method", [b"OPTIONS", b"M-SEARCH", b"patch"])
def test_methods(method: bytes) -> None:
    assert read(changed(GET, method=method)).method == method


def test_forms_that_pass() -> None:
    assert read(changed(GET, method=b"OPTIONS", path=b"*")).path == b"*"
    assert read(changed(GET, scheme=b"HTTPS")).scheme == b"https"
    assert read([*GET, (b"te", b"Trailers")]).headers.get(b"te") == b"Trailers"
    assert read([*GET, (b"expect", b"100-Continue")]).expect_continue
    assert read([*GET, (b"x", b"a\tb\xff")]).headers.get(b"x") == b"a\tb\xff"


REFUSED_REQUESTS: list[tuple[str, Fields]] = [
    ("duplicate_pseudo_header", [*GET, (b":path", b"/other")]),
    ("pseudo_header", [*GET, (b":status", b"200")]),
    ("pseudo_header", [*GET, (b":foo", b"1")]),
    ("pseudo_header", [*GET[:3], (b"x", b"1"), GET[3]]),
    ("pseudo_header", [*GET, (b"x", b"1"), (b":method", b"POST")]),
    ("missing_pseudo_header", changed(GET, path=None)),
    ("missing_pseudo_header", changed(GET, scheme=None)),
    ("bad_method", changed(GET, method=None)),
    ("bad_method", changed(GET, method=b"")),
    ("bad_method", changed(GET, method=b"GET /")),
    ("bad_method", changed(GET, method=b"G\r\nET")),
    ("bad_scheme", changed(GET, scheme=b"ftp")),
    ("bad_scheme", changed(GET, scheme=b"http\0")),
    ("missing_host", changed(GET, authority=None)),
    ("missing_host", [CONNECT[0], (b"host", b"a.example:443")]),
    ("missing_host", [*changed(WEBSOCKET, authority=None), (b"host", b"a.example")]),
    ("bad_host", changed(GET, authority=b"")),
    ("bad_host", changed(GET, authority=b"user@a.example")),
    ("bad_host", changed(GET, authority=b"a.example/x")),
    ("bad_host", changed(GET, authority=b"a b")),
    ("bad_host", [*changed(GET, authority=None), (b"host", b"a"), (b"host", b"a")]),
    ("host_mismatch", [*GET, (b"host", b"b.example")]),
    ("host_mismatch", [*GET, (b"host", b"a.example"), (b"host", b"a.example")]),
    ("bad_target", changed(GET, path=b"")),
    ("bad_target", changed(GET, path=b"/a b")),
    ("bad_target", changed(GET, path=b"/\xc3\xa9")),
    ("bad_target", changed(GET, path=b"/ HTTP/1.1\r\nx: y")),
    ("fragment_in_target", changed(GET, path=b"/a#b")),
    ("bad_target_form", changed(GET, path=b"a")),
    ("bad_target_form", changed(GET, path=b"*")),
    ("bad_target_form", changed(GET, path=b"http://b.example/")),
    ("bad_target_form", changed(CONNECT, authority=b"a.example")),
    ("bad_target_form", changed(CONNECT, authority=b"a.example:")),
    ("bad_target_form", changed(CONNECT, authority=b"[::1]")),
    ("pseudo_header", [*CONNECT, (b":path", b"/")]),
    ("pseudo_header", [*CONNECT, (b":scheme", b"http")]),
    ("protocol_without_connect", [*GET, (b":protocol", b"websocket")]),
    ("protocol_without_connect", changed(WEBSOCKET, protocol=b"web socket")),
    ("missing_pseudo_header", changed(WEBSOCKET, path=None)),
    ("bad_te", [*GET, (b"te", b"gzip")]),
    ("bad_te", [*GET, (b"te", b"trailers, deflate")]),
    ("connection_field", [*GET, (b"connection", b"close")]),
    ("connection_field", [*GET, (b"keep-alive", b"1")]),
    ("connection_field", [*GET, (b"proxy-connection", b"x")]),
    ("connection_field", [*GET, (b"transfer-encoding", b"chunked")]),
    ("connection_field", [*GET, (b"upgrade", b"h2c")]),
    ("bad_field_name", [*GET, (b"X-Upper", b"1")]),
    ("bad_field_name", [*GET, (b"", b"1")]),
    ("bad_field_name", [*GET, (b"x y", b"1")]),
    ("bad_field_name", [*GET, (b"x\ny", b"1")]),
    ("bad_field_name", [*GET, (b"x\0", b"1")]),
    ("bad_field_name", [*GET, (b"x:y", b"1")]),
    ("bad_field_name", [*GET, (b"x\xe9", b"1")]),
    ("bad_field_value", [*GET, (b"x", b"a\r\nb: c")]),
    ("bad_field_value", [*GET, (b"x", b"a\nb")]),
    ("bad_field_value", [*GET, (b"x", b"a\0")]),
    ("bad_field_value", [*GET, (b"x", b"\x7f")]),
    ("bad_field_value", [*GET, (b"x", b" a")]),
    ("bad_field_value", [*GET, (b"x", b"a\t")]),
    ("bad_content_length", [*GET, (b"content-length", b"+5")]),
    ("bad_content_length", [*GET, (b"content-length", b"")]),
    ("bad_content_length", [*GET, (b"content-length", b"9" * 19)]),
    ("duplicate_content_length", [*GET, (b"content-length", b"5"), (b"content-length", b"5")]),
    ("content_length_mismatch", [*GET, (b"content-length", b"5")]),
    ("connect_with_body", [*CONNECT, (b"content-length", b"5")]),
    ("bad_expectation", [*GET, (b"expect", b"x")]),
]


@pytest.mark.parametrize(
    ("reason", "fields"), REFUSED_REQUESTS, ids=[f"{n}-{c[0]}" for n, c in enumerate(REFUSED_REQUESTS)]
)
def test_requests_that_are_none(reason: str, fields: Fields) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(fields)
    assert (caught.value.status, caught.value.reason) == (417 if reason == "bad_expectation" else 400, reason)


def test_heads_beyond_the_limits_are_431() -> None:
    many = [(b"x-%d" % number, b"1") for number in range(5)]
    with pytest.raises(ProtocolError) as caught:
        read([*GET, *many], max_fields=4)
    assert (caught.value.status, caught.value.reason) == (431, "too_many_fields")
    with pytest.raises(ProtocolError) as caught:
        read([*GET, (b"x", b"y" * 300)], max_head_bytes=300)
    assert (caught.value.status, caught.value.reason) == (431, "head_too_large")
    with pytest.raises(ProtocolError) as caught:
        read(changed(GET, path=b"/" + b"y" * 300), max_head_bytes=300)
    assert (caught.value.status, caught.value.reason) == (431, "head_too_large")
    assert read([*GET, *many], max_fields=5).headers.get(b"x-4") == b"1"


def test_underscores_are_judged_as_in_http1() -> None:
    counts: dict[str, int] = {}
    fields = [*GET, (b"x_a", b"1"), (b"x-a", b"2")]
    assert read(fields).headers.get(b"x_a") == b"1"
    head = h2_heads.read_request(fields, Http2Limits(underscores="drop"), counts, end=True)
    assert head.headers.items == [(b"x-a", b"2")]
    assert sum(counts.values()) == 1
    with pytest.raises(ProtocolError, match="underscore_in_name"):
        read(fields, underscores="reject")


@pytest.mark.parametrize(
    ("fields", "method", "end", "length"),
    [
        ([], b"GET", True, 0),
        ([], b"GET", False, CHUNKED),
        ([(b"content-length", b"7")], b"GET", False, 7),
        ([(b"content-length", b"7")], b"HEAD", True, 0),
    ],
)
def test_a_response_is_told_in_full(fields: Fields, method: bytes, end: bool, length: int) -> None:
    head = read_response([*OK, *fields], method, end=end)
    assert (head.status, head.version, head.content_length) == (200, b"2", length)
    assert head.headers.items == fields


def test_lengths_that_mean_nothing_are_dropped() -> None:
    tunnel = read([*CONNECT, (b"content-length", b"0")], end=False)
    assert (tunnel.content_length, tunnel.headers.items) == (CHUNKED, [])
    for fields, method in (
        ([(b":status", b"103"), (b"content-length", b"7")], b"GET"),
        ([*OK, (b"content-length", b"7")], b"CONNECT"),
        ([(b":status", b"204"), (b"content-length", b"0")], b"GET"),
    ):
        head = read_response(fields, method, end=False)
        assert (head.content_length, head.headers.items) == (CHUNKED, [])
    with pytest.raises(ProtocolError, match="content_length_mismatch"):
        read_response([(b":status", b"204"), (b"content-length", b"7")])


def test_a_304_may_tell_a_length_and_have_none() -> None:
    assert read_response([(b":status", b"304"), (b"content-length", b"7")]).content_length == 0


REFUSED_RESPONSES: list[tuple[str, Fields, bool]] = [
    ("missing_pseudo_header", [], True),
    ("missing_pseudo_header", [(b"x", b"1")], True),
    ("missing_pseudo_header", [(b":path", b"/")], True),
    ("pseudo_header", [*OK, (b":status", b"200")], True),
    ("pseudo_header", [*OK, (b"x", b"1"), (b":status", b"200")], True),
    ("bad_status", [(b":status", b"20")], True),
    ("bad_status", [(b":status", b"2000")], True),
    ("bad_status", [(b":status", b"099")], True),
    ("bad_status", [(b":status", b"600")], True),
    ("bad_status", [(b":status", b"2x0")], True),
    ("bad_status", [(b":status", b"101")], False),
    ("end_of_interim", [(b":status", b"103")], True),
    ("content_length_mismatch", [*OK, (b"content-length", b"7")], True),
    ("connection_field", [*OK, (b"connection", b"close")], True),
    ("bad_field_value", [*OK, (b"x", b"a\nb")], True),
    ("bad_field_name", [*OK, (b"X", b"a")], True),
]


@pytest.mark.parametrize(("reason", "fields", "end"), REFUSED_RESPONSES)
def test_responses_that_are_none(reason: str, fields: Fields, end: bool) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_response(fields, end=end)
    assert caught.value.reason == reason


def test_trailers_lose_what_may_not_come_so_late() -> None:
    counts: dict[str, int] = {}
    fields = [(b"grpc-status", b"0"), (b"content-length", b"5"), (b"host", b"a"), (b"x-forwarded-for", b"1.2.3.4")]
    trailers = h2_heads.read_trailers(fields, Http2Limits(), counts)
    assert trailers.items == [(b"grpc-status", b"0")]
    assert counts == {"trailer_field_dropped": 3}


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("pseudo_header", [(b":path", b"/")]),
        ("pseudo_header", [(b"x", b"1"), (b":status", b"200")]),
        ("connection_field", [(b"connection", b"x")]),
        ("bad_field_value", [(b"x", b"\r")]),
    ],
)
def test_trailers_that_are_none(reason: str, fields: Fields) -> None:
    with pytest.raises(ProtocolError, match=reason):
        h2_heads.read_trailers(fields, Http2Limits(), {})


def test_trailers_have_the_limits_of_heads() -> None:
    with pytest.raises(ProtocolError, match="too_many_fields"):
        h2_heads.read_trailers([(b"x", b"1")] * 3, Http2Limits(max_fields=2), {})
    with pytest.raises(ProtocolError, match="underscore_in_name"):
        h2_heads.read_trailers([(b"x_y", b"1")], Http2Limits(underscores="reject"), {})


# --- to send


def outgoing(method: bytes = b"GET", *fields: tuple[bytes, bytes], **more: object) -> RequestHead:
    about = {"authority": b"a.example", "path": b"/p", "scheme": b"https"} | more
    return RequestHead(method, b"/p", Headers(fields), **about)  # type: ignore[arg-type]


def test_a_request_of_http1_form_is_sent_in_http2_form() -> None:
    head = outgoing(
        b"POST",
        (b"Host", b"other"),
        (b"X-A", b"1"),
        (b"Connection", b"keep-alive"),
        (b"Keep-Alive", b"5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"HTTP2-Settings", b"x"),
        (b"TE", b"gzip"),
    )
    assert h2_heads.request_fields(head) == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"a.example"),
        (b":path", b"/p"),
        (b"x-a", b"1"),
    ]


def test_te_trailers_may_be_sent() -> None:
    assert h2_heads.request_fields(outgoing(b"GET", (b"TE", b"trailers")))[-1] == (b"te", b"trailers")


def test_a_known_length_is_sent_once() -> None:
    lengths = [
        [value for name, value in h2_heads.request_fields(head) if name == b"content-length"]
        for head in (
            outgoing(b"POST", content_length=7),
            outgoing(b"POST", (b"Content-Length", b"7"), content_length=7),
            outgoing(b"POST", content_length=CHUNKED),
        )
    ]
    assert lengths == [[b"7"], [b"7"], []]


def test_connect_is_sent_with_an_authority_only() -> None:
    assert h2_heads.request_fields(outgoing(b"CONNECT", authority=b"a:1")) == [
        (b":method", b"CONNECT"),
        (b":authority", b"a:1"),
    ]


def test_extended_connect_is_sent_whatever_the_method_was() -> None:
    assert h2_heads.request_fields(outgoing(b"GET", upgrade=b"websocket")) == [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"https"),
        (b":authority", b"a.example"),
        (b":path", b"/p"),
    ]


def test_a_response_keeps_what_is_not_the_connection_s() -> None:
    head = ResponseHead(200, Headers([(b"Server", b"x"), (b"Connection", b"close"), (b"Set-Cookie", b"a=b")]))
    assert h2_heads.response_fields(head) == [(b":status", b"200"), (b"server", b"x"), (b"set-cookie", b"a=b")]


def test_trailers_to_send_lose_what_may_not_come_so_late() -> None:
    trailers = Headers([(b"Grpc-Status", b"0"), (b"Content-Length", b"1"), (b"Host", b"a")])
    assert h2_heads.trailer_fields(trailers) == [(b"grpc-status", b"0")]


@pytest.mark.parametrize(
    "field", [(b"x y", b"1"), (b"", b"1"), (b":path", b"/"), (b"x", b"a\nb"), (b"x", b"a\rb"), (b"x", b"a\0b")]
)
def test_fields_that_cannot_be_sent(field: tuple[bytes, bytes]) -> None:
    for send in (
        lambda: h2_heads.check_values(h2_heads.request_fields(outgoing(b"GET", field))),
        lambda: h2_heads.check_values(h2_heads.response_fields(ResponseHead(200, Headers([field])))),
        lambda: h2_heads.trailer_fields(Headers([field])),
    ):
        with pytest.raises(ProtocolError) as caught:
            send()
        assert (caught.value.status, caught.value.reason) == (500, "bad_field_to_send")


@pytest.mark.parametrize("about", [{"authority": b"a\r\nb"}, {"path": b"/\n"}, {"scheme": b"x\0"}, {"upgrade": b"w\n"}])
def test_pseudo_headers_that_cannot_be_sent(about: dict[str, bytes]) -> None:
    with pytest.raises(ProtocolError, match="bad_field_to_send"):
        h2_heads.check_values(h2_heads.request_fields(outgoing(b"GET", **about)))


def test_fields_that_came_before_mean_the_same_again() -> None:
    known: h2_heads.Known = {}
    block = ((b"a", b"1"), (b"a", b"2"), (b"te", b"trailers"))
    first, size = h2_heads.read_fields(block, Http2Limits(), known)
    first.remove(b"a")  # what is done to one message is not done to the next
    again, same = h2_heads.read_fields(tuple(block), Http2Limits(), known)
    assert (again.items, again.index, same) == (list(block), {b"a": b"1, 2", b"te": b"trailers"}, size)
    again.add(b"b", b"3")
    assert b"b" not in h2_heads.read_fields(block, Http2Limits(), known)[0]
    with pytest.raises(ProtocolError):
        h2_heads.read_fields(((b"A", b"1"),), Http2Limits(), known)
    assert len(known) == 1


def test_what_is_remembered_of_a_peer_is_bounded() -> None:
    known: h2_heads.Known = {}
    for n in range(100):
        h2_heads.read_fields(((b"x", b"%d" % n),), Http2Limits(), known)
    h2_heads.read_fields(((b"large", b"x" * 2000),), Http2Limits(), known)
    assert len(known) <= 16
    assert all(len(fields[0][1]) < 1024 for fields in known)


def test_a_hop_by_hop_field_is_dropped_however_often_its_name_was_seen() -> None:
    for _ in range(2):
        head = outgoing(b"GET", (b"connection", b"x"), (b"Accept", b"*/*"), (b"te", b"gzip"))
        assert [name for name, _ in h2_heads.request_fields(head) if name[:1] != b":"] == [b"accept"]
        with pytest.raises(ProtocolError):
            h2_heads.read_fields([(b"connection", b"x")], Http2Limits())


def test_a_tunnel_has_no_trailers() -> None:
    with pytest.raises(ProtocolError) as caught:
        h2_heads.read_trailers([(b"x-t", b"1")], Http2Limits(), {}, tunnel=True)
    assert (caught.value.status, caught.value.reason) == (400, "head_in_tunnel")


@pytest.mark.parametrize(
    ("crumbs", "whole"),
    [
        ([b"b=2", b""], b"b=2"),
        ([b"", b"b=2"], b"b=2"),
        ([b"a=1", b"", b"b=2"], b"a=1; b=2"),
        ([b"", b""], b""),
    ],
)
def test_empty_cookie_crumbs_leave_no_trace(crumbs: list[bytes], whole: bytes) -> None:
    headers, _ = h2_heads.read_fields([(b"cookie", crumb) for crumb in crumbs], Http2Limits())
    assert headers.items == [(b"cookie", whole)]
    assert headers.index == {b"cookie": whole}
