"""Reads header blocks (RFC 7541 3, 5, 6): one decoder for each direction of a connection, given every block in order.

What the fields mean is judged by h2_heads.py. Here a block is refused that is no block, or that grows beyond a bound.
"""

from __future__ import annotations

from typing import Any, Final

from agent.codec import hpack_huffman
from agent.codec.hpack_table import (
    ENTRY_COST,
    STATIC,
    TABLE_SIZE,
    CompressionError,
    Field,
    HeadTooLarge,
    NeverIndexed,
)

Fields = tuple[Field, ...]

_STATIC_SIZE: Final = 61
_MAX_SHIFT: Final = 28  # five octets after the first: more than any number here may need
# Blocks, and Huffman-coded strings, that came before; dear to read and likely to come again.
_MAX_BLOCKS: Final = 16
_LONGEST_BLOCK: Final = 512
_LARGEST_LIST: Final = 2048
_MAX_STRINGS: Final = 64
_LONGEST_STRING: Final = 128


class Decoder:
    """`max_size`: of the list of fields that a block makes, 32 bytes added for each field."""

    __slots__ = ("_blocks", "_limit", "_max_size", "_room", "_strings", "_table")

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._table: list[Field] = []
        """Entries, the newest last."""
        self._limit = TABLE_SIZE
        self._room = TABLE_SIZE
        self._blocks: dict[bytes, Fields] = {}
        """Blocks by what they mean as long as the table stays as it is; they have not changed it."""
        self._strings: dict[bytes, bytes] = {}

    def decode(self, block: bytes) -> Fields:
        """The fields of a block; those never to be indexed are NeverIndexed.

        Raises CompressionError, and HeadTooLarge as soon as the fields are larger than allowed; the table is out of
        step then.
        """
        known = self._blocks.get(block)
        if known is not None:
            return known
        table = self._table
        fields: list[Any] = []
        left = self._max_size
        stable = True
        at, end = 0, len(block)
        while at < end:
            byte = block[at]
            at += 1
            if byte >= 0x80:
                index = byte & 0x7F
                if index == 0x7F:
                    index, at = _integer(block, at, index)
                if index > _STATIC_SIZE:
                    index -= _STATIC_SIZE
                    if index > len(table):
                        raise CompressionError
                    field = table[-index]
                elif index:
                    field = STATIC[index]
                else:
                    raise CompressionError
                fields.append(field)
                name, value = field
                left -= len(name) + len(value) + ENTRY_COST
            elif byte & 0xE0 == 0x20:
                if fields:
                    raise CompressionError
                size = byte & 0x1F
                if size == 0x1F:
                    size, at = _integer(block, at, size)
                self._resize(size)
                stable = False
                continue
            else:
                prefix = 0x3F if byte & 0x40 else 0x0F
                index = byte & prefix
                if index == prefix:
                    index, at = _integer(block, at, prefix)
                if index:
                    name = self._name(index)
                else:
                    name, at = self._string(block, at)
                value, at = self._string(block, at)
                size = len(name) + len(value) + ENTRY_COST
                left -= size
                if byte & 0x40:
                    field = (name, value)
                    self._insert(field, size)
                    stable = False
                    fields.append(field)
                elif byte & 0x10:
                    fields.append(NeverIndexed(name, value))
                else:
                    fields.append((name, value))
            if left < 0:
                raise HeadTooLarge
        read: Fields = tuple(fields)
        if not stable:
            self._blocks.clear()
        elif end <= _LONGEST_BLOCK and self._max_size - left <= _LARGEST_LIST:
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks.clear()
            self._blocks[block] = read
        return read

    def _name(self, index: int) -> bytes:
        if index <= _STATIC_SIZE:
            return STATIC[index][0]
        index -= _STATIC_SIZE
        if index > len(self._table):
            raise CompressionError
        return self._table[-index][0]

    def _string(self, block: bytes, at: int) -> tuple[bytes, int]:
        if at >= len(block):
            raise CompressionError
        byte = block[at]
        length = byte & 0x7F
        at += 1
        if length == 0x7F:
            length, at = _integer(block, at, length)
        end = at + length
        if end > len(block):
            raise CompressionError
        text = block[at:end]
        if byte & 0x80:
            return self._plain(text), end
        return text, end

    def _plain(self, text: bytes) -> bytes:
        plain = self._strings.get(text)
        if plain is None:
            plain = hpack_huffman.decode(text)
            if len(text) <= _LONGEST_STRING:
                if len(self._strings) >= _MAX_STRINGS:
                    self._strings.clear()
                self._strings[text] = plain
        return plain

    def _insert(self, field: Field, size: int) -> None:
        self._room -= size
        if self._room < 0:
            self._evict()
        if self._room < 0:  # larger than the table, which is empty now (4.4)
            self._room = self._limit
        else:
            self._table.append(field)

    def _evict(self) -> None:
        table = self._table
        while table and self._room < 0:
            name, value = table.pop(0)
            self._room += len(name) + len(value) + ENTRY_COST

    def _resize(self, limit: int) -> None:
        if limit > TABLE_SIZE:
            raise CompressionError
        self._room += limit - self._limit
        self._limit = limit
        self._evict()


def _integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    """A number that did not fit into its prefix (5.1), and where it ends."""
    value = prefix
    shift = 0
    while at < len(block):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > _MAX_SHIFT:
            break
    raise CompressionError
