"""Writes header blocks (RFC 7541 6): one encoder for each direction of a connection.

What repeats is indexed, and that it does is seen when it comes for the second time: ids, spans, paths and dates that
never come again cost the table nothing. Strings are written as they are (see hpack_huffman.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agent.codec.headers import breaks_out
from agent.codec.hpack_table import ENTRY_COST, STATIC, TABLE_SIZE, Field
from agent.codec.message import ProtocolError

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
_MAX_NAMES: Final = 256
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
_STATIC_FIELDS: Final[dict[Any, int]] = {field: index for index, field in enumerate(STATIC) if index}
_STATIC_NAMES: Final = {field[0]: index for index, field in reversed([*enumerate(STATIC)]) if index}


class _Name:
    """A field's name: how it begins a literal that is not indexed, and the last value that was, with its number."""

    __slots__ = ("number", "plain", "rule", "value")

    def __init__(self, name: bytes) -> None:
        self.rule = _RULES.get(name, 0)
        self.plain = _literal_name(name, 0x0F, 0x00)
        self.value = b""
        self.number = 0


class Encoder:
    """What it writes, a decoder can read that has a table of 4096 bytes, or of what `resize` was told."""

    __slots__ = (
        "_entries",
        "_limit",
        "_names",
        "_newest",
        "_numbers",
        "_oldest",
        "_resized",
        "_room",
        "_seen",
        "_smallest",
    )

    def __init__(self) -> None:
        self._entries: list[Any] = []
        """The dynamic table, the newest last; its entries are numbered on from the static table's last."""
        self._newest = _STATIC_SIZE
        self._oldest = _STATIC_SIZE + 1
        self._numbers: dict[Any, int] = {}
        self._names: dict[bytes, _Name] = {}
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
        """The block of these fields: pairs of bytes, never indexed if they are of another class than tuple.

        Raises ProtocolError (500, `bad_field_to_send`) for a value with NUL, CR or LF in it; nothing is sent then.
        Values that the tables hold are known to have none.
        """
        parts: list[bytes] = []
        if self._resized:
            self._resized = False
            if self._smallest < self._limit:
                parts.append(_integer(self._smallest, 0x1F, 0x20))
            parts.append(_integer(self._limit, 0x1F, 0x20))
        names = self._names
        for field in fields:
            if type(field) is not tuple:
                self._check(field[1])
                _write_literal(parts, _literal_name(field[0], 0x0F, 0x10), field[1])
                continue
            pair: Field = field
            name, value = pair
            known = names.get(name)
            if known is None:
                known = self._learn(name)
            number = known.number
            if not number or known.value != value or _STATIC_SIZE < number < self._oldest:
                number = self._look_up(known, field, value)
                if not number:
                    self._write_new(parts, known, field, name, value)
                    continue
            if number > _STATIC_SIZE:
                number = _STATIC_SIZE + 1 + self._newest - number
            parts.append(_INDEXED[number])
        return b"".join(parts)

    def _learn(self, name: bytes) -> _Name:
        known = _Name(name)
        if len(name) <= _LONGEST_NAME:
            if len(self._names) >= _MAX_NAMES:
                self._names.clear()
            self._names[name] = known
        return known

    def _look_up(self, known: _Name, field: Any, value: bytes) -> int:
        """The number of the field in either table; 0: it is in none."""
        if known.rule == _NEVER or known.rule == _ONCE:
            return 0
        number = self._numbers.get(field)
        if number is None:
            number = _STATIC_FIELDS.get(field)
            if number is None:
                return 0
        known.value = value
        known.number = number
        return number

    def _check(self, value: bytes) -> None:
        if breaks_out(value):
            # The peer will not hear of what this block has entered: both begin with an empty table.
            self._entries.clear()
            self._numbers.clear()
            self._oldest = self._newest + 1
            self._room = self._limit
            self._resized = True
            self._smallest = 0
            raise ProtocolError(500, "bad_field_to_send")

    def _write_new(self, parts: list[bytes], known: _Name, field: Any, name: bytes, value: bytes) -> None:
        self._check(value)
        rule = known.rule
        if rule == _NEVER or (rule == _COOKIE and len(value) < _SHORT_COOKIE):
            _write_literal(parts, _literal_name(name, 0x0F, 0x10), value)
            return
        if rule != _ONCE:
            size = len(name) + len(value) + ENTRY_COST
            if size <= _LARGEST_ENTRY and size <= self._limit:
                if field in self._seen:
                    self._seen.discard(field)
                    self._enter(field, size)
                    _write_literal(parts, _literal_name(name, 0x3F, 0x40), value)
                    return
                if len(self._seen) >= _MAX_SEEN:
                    self._seen.clear()
                self._seen.add(field)
        _write_literal(parts, known.plain, value)

    def _enter(self, field: Any, size: int) -> None:
        self._room -= size
        self._evict()
        self._entries.append(field)
        self._newest += 1
        self._numbers[field] = self._newest

    def _evict(self) -> None:
        while self._room < 0:
            field = self._entries.pop(0)
            self._room += len(field[0]) + len(field[1]) + ENTRY_COST
            self._oldest += 1
            del self._numbers[field]


def _literal_name(name: bytes, prefix: int, pattern: int) -> bytes:
    index = _STATIC_NAMES.get(name)
    if index is not None:
        return _integer(index, prefix, pattern)
    return bytes((pattern,)) + _integer(len(name), 0x7F, 0x00) + name


def _write_literal(parts: list[bytes], name: bytes, value: bytes) -> None:
    length = len(value)
    parts.append(name)
    parts.append(_LENGTHS[length] if length < 256 else _integer(length, 0x7F, 0x00))
    parts.append(value)
