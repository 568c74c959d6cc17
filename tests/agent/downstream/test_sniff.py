"""Reading a ClientHello: real ones from OpenSSL, whole, cut and mangled."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.downstream.sniff import ClientHello, application, hello_decided, looks_like_tls, parse_client_hello


def hello(server_name: str | None = None, *alpn: str) -> bytes:
    """The first bytes of a TLS client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


HELLO = hello("Reviews.Default", "istio", "http/1.1")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (HELLO, ClientHello("reviews.default", ("istio", "http/1.1"))),
        (hello(), ClientHello()),
        (hello("a.b"), ClientHello("a.b")),
        (hello(None, "istio"), ClientHello("", ("istio",))),
        (b"", ClientHello()),
        (b"GET / HTTP/1.1\r\n\r\n", ClientHello()),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", ClientHello()),
        (HELLO[:-1], ClientHello()),
        (HELLO.replace(b"Reviews", b"Revi\xffws"), ClientHello()),
    ],
)
def test_parse(data: bytes, expected: ClientHello) -> None:
    assert parse_client_hello(data) == expected


def test_first_byte() -> None:
    assert looks_like_tls(HELLO)
    assert not looks_like_tls(b"GET")
    assert not looks_like_tls(b"")


@pytest.mark.parametrize("length", range(0, len(HELLO), 37))
def test_a_hello_is_complete_with_its_last_byte(length: int) -> None:
    assert not hello_decided(HELLO[:length])
    assert hello_decided(HELLO)
    assert hello_decided(HELLO + b"more")


def test_what_is_no_tls_is_decided_at_its_first_byte() -> None:
    assert not hello_decided(b"")
    assert hello_decided(b"G")
    assert hello_decided(b"GET / HTTP/1.1")


def test_a_record_longer_than_any_is_not_waited_for() -> None:
    assert hello_decided(b"\x16\x03\x01\xff\xff")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    parse_client_hello(b"\x16" + data)
    hello_decided(data)


@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255))
def test_a_mangled_hello_is_read_without_an_error(at: int, byte: int) -> None:
    parse_client_hello(HELLO[:at] + bytes([byte]) + HELLO[at + 1 :])


HTTP = [
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"M-SEARCH http://a/b?c=d HTTP/1.0\r\n",
    b"CONNECT a:443 HTTP/1.1\r\n",
    b"POST /p HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /caf\xc3\xa9 HTTP/1.1\r\n",
    b"GET /" + b"x" * 9000,
]
OPAQUE = [
    b"EHLO mail.example.com\r\n",
    b"SET key value\r\n",
    b"*2\r\n$3\r\nGET\r\n",
    b"PING\r\n",
    b"get key\r\n",
    b"GET  / HTTP/1.1\r\n",
    b" GET / HTTP/1.1\r\n",
    b"GET / \r\n",
    b"GET /a\x00b HTTP/1.1\r\n",
    b"OPTIONS rtsp://a/b RTSP/1.0\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"\r\n",
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
    HELLO,
    b"A" * 33,
    b"PRI * HTTP/2.0x\r\n\r\n"[:4] + b"no\r\n",
]


@pytest.mark.parametrize(("data", "carried"), [*((each, "http") for each in HTTP), *((each, "tcp") for each in OPAQUE)])
def test_what_a_connection_carries(data: bytes, carried: str) -> None:
    assert application(data) == carried
    verdicts = [application(data[:length]) for length in range(len(data) + 1)]
    decided = next(length for length, verdict in enumerate(verdicts) if verdict)
    assert verdicts == [None] * decided + [carried] * (len(data) + 1 - decided)


@given(st.binary(max_size=200))
def test_a_verdict_is_never_taken_back(data: bytes) -> None:
    verdicts = [application(data[:length]) for length in range(len(data) + 1)]
    told = [verdict for verdict in verdicts if verdict]
    assert told == told[:1] * len(told)
    assert verdicts[len(verdicts) - len(told) :] == told
