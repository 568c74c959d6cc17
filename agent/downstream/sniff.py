"""What do the first bytes say? TLS ClientHello (server name, ALPN), HTTP, or something else. Pure; the caller peeks."""

from __future__ import annotations

from string import ascii_letters, digits
from typing import Final, Literal

from msgspec import Struct

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_MAX_HELLO: Final = 16 * 1024 + 5  # one TLS record; a ClientHello split over several is not worth waiting for

_H2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_TOKEN: Final = f"!#$%&'*+-.^_`|~{digits}{ascii_letters}".encode()
_VISIBLE: Final = bytes(octet for octet in range(0x21, 0x100) if octet != 0x7F)
_MAX_METHOD: Final = 32
_MAX_TARGET: Final = 8192  # a longer one is HTTP's to refuse

Application = Literal["http", "tcp"]
"""What a connection carries: requests, or opaque bytes."""


class ClientHello(Struct, frozen=True):
    """What a client asks for before anything is encrypted."""

    server_name: str = ""
    alpn: tuple[str, ...] = ()


def looks_like_tls(first: bytes) -> bool:
    """Whether the connection's first byte can begin a TLS record."""
    return first[:1] == b"\x16"


def hello_decided(data: bytes) -> bool:
    """Whether `data` is no TLS, holds the whole first record, or will never hold a sensible one."""
    if len(data) < 5:
        return data[:1] not in (b"", b"\x16")
    length = int.from_bytes(data[3:5], "big")
    return data[0] != _HANDSHAKE or len(data) >= 5 + length or length + 5 > _MAX_HELLO


def parse_client_hello(data: bytes) -> ClientHello:
    """Read server_name (RFC 6066) and ALPN (RFC 7301); anything malformed gives an empty ClientHello.

    The handshake itself judges the bytes; this only looks for two extensions.
    """
    try:
        return _parse(data)
    except (IndexError, ValueError, UnicodeDecodeError):
        return ClientHello()


class _Cursor:
    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        if len(piece) != size:
            raise ValueError("truncated")
        self.at += size
        return piece


def _parse(data: bytes) -> ClientHello:
    record = _Cursor(data)
    if record.number(1) != _HANDSHAKE:
        return ClientHello()
    record.take(2)
    hello = _Cursor(record.take(record.number(2)))
    if hello.number(1) != _CLIENT_HELLO:
        return ClientHello()
    hello.take(3 + 2 + 32)
    hello.take(hello.number(1))
    hello.take(hello.number(2))
    hello.take(hello.number(1))
    extensions = _Cursor(hello.take(hello.number(2)))
    server_name = ""
    alpn: tuple[str, ...] = ()
    while extensions.at < len(extensions.data):
        kind = extensions.number(2)
        body = _Cursor(extensions.take(extensions.number(2)))
        if kind == 0:
            body.take(3)
            server_name = body.take(body.number(2)).decode("ascii").lower()
        elif kind == 16:
            alpn = _protocols(_Cursor(body.take(body.number(2))))
    return ClientHello(server_name, alpn)


def _protocols(listed: _Cursor) -> tuple[str, ...]:
    names = []
    while listed.at < len(listed.data):
        names.append(listed.take(listed.number(1)).decode("ascii"))
    return tuple(names)


def application(data: bytes) -> Application | None:
    """HTTP when `data` begins an HTTP/1 request line or is the HTTP/2 preface; None while it may still become one.

    A request line is told by its shape (RFC 9112 section 3: method SP target SP "HTTP/"), any method will do.
    Lines of other text protocols (SMTP's EHLO, Redis' inline commands, RTSP) lack the last word.
    """
    if data.startswith(_H2_PREFACE):
        return "http"
    if _H2_PREFACE.startswith(data):
        return None
    line, ended, _ = data.partition(b"\n")
    method, _, rest = line.partition(b" ")
    if not method or len(method) > _MAX_METHOD or method.translate(None, _TOKEN):
        return "tcp"
    target, second_space, version = rest.partition(b" ")
    if target.translate(None, _VISIBLE) or (second_space and not target):
        return "tcp"
    if version.startswith(b"HTTP/"):
        return "http"
    if ended or not b"HTTP/".startswith(version):
        return "tcp"
    return "http" if len(target) > _MAX_TARGET else None
