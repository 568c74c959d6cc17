import pytest

from agent.codec.h1_encode import encode_chunk, encode_head, encode_last_chunk, status_line
from agent.codec.headers import Headers
from agent.codec.message import ProtocolError

NOTHING: frozenset[bytes] = frozenset()


def test_order_and_case_are_kept_and_named_fields_dropped() -> None:
    headers = Headers([(b"X-B", b"1"), (b"CONNECTION", b"close"), (b"x-a", b""), (b"X-b", b"2")])
    out = encode_head(b"GET / HTTP/1.1", headers, frozenset((b"connection",)), b"content-length: 0\r\n")
    assert out == b"GET / HTTP/1.1\r\nX-B: 1\r\nx-a: \r\nX-b: 2\r\ncontent-length: 0\r\n\r\n"
    assert encode_head(b"L", Headers(), NOTHING, b"") == b"L\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"A", b"1\r\nB: 2"),
        (b"A", b"1\rB"),
        (b"A", b"1\nB"),
        (b"A", b"1\0"),
        (b"A\r\nB", b"1"),
        (b"A B", b"1"),
        (b"Transfer-Encoding ", b"chunked"),
        (b"A:", b"1"),
        (b"", b"1"),
    ],
)
def test_nothing_breaks_out_of_its_field(name: bytes, value: bytes) -> None:
    for _ in range(2):
        with pytest.raises(ProtocolError) as caught:
            encode_head(b"GET / HTTP/1.1", Headers([(name, value)]), NOTHING, b"")
        assert (caught.value.status, caught.value.reason) == (500, "bad_field_to_send")


def test_nothing_breaks_out_of_the_first_line() -> None:
    with pytest.raises(ProtocolError):
        encode_head(status_line(200, b"OK\r\nX: 1"), Headers(), NOTHING, b"")


def test_names_beyond_the_remembered_ones_are_still_judged() -> None:
    many = Headers([(b"n%d" % number, b"") for number in range(5000)])
    assert encode_head(b"L", many, NOTHING, b"").count(b"\r\n") == 5002
    with pytest.raises(ProtocolError):
        encode_head(b"L", Headers([(b"n 1", b"")]), NOTHING, b"")


def test_status_lines() -> None:
    assert status_line(200, b"") == b"HTTP/1.1 200 OK"
    assert status_line(200, b"OK") == b"HTTP/1.1 200 OK"
    assert status_line(200, b"Fine") == b"HTTP/1.1 200 Fine"
    assert status_line(599, b"") == b"HTTP/1.1 599 "


def test_chunks_and_trailers() -> None:
    assert encode_chunk(b"hello world, hello") == b"12\r\nhello world, hello\r\n"
    assert encode_chunk(b"") == b""
    assert encode_last_chunk(None, NOTHING) == b"0\r\n\r\n"
    trailers = Headers([(b"X-T", b"1"), (b"Host", b"a")])
    assert encode_last_chunk(trailers, frozenset((b"host",))) == b"0\r\nX-T: 1\r\n\r\n"
