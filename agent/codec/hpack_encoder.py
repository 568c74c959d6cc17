"""Writes header blocks (RFC 7541 6): one encoder for each direction of a connection.

What repeats is indexed, and that it does is seen when it comes for the second time: ids, spans, paths and dates that
never come again cost the table nothing. Strings are written as they are (see hpack_huffman.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agent.codec.hpack_table import ENTRY_COST, STATIC, TABLE_SIZE

_STATIC_SIZE: Final = 61
_LARGEST_ENTRY: Final = 1024  # a quarter of the table
_MAX_SEEN: Final = 64
_NEVER, _COOKIE, _ONCE = 1, 2, 3
# What an attacker who shares the connection would guess byte by byte (7.1.3), and what is new with each message.
_RULES: Final = {
    b"authorization": _NEVER,
    b"proxy-authorization": _NEVER,
    b"cookie": _COOKIE,
    b"x-request-id": _ONCE,
    b"traceparent": _ONCE,
    b"x-b3-traceid": _ONCE,
    b"x-b3-spanid": _ONCE,
}
_SHORT_COOKIE: Final = 20  # bytes that are guessed, as nghttp2 has it
_MAX_NAMES: Final = 1024
_LONGEST_NAME: Final = 64


def _integer(value: int, prefix: int, pattern: int) -> bytes:
    """A number in the low bits of a first octet (5.1); `prefix`: these bits, all set."""
    if value < prefix:
        return bytes((pattern | value,))
    octets = [pattern | prefix]
    value -= prefix
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


_ENTRIES: Final = TABLE_SIZE // ENTRY_COST
_INDEXED: Final = [_integer(index, 0x7F, 0x80) for index in range(_STATIC_SIZE + _ENTRIES + 1)]
_LENGTHS: Final = [_integer(length, 0x7F, 0x00) for length in range(256)]
_STATIC_FIELDS: Final = {field: index for index, field in enumerate(STATIC) if index}
_STATIC_NAMES: Final = {field[0]: index for index, field in reversed([*enumerate(STATIC)]) if index}
_names: dict[bytes, bytes] = {}
"""Names as a literal without indexing begins with them."""


def _string(text: bytes) -> bytes:
    length = len(text)
    return (_LENGTHS[length] if length < 256 else _integer(length, 0x7F, 0x00)) + text


def _name(name: bytes, prefix: int, pattern: int) -> bytes:
    index = _STATIC_NAMES.get(name)
    return _integer(0, prefix, pattern) + _string(name) if index is None else _integer(index, prefix, pattern)


def _plain_name(name: bytes) -> bytes:
    written = _name(name, 0x0F, 0x00)
    if len(_names) >= _MAX_NAMES:
        _names.clear()
    if len(name) <= _LONGEST_NAME:
        _names[name] = written
    return written


class Encoder:
    """What it writes, a decoder can read that has a table of 4096 bytes, or of what `resize` was told."""

    __slots__ = ("_count", "_entries", "_limit", "_numbers", "_resized", "_room", "_seen", "_smallest")

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = _STATIC_FIELDS.copy()
        """Fields of both tables: their index in the static one; 61 and how many had been entered into the other."""
        self._entries: list[Any] = []
        """The dynamic table, the newest last."""
        self._count = 0
        self._limit = TABLE_SIZE
        self._room = TABLE_SIZE
        self._resized = False
        self._smallest = TABLE_SIZE
        """If `_resized`, the smallest limit since the last block (4.2)."""
        self._seen: set[Any] = set()

    def resize(self, limit: int) -> None:
        """The peer's table may have so many bytes."""
        limit = min(limit, TABLE_SIZE)
        if limit != self._limit:
            self._smallest = min(self._smallest, limit) if self._resized else limit
            self._resized = True
            self._room += limit - self._limit
            self._limit = limit
            self._evict()

    def encode(self, fields: Sequence[Any]) -> bytes:
        """The block of these fields: pairs of bytes, never indexed if they are of another class than tuple."""
        parts: list[bytes] = []
        if self._resized:
            self._resized = False
            if self._smallest < self._limit:
                parts.append(_integer(self._smallest, 0x1F, 0x20))
            parts.append(_integer(self._limit, 0x1F, 0x20))
        numbers = self._numbers
        for field in fields:
            if type(field) is not tuple:
                parts.append(_never_indexed(field[0], field[1]))
                continue
            number = numbers.get(field)
            if number is None:
                self._literal(parts, field, field[0], field[1])
            elif number <= _STATIC_SIZE:
                parts.append(_INDEXED[number])
            else:
                parts.append(_INDEXED[_STATIC_SIZE + _STATIC_SIZE + 1 + self._count - number])
        return b"".join(parts)

    def _literal(self, parts: list[bytes], field: Any, name: bytes, value: bytes) -> None:
        rule = _RULES.get(name)
        if rule is not None and (rule == _NEVER or (rule == _COOKIE and len(value) < _SHORT_COOKIE)):
            parts.append(_never_indexed(name, value))
            return
        size = len(name) + len(value) + ENTRY_COST
        if rule != _ONCE and size <= _LARGEST_ENTRY and size <= self._limit:
            if field in self._seen:
                self._seen.discard(field)
                self._enter(field, size)
                parts.append(_name(name, 0x3F, 0x40))
                parts.append(_string(value))
                return
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            self._seen.add(field)
        written = _names.get(name)
        parts.append(_plain_name(name) if written is None else written)
        parts.append(_string(value))

    def _enter(self, field: Any, size: int) -> None:
        self._room -= size
        self._evict()
        self._entries.append(field)
        self._count += 1
        self._numbers[field] = _STATIC_SIZE + self._count

    def _evict(self) -> None:
        while self._room < 0:
            field = self._entries.pop(0)
            self._room += len(field[0]) + len(field[1]) + ENTRY_COST
            del self._numbers[field]


def _never_indexed(name: bytes, value: bytes) -> bytes:
    return _name(name, 0x0F, 0x10) + _string(value)
