"""The encoder: what is indexed and when, and that any decoder follows it through every change of the table."""

from __future__ import annotations

from random import Random

import hpack
import pytest

from agent.codec.hpack_encoder import Encoder
from agent.codec.hpack_table import NeverIndexed
from agent.codec.message import ProtocolError

Fields = list[tuple[bytes, bytes]]


class Pair:
    """An encoder and another's decoder behind it."""

    def __init__(self) -> None:
        self.encoder = Encoder()
        self.decoder = hpack.Decoder(1 << 20)

    def told(self, *fields: tuple[bytes, bytes]) -> bytes:
        """The block, once it is read as what it should say."""
        block = self.encoder.encode(fields)
        assert [(each[0], each[1]) for each in self.decoder.decode(block, raw=True)] == [tuple(each) for each in fields]
        return block


def test_fields_of_the_static_table_are_an_octet_each() -> None:
    assert Pair().told((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":status", b"200")) == (
        b"\x82\x86\x84\x88"
    )


def test_what_comes_for_the_second_time_is_indexed() -> None:
    pair = Pair()
    field = (b"x-a", b"1")
    assert pair.told(field) == b"\x00\x03x-a\x011"
    assert pair.told(field) == b"\x40\x03x-a\x011"
    assert pair.told(field) == b"\xbe"
    assert pair.told(field, (b":path", b"/a"), field) == b"\xbe\x04\x02/a\xbe"


def test_what_does_not_come_again_costs_the_table_nothing() -> None:
    pair = Pair()
    for at in range(300):
        pair.told((b"x-span", b"%d" % at), (b"x-same", b"1"))
    assert pair.told((b"x-same", b"1")) == b"\xbe"


@pytest.mark.parametrize(
    "field",
    [
        (b"authorization", b"Basic eDp5"),
        (b"proxy-authorization", b"x" * 30),
        (b"cookie", b"x" * 19),
        NeverIndexed(b"x-secret", b"1"),
        NeverIndexed(b":method", b"GET"),
    ],
)
def test_what_is_never_indexed(field: tuple[bytes, bytes]) -> None:
    pair = Pair()
    for _ in range(4):
        (read,) = pair.decoder.decode(pair.encoder.encode([field]), raw=True)
        assert isinstance(read, hpack.NeverIndexedHeaderTuple)
        assert read == field


def test_a_mark_counts_though_a_plain_twin_is_in_the_table() -> None:
    pair = Pair()
    for _ in range(3):
        pair.told((b"x", b"1"))
    assert pair.told(NeverIndexed(b"x", b"1")) == b"\x10\x01x\x011"


@pytest.mark.parametrize("field", [(b"x-request-id", b"1"), (b"x-large", b"x" * 1000)])
def test_what_is_new_each_time_or_large_is_not_indexed(field: tuple[bytes, bytes]) -> None:
    pair = Pair()
    assert pair.told(field) == pair.told(field) == pair.told(field)


def test_long_cookies_and_paths_are_indexed_like_others() -> None:
    pair = Pair()
    fields = [(b"cookie", b"x" * 20), (b":path", b"/bench.App/Say")]
    for _ in range(2):
        pair.told(*fields)
    assert pair.told(*fields) == b"\xbf\xbe"


def test_more_names_than_are_remembered() -> None:
    pair = Pair()
    fields = [(b"x-%d" % at, b"1") for at in range(300)]
    for _ in range(3):
        for field in fields:
            pair.told(field, (b"x" * 65, b"1"))


def test_values_of_one_name_keep_their_places() -> None:
    pair = Pair()
    fields = [(b"x", b"%d" % at) for at in range(4)]
    for _ in range(2):
        for field in fields:
            pair.told(field)
    assert pair.told(*fields) == b"\xc1\xc0\xbf\xbe"
    assert pair.told(fields[2], fields[2], fields[0], fields[2]) == b"\xbf\xbf\xc1\xbf"


def test_a_smaller_table_is_told_before_the_next_block() -> None:
    pair = Pair()
    for _ in range(2):
        pair.told((b"x", b"1"))
    pair.encoder.resize(1 << 20)
    assert pair.told((b"x", b"1")) == b"\xbe", "ours are never larger than 4096 bytes, which is nothing new"
    pair.encoder.resize(100)
    pair.encoder.resize(0)
    pair.encoder.resize(4096)
    assert pair.told((b"x", b"1")) == b"\x20\x3f\xe1\x1f" + b"\x00\x01x\x011"
    assert pair.told((b"x", b"1")) == b"\x40\x01x\x011"
    pair.encoder.resize(50)
    assert pair.told() == b"\x3f\x13"
    assert pair.told() == b""


@pytest.mark.parametrize("seed", range(5))
def test_any_decoder_follows(seed: int) -> None:
    random = Random(seed)
    pair = Pair()
    for _ in range(400):
        if random.random() < 0.05:
            pair.encoder.resize(random.choice((0, 33, 50, 500, 4096, 1 << 31)))
        pair.told(
            *(
                (
                    random.choice((b":path", b"date", b"x-a", b"n" * 70)),
                    b"%d" % random.randrange(30) * random.choice((1, 60)),
                )
                for _ in range(random.randrange(6))
            )
        )
    assert pair.decoder.header_table_size <= 4096


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 256, 16383, 70000])
def test_strings_of_any_length(size: int) -> None:
    Pair().told((b"x", b"v" * size), (b"n" * (size or 1), b"v"))


@pytest.mark.parametrize(
    "bad", [(b"x-b", b"1\r\n"), (b"x-b", b"\0"), NeverIndexed(b"x-b", b"a\nb"), (b":path", b"/\r")]
)
def test_a_value_that_breaks_out_is_not_written_and_what_was_entered_with_it_forgotten(
    bad: tuple[bytes, bytes],
) -> None:
    pair = Pair()
    same, new = (b"x-same", b"1"), (b"x-new", b"2")
    for _ in range(3):
        pair.told(same)
    pair.told(new)
    with pytest.raises(ProtocolError) as caught:
        pair.encoder.encode([new, bad])  # enters `new`, as the peer does not
    assert (caught.value.status, caught.value.reason) == (500, "bad_field_to_send")
    assert pair.told(same, new)[:1] == b"\x20"
    for _ in range(3):
        pair.told(new, same)
    assert pair.told(same, new) == b"\xbf\xbe" or pair.told(same, new) == b"\xbe\xbf"


def test_a_table_that_was_forgotten_keeps_the_size_that_the_peer_allows() -> None:
    pair = Pair()
    pair.encoder.resize(100)
    pair.decoder.max_allowed_table_size = 100
    with pytest.raises(ProtocolError):
        pair.encoder.encode([(b"x", b"\n")])
    for at in range(50):
        pair.told((b"x-%d" % (at % 7), b"1" * 20))
