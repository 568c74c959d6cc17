"""Reading a ClientHello: real ones from OpenSSL, whole, cut and mangled."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.downstream.sniff import ClientHello, hello_complete, looks_like_tls, parse_client_hello


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
    assert not hello_complete(HELLO[:length])
    assert hello_complete(HELLO)
    assert hello_complete(HELLO + b"more")


def test_a_record_longer_than_any_is_not_waited_for() -> None:
    assert hello_complete(b"\x16\x03\x01\xff\xff")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    parse_client_hello(b"\x16" + data)
    hello_complete(data)


@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255))
def test_a_mangled_hello_is_read_without_an_error(at: int, byte: int) -> None:
    parse_client_hello(HELLO[:at] + bytes([byte]) + HELLO[at + 1 :])
