"""What do the first bytes say? TLS ClientHello (server name, ALPN) or something else. Pure; the caller peeks."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_MAX_HELLO: Final = 16 * 1024 + 5  # one TLS record; a ClientHello split over several is not worth waiting for


class ClientHello(Struct, frozen=True):
    """What a client asks for before anything is encrypted."""

    server_name: str = ""
    alpn: tuple[str, ...] = ()


def looks_like_tls(first: bytes) -> bool:
    """Whether the connection's first byte can begin a TLS record."""
    return first[:1] == b"\x16"


def hello_complete(data: bytes) -> bool:
    """Whether `data` holds the whole first record, or will never hold a sensible one."""
    if len(data) < 5:
        return False
    length = int.from_bytes(data[3:5], "big")
    return len(data) >= 5 + length or length + 5 > _MAX_HELLO


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
