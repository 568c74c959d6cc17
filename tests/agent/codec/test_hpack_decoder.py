"""The decoder: what tests/conformance/test_rfc7541.py cannot see from outside, above all that its memory is bounded."""

from __future__ import annotations

from random import Random

import pytest
from hpack import Encoder, NeverIndexedHeaderTuple

from agent.codec.hpack_decoder import Decoder
from agent.codec.hpack_table import CompressionError, HeadTooLarge, NeverIndexed


def decoder(max_size: int = 1 << 16) -> Decoder:
    return Decoder(max_size)


def test_the_examples_of_the_rfc() -> None:
    """C.4: requests with Huffman coding"""
    read = decoder()
    first = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
    assert list(read.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff"))) == first
    assert list(read.decode(bytes.fromhex("828684be5886a8eb10649cbf"))) == [*first, (b"cache-control", b"no-cache")]
    assert list(read.decode(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"))) == [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ]


def test_marks_are_kept_of_what_is_never_indexed_and_of_nothing_else() -> None:
    fields = decoder().decode(b"\x10\x01a\x01b" + b"\x00\x01a\x01b" + b"\x40\x01a\x01b" + b"\xbe" + b"\x1f\x2f\x01c")
    assert [type(field) is NeverIndexed for field in fields] == [True, False, False, False, True]
    assert fields == ((b"a", b"b"),) * 4 + ((b"a", b"c"),)


def test_a_block_that_came_before_is_read_by_what_the_table_holds_now() -> None:
    read = decoder()
    enter_a, enter_b, newest = b"\x40\x01a\x011", b"\x40\x01b\x012", b"\xbe"
    read.decode(enter_a)
    assert read.decode(newest) is read.decode(newest) == ((b"a", b"1"),)
    read.decode(enter_b)
    assert read.decode(newest) == ((b"b", b"2"),)
    read.decode(b"\x20")
    with pytest.raises(CompressionError):
        read.decode(newest)


def test_a_block_that_changes_the_table_changes_it_each_time() -> None:
    read = decoder()
    for _ in range(3):
        read.decode(b"\x40\x01a\x011")
    assert read.decode(b"\xbe\xbf\xc0") == ((b"a", b"1"),) * 3
    with pytest.raises(CompressionError):
        read.decode(b"\xc1")


@pytest.mark.parametrize("size", [100, 99])
def test_a_list_is_as_large_as_it_may_be_and_no_larger(size: int) -> None:
    block = b"\x00\x01a\x01b" * 2 + b"\x82"  # 34 + 34 + 42 bytes
    assert len(decoder(110).decode(block)) == 3
    with pytest.raises(HeadTooLarge):
        decoder(109).decode(block)


def test_a_list_that_grows_is_not_read_to_its_end() -> None:
    read = decoder(10_000)
    bomb = b"\x40\x01a\x7f\x81\x1e" + b"x" * 3968 + b"\xbe" * 10_000 + b"\x80"  # an error, at which nobody looks
    with pytest.raises(HeadTooLarge):
        read.decode(bomb)


@pytest.mark.parametrize(
    "block",
    [
        b"\xff",
        b"\xff\x80",
        b"\xff\xff\xff\xff\xff\xff\x00",
        b"\x7f\xff\xff\xff\xff\x7f\x00",
        b"\x00\x7f\xff\xff\xff\xff\x0f",
    ],
)
def test_numbers_without_end_or_measure(block: bytes) -> None:
    with pytest.raises(CompressionError):
        decoder().decode(block)


def test_any_block_is_read_or_refused() -> None:
    random = Random(3)
    read = decoder(5000)
    for _ in range(20_000):
        block = bytes(random.choice((random.randrange(256), 0x82, 0xBE, 0x40, 0x01, 0x7F)) for _ in range(12))
        try:
            fields = read.decode(block[: random.randrange(13)])
        except (CompressionError, HeadTooLarge):
            read = decoder(5000)
            continue
        assert all(type(name) is type(value) is bytes for name, value in fields)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_another_encoder_makes(seed: int) -> None:
    random = Random(seed)
    writer, read = Encoder(), decoder(1 << 20)
    for _ in range(200):
        if random.random() < 0.05:
            writer.header_table_size = random.choice((0, 50, 200, 4096))
        fields = [
            (random.choice((b":path", b"x-a", b"n" * 200)), b"v" * random.choice((0, 1, 30, 126, 127, 128, 5000)))
            for _ in range(random.randrange(6))
        ]
        marked = [NeverIndexedHeaderTuple(*field) if random.random() < 0.2 else field for field in fields]
        assert list(read.decode(bytes(writer.encode(marked, huffman=random.random() < 0.5)))) == fields
