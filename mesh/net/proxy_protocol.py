"""The PROXY protocol, versions 1 and 2: a header before the first byte that tells whose connection is passed on.

After HAProxy's specification (proxy-protocol.txt). Pure: bytes in, addresses out, and back. Addresses are `host:port`
and `[host]:port`, as transports name them.
"""

from __future__ import annotations

import re
import struct
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import Final, Literal

from msgspec import Struct

_V1: Final = b"PROXY "
_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_MAX_V1: Final = 107  # bytes, CRLF included (section 2.1)
MAX_V2: Final = 4096
"""Bytes of a whole header that are waited for; the format would allow 64 KiB, for a client that nobody knows yet."""
_V1_LINE: Final = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (\d{1,5}) (\d{1,5})\r\n")
_LOCAL: Final = 0
_PROXIED: Final = 1
_STREAM: Final = 1
_IPV4, _IPV6, _LAST_FAMILY = 1, 2, 3  # UNIX
_LAST_KIND: Final = 2  # DGRAM
_CRC32C: Final = 3
_CRC32C_POLYNOMIAL: Final = 0x82F63B78

Version = Literal["v1", "v2"]
_Address = IPv4Address | IPv6Address


class ProxyProtocolError(Exception):
    """Not a header that can be believed; `reason` is a short token for the refusal counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ProxyHeader(Struct, frozen=True):
    """Whose connection it is. Both empty: the sender's own (LOCAL), or of a family that is not ours (UNKNOWN).

    `size` is the header's, in bytes.
    """

    source: str
    destination: str
    size: int


def begins_header(data: bytes) -> bool | None:
    """Whether `data` begins as a header does; None while that cannot be told."""
    for begin in (_V1, _V2):
        if data.startswith(begin):
            return True
        if begin.startswith(data):
            return None
    return False


def parse_header(data: bytes) -> ProxyHeader | None:
    """The header at the beginning of `data`; None while it is incomplete. Raises ProxyProtocolError.

    Reasons: `not_proxy_protocol`, `malformed`, `too_long`, `bad_checksum`.
    """
    begins = begins_header(data)
    if begins is False:
        raise ProxyProtocolError("not_proxy_protocol")
    if begins is None:
        return None
    return _parse_v1(data) if data.startswith(_V1) else _parse_v2(data)


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _MAX_V1)
    if end < 0:
        if len(data) >= _MAX_V1:
            raise ProxyProtocolError("too_long")
        return None
    size = end + 2
    line = data[:size]
    if line == b"PROXY UNKNOWN\r\n" or line.startswith(b"PROXY UNKNOWN "):
        return ProxyHeader("", "", size)
    found = _V1_LINE.fullmatch(line)
    if found is None:
        raise ProxyProtocolError("malformed")
    kind, *fields = (field.decode("ascii") for field in found.groups())
    wanted = IPv4Address if kind == "TCP4" else IPv6Address
    try:
        source, destination = wanted(fields[0]), wanted(fields[1])
    except AddressValueError as exc:
        raise ProxyProtocolError("malformed") from exc
    return ProxyHeader(_name(source, _port(fields[2])), _name(destination, _port(fields[3])), size)


def _port(text: str) -> int:
    number = int(text)
    if number > 65535 or (len(text) > 1 and text[0] == "0"):
        raise ProxyProtocolError("malformed")
    return number


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    version, command = divmod(data[12], 16)
    family, kind = divmod(data[13], 16)
    if version != 2 or command > _PROXIED or family > _LAST_FAMILY or kind > _LAST_KIND:
        raise ProxyProtocolError("malformed")  # unassigned values must be refused (section 2.2)
    size = 16 + int.from_bytes(data[14:16], "big")
    if size > MAX_V2:
        raise ProxyProtocolError("too_long")
    if len(data) < size:
        return None
    header = data[:size]
    if command == _LOCAL:
        return ProxyHeader("", "", size)
    if kind != _STREAM or family not in (_IPV4, _IPV6):
        return ProxyHeader("", "", size)
    width = 4 if family == _IPV4 else 16
    _check_extras(header, 16 + 2 * width + 4)
    source = ip_address(header[16 : 16 + width])
    destination = ip_address(header[16 + width : 16 + 2 * width])
    ports: tuple[int, int] = struct.unpack_from("!HH", header, 16 + 2 * width)
    return ProxyHeader(_name(source, ports[0]), _name(destination, ports[1]), size)


def _check_extras(header: bytes, at: int) -> None:
    """The TLVs after the addresses must fill the header to its end, and a checksum among them must be right."""
    if at > len(header):
        raise ProxyProtocolError("malformed")
    while at < len(header):
        if at + 3 > len(header):
            raise ProxyProtocolError("malformed")
        kind, length = header[at], int.from_bytes(header[at + 1 : at + 3], "big")
        at += 3 + length
        if at > len(header) or (kind == _CRC32C and length != 4):
            raise ProxyProtocolError("malformed")
        if kind == _CRC32C:
            told = int.from_bytes(header[at - 4 : at], "big")
            if crc32c(header[: at - 4] + bytes(4) + header[at:]) != told:
                raise ProxyProtocolError("bad_checksum")


def encode_header(version: Version, source: str = "", destination: str = "") -> bytes:
    """A header for a connection from `source` to `destination`; LOCAL (v1: UNKNOWN) where an address is missing.

    An IPv4 address beside an IPv6 one is written as IPv6.
    """
    near, far = _address(source), _address(destination)
    if near is None or far is None:
        return b"PROXY UNKNOWN\r\n" if version == "v1" else _V2 + bytes((0x20, 0x00, 0, 0))
    (from_ip, from_port), (to_ip, to_port) = near, far
    if from_ip.version != to_ip.version:
        from_ip, to_ip = _as_ipv6(from_ip), _as_ipv6(to_ip)
    if version == "v1":
        return f"PROXY TCP{from_ip.version} {from_ip} {to_ip} {from_port} {to_port}\r\n".encode()
    body = from_ip.packed + to_ip.packed + struct.pack("!HH", from_port, to_port)
    family = _IPV4 if from_ip.version == 4 else _IPV6
    return _V2 + bytes((0x21, family * 16 + _STREAM)) + struct.pack("!H", len(body)) + body


def _address(name: str) -> tuple[_Address, int] | None:
    host, _, port = name.rpartition(":")
    try:
        return ip_address(host.strip("[]").partition("%")[0]), int(port)
    except ValueError:
        return None


def _as_ipv6(address: _Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")


def _name(address: _Address, port: int) -> str:
    return f"[{address}]:{port}" if isinstance(address, IPv6Address) else f"{address}:{port}"


def _table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_CRC32C_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, RFC 3720 appendix B.4)."""
    value = 0xFFFFFFFF
    for octet in data:
        value = value >> 8 ^ _TABLE[(value ^ octet) & 0xFF]
    return value ^ 0xFFFFFFFF
