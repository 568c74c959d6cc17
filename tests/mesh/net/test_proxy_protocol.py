"""PROXY headers: what other implementations send, byte by byte and whole, and what must be refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.net.proxy_protocol import (
    MAX_V2,
    ProxyHeader,
    ProxyProtocolError,
    begins_header,
    crc32c,
    encode_header,
    parse_header,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
IPV4 = bytes((192, 0, 2, 1, 198, 51, 100, 7)) + b"\x04\xd2\x01\xbb"
IPV6 = bytes.fromhex("20010db8000000000000000000000001") + bytes(15) + b"\x01" + b"\x04\xd2\x01\xbb"
TOLD = ("192.0.2.1:1234", "198.51.100.7:443")
TOLD6 = ("[2001:db8::1]:1234", "[::1]:443")
OWN = ("", "")


def v2(kind: int, body: bytes, *, command: int = 0x21) -> bytes:
    return SIGNATURE + bytes((command, kind)) + len(body).to_bytes(2, "big") + body


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def checked(body: bytes) -> bytes:
    """A header with a right checksum after its addresses."""
    blank = v2(0x11, body + tlv(3, bytes(4)))
    return blank[:-4] + crc32c(blank).to_bytes(4, "big")


GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.7 1234 443\r\n", TOLD),
    (b"PROXY TCP6 2001:db8::1 ::1 1234 443\r\n", TOLD6),
    (b"PROXY UNKNOWN\r\n", OWN),
    (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", OWN),
    (v2(0x11, IPV4), TOLD),
    (v2(0x21, IPV6), TOLD6),
    (v2(0x11, IPV4, command=0x20), OWN),
    (v2(0x00, b"", command=0x20), OWN),
    (v2(0x00, b"whatever"), OWN),
    (v2(0x12, IPV4), OWN),
    (v2(0x31, bytes(216)), OWN),
    (v2(0x11, IPV4 + tlv(1, b"h2") + tlv(4, b"") + tlv(0xEA, b"x" * 900)), TOLD),
    (checked(IPV4), TOLD),
]


@pytest.mark.parametrize(("header", "expected"), GOOD)
def test_a_header_is_read_at_its_last_byte(header: bytes, expected: tuple[str, str]) -> None:
    for length in range(len(header)):
        assert parse_header(header[:length]) is None
        assert begins_header(header[:length]) is not False
    for rest in (b"", b"GET / HTTP/1.1\r\n", SIGNATURE, b"\x16\x03\x01"):
        assert parse_header(header + rest) == ProxyHeader(*expected, len(header))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "not_proxy_protocol"),
        (b"\x16\x03\x01\x02\x00", "not_proxy_protocol"),
        (b"\r\n\r\nGET", "not_proxy_protocol"),
        (b"PROXY\r\n", "not_proxy_protocol"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 1234 443\n" + b"x" * 107, "too_long"),
        (b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n", "too_long"),
        (b"PROXY UNKNOWNX\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 1234\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 1234 443 \r\n", "malformed"),
        (b"PROXY TCP4  192.0.2.1 198.51.100.7 1234 443\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.256 198.51.100.7 1234 443\r\n", "malformed"),
        (b"PROXY TCP4 2001:db8::1 ::1 1234 443\r\n", "malformed"),
        (b"PROXY TCP6 192.0.2.1 198.51.100.7 1234 443\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 1234 65536\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 01234 443\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 +123 443\r\n", "malformed"),
        (b"PROXY UDP4 192.0.2.1 198.51.100.7 1234 443\r\n", "malformed"),
        (v2(0x11, IPV4, command=0x11), "malformed"),
        (v2(0x11, IPV4, command=0x22), "malformed"),
        (v2(0x41, IPV4), "malformed"),
        (v2(0x13, IPV4), "malformed"),
        (v2(0x11, IPV4[:-1]), "malformed"),
        (v2(0x21, IPV4), "malformed"),
        (v2(0x11, IPV4 + b"\x01\x00"), "malformed"),
        (v2(0x11, IPV4 + b"\x01\x00\x05abcd"), "malformed"),
        (v2(0x11, IPV4 + tlv(3, b"abc")), "malformed"),
        (v2(0x11, IPV4 + tlv(3, b"abcd")), "bad_checksum"),
        (checked(IPV4)[:-1] + b"\x00", "bad_checksum"),
        (SIGNATURE + b"\x21\x11\xff\xff", "too_long"),
        (v2(0x11, IPV4 + tlv(0xEA, bytes(MAX_V2 - 30))), "too_long"),
    ],
)
def test_what_is_no_header_is_refused(header: bytes, reason: str) -> None:
    with pytest.raises(ProxyProtocolError) as caught:
        parse_header(header)
    assert caught.value.reason == reason


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


@pytest.mark.parametrize(
    ("version", "source", "destination", "expected"),
    [
        ("v1", *TOLD, b"PROXY TCP4 192.0.2.1 198.51.100.7 1234 443\r\n"),
        ("v1", *TOLD6, b"PROXY TCP6 2001:db8::1 ::1 1234 443\r\n"),
        ("v1", *OWN, b"PROXY UNKNOWN\r\n"),
        ("v1", "a-name:80", TOLD[1], b"PROXY UNKNOWN\r\n"),
        ("v2", *TOLD, v2(0x11, IPV4)),
        ("v2", *TOLD6, v2(0x21, IPV6)),
        ("v2", *OWN, v2(0x00, b"", command=0x20)),
    ],
)
def test_what_is_sent(version: str, source: str, destination: str, expected: bytes) -> None:
    assert encode_header(version, source, destination) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_addresses_of_two_families_are_told_as_ipv6(version: str) -> None:
    header = parse_header(encode_header(version, TOLD[0], TOLD6[1]))  # type: ignore[arg-type]
    assert header is not None
    assert header.source.startswith("[::ffff:")
    assert header.destination == TOLD6[1]


_addresses = st.tuples(st.ip_addresses(), st.integers(0, 65535)).map(
    lambda pair: f"[{pair[0]}]:{pair[1]}" if pair[0].version == 6 else f"{pair[0]}:{pair[1]}"
)


@given(st.sampled_from(["v1", "v2"]), _addresses, _addresses, st.binary(max_size=20))
def test_what_is_sent_is_understood(version: str, source: str, destination: str, rest: bytes) -> None:
    encoded = encode_header(version, source, destination)  # type: ignore[arg-type]
    header = parse_header(encoded + rest)
    assert header is not None
    assert header.size == len(encoded)
    if source.startswith("[") == destination.startswith("["):
        assert (header.source, header.destination) == (source, destination)


@given(st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]), st.binary(max_size=300))
def test_any_bytes_are_judged(begin: bytes, data: bytes) -> None:
    try:
        header = parse_header(begin + data)
    except ProxyProtocolError:
        return
    assert header is None or header.size <= len(begin + data)
