"""Huffman-coded strings: the RFC's examples, every symbol, and what is no such string."""

from __future__ import annotations

from random import Random

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from agent.codec.hpack_huffman import decode
from agent.codec.hpack_table import CompressionError

encode = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("f1e3c2e5f23a6ba0ab90f4ff", b"www.example.com"),
        ("a8eb10649cbf", b"no-cache"),
        ("9d29ad171863c78f0b97c8e9ae82ae43d3", b"https://www.example.com"),
        ("", b""),
    ],
)
def test_the_examples_of_the_rfc(code: str, text: bytes) -> None:
    assert decode(bytes.fromhex(code)) == text


def test_every_symbol_and_every_pair_of_neighbours() -> None:
    everything = bytes(range(256))
    for text in (everything, everything[::-1], bytes(byte for at in range(256) for byte in (at, 255 - at))):
        assert decode(encode(text)) == text
    for byte in range(256):
        assert decode(encode(bytes((byte,)))) == bytes((byte,))


def test_random_strings() -> None:
    random = Random(1)
    for _ in range(500):
        text = random.randbytes(random.randrange(40))
        assert decode(encode(text)) == text


@pytest.mark.parametrize(
    "code",
    [b"\xff", b"\x1f\xff", b"\xff\xff\xff\xff", b"\xff\xff\xff\xfc", b"\x07\xfe", b"\x00", b"\xf8\xff\xff\xff\xff"],
    ids=["eight bits", "after a symbol", "end of string", "its last bits", "zero in it", "zeros", "end after a symbol"],
)
def test_padding_is_less_than_an_octet_of_ones(code: bytes) -> None:
    with pytest.raises(CompressionError):
        decode(code)
