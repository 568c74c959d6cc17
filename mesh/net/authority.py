"""Split host and port as URLs write them (RFC 3986 3.2.2)."""

from __future__ import annotations


def split_port(authority: bytes) -> tuple[bytes, bytes]:
    """(host, port); the port is b"" when none is written. IPv6 brackets stay on the host."""
    host, colon, port = authority.rpartition(b":")
    if not colon or (port and not port.isdigit()) or (b":" in host and not host.endswith(b"]")):
        return authority, b""
    return host, port


def parse_address(text: str, *, default_host: str = "127.0.0.1") -> tuple[str, int]:
    """HOST:PORT or just a port. Raises ValueError with what to write instead."""
    host, port = split_port(text.encode())
    if not port and text.isascii() and text.isdecimal():
        host, port = b"", text.encode()
    if not port or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT; write for example 127.0.0.1:0")
    return host.decode().strip("[]") or default_host, int(port)
