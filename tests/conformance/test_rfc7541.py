"""The MUSTs of RFC 7541 to which a decoder or encoder can be held from outside, over both engines.

Blocks are written by hand where hpack would not make them. A decoding error is COMPRESSION_ERROR (RFC 9113 4.3).

Not testable at this level:
4.4   that entries are evicted before an insertion: seen only through indices, which are tested.
7.1   probing of the table: each connection has tables of its own; what shares one is the pool's.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hpack import Encoder, NeverIndexedHeaderTuple

from agent.codec.http2 import COMPRESSION_ERROR
from agent.codec.message import RequestHead, ResponseHead
from tests.fake_http2_peer import (
    END_HEADERS,
    END_STREAM,
    ENGINES,
    GET,
    HEADER_TABLE_SIZE,
    HEADERS,
    OK,
    PREFACE,
    RST_STREAM,
    FakeClient,
    FakeServer,
    Fields,
    Frame,
    frame,
    heads,
    request,
    response,
    settings,
    trailers,
)

pytestmark = pytest.mark.parametrize("engine", ENGINES)

START = b"\x82\x86\x84\x41\x01a"  # GET, http, /, :authority a with indexing


def asks(client: FakeClient, block: bytes, stream: int = 1) -> Fields:
    """The fields of the request that the block makes."""
    client.take(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))
    return next(event.head.headers.items for event in heads(client.events) if event.stream_id == stream)


def is_refused(engine: str, block: bytes) -> None:
    client = FakeClient(engine)
    code = client.fails(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    assert code == COMPRESSION_ERROR
    assert heads(client.events) == []


@pytest.mark.parametrize(
    "literal",
    [
        b"\x40\x01x\x01y",
        b"\x00\x01x\x01y",
        b"\x10\x01x\x01y",
        b"\x40\x81\xf3\x81\xf5",
    ],
    ids=["with indexing", "without indexing", "never indexed", "huffman"],
)
def test_every_form_of_a_literal_is_read(engine: str, literal: bytes) -> None:
    """6.2.1, 6.2.2, 6.2.3, 5.2"""
    assert asks(FakeClient(engine), START + literal) == [(b"x", b"y")]


def test_the_order_of_fields_is_kept(engine: str) -> None:
    """2.1, 3.2"""
    block = START + b"\x00\x01b\x011\x00\x01a\x012\x00\x01b\x013"
    assert asks(FakeClient(engine), block) == [(b"b", b"1"), (b"a", b"2"), (b"b", b"3")]


def test_an_indexed_literal_is_in_the_table_and_the_others_are_not(engine: str) -> None:
    """2.3.2, 6.2: index 62 is the newest entry"""
    client = FakeClient(engine)
    asks(client, START + b"\x40\x01x\x01y" + b"\x00\x01n\x01o")
    assert asks(client, b"\x82\x86\x84\xbf\xbe", 3) == [(b"x", b"y")]


def test_index_0_is_an_error(engine: str) -> None:
    """6.1"""
    is_refused(engine, START + b"\x80")


@pytest.mark.parametrize("block", [b"\xbf", b"\xff\x80\x01", b"\x7f\x80\x01\x01v", b"\x0f\xf0\x01\x01v"])
def test_an_index_beyond_the_tables_is_an_error(engine: str, block: bytes) -> None:
    """2.3.3"""
    is_refused(engine, START + block)


def test_an_integer_without_end_is_an_error(engine: str) -> None:
    """5.1"""
    is_refused(engine, START + b"\xff" + b"\xff" * 20 + b"\x01")


def test_an_integer_may_have_needless_octets(engine: str) -> None:
    """5.1: a decoder takes them or refuses them as too long, but reads nothing else into them"""
    client = FakeClient(engine)
    client.take(frame(HEADERS, END_HEADERS | END_STREAM, 1, START + b"\x00\x01x\x7f\x81\x00" + b"v" * 128))
    assert [event.head.headers.items for event in heads(client.events)] == [[(b"x", b"v" * 128)]]


@pytest.mark.parametrize("block", [b"\x00\x05x", b"\x00\x01x\x05y", b"\x00", b"\x00\x01x", b"\x41"])
def test_a_string_cut_short_is_an_error(engine: str, block: bytes) -> None:
    """5.2"""
    is_refused(engine, START + block)


@pytest.mark.parametrize(
    "text",
    [b"\x84\xff\xff\xff\xff", b"\x81\xfe", b"\x82\x1f\xff"],
    ids=["the end of string symbol", "padding of other bits", "padding of eight bits"],
)
def test_bad_huffman_codes_are_errors(engine: str, text: bytes) -> None:
    """5.2"""
    is_refused(engine, START + b"\x00\x01x" + text)


def test_a_table_size_update_stands_at_the_beginning(engine: str) -> None:
    """4.2"""
    is_refused(engine, START + b"\x20")


def test_a_table_size_beyond_the_limit_is_an_error(engine: str) -> None:
    """6.3"""
    is_refused(engine, b"\x3f\xe2\x1f" + START)  # 4097


def test_a_table_may_be_emptied_and_grown_again(engine: str) -> None:
    """4.2, 4.3, 6.3"""
    client = FakeClient(engine)
    asks(client, START + b"\x40\x01x\x01y")
    assert asks(client, b"\x20\x3f\xe1\x1f" + START + b"\x40\x01z\x01w", 3) == [(b"z", b"w")]
    assert asks(client, b"\x82\x86\x84\xbf\xbe", 5) == [(b"z", b"w")]
    assert client.fails(frame(HEADERS, END_HEADERS | END_STREAM, 7, b"\x82\x86\x84\xbf\xc0")) in (9, 1)


def test_an_entry_larger_than_the_table_empties_it(engine: str) -> None:
    """4.4: and is no error"""
    client = FakeClient(engine)
    asks(client, b"\x3f\x21" + START + b"\x40\x01x\x7f\x81\x01" + b"v" * 256)  # a table of 64
    assert client.alive()
    client.fails(frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\x82\x86\x84\xbe"))


def test_the_table_lives_as_long_as_the_connection(engine: str) -> None:
    """2.2: a stream that was reset counts too"""
    client = FakeClient(engine)
    client.take(frame(HEADERS, END_HEADERS | END_STREAM, 1, START + b"\x40\x01X\x01y"))
    assert any(each.kind == RST_STREAM for each in client.sent())
    client.take(frame(HEADERS, END_HEADERS | END_STREAM, 3, START + b"\x40\x01x\x01y"))
    assert asks(client, b"\x82\x86\x84\xbf\xbe", 5) == [(b"x", b"y")]


@pytest.mark.parametrize("huffman", [True, False])
def test_what_another_encoder_makes_is_read(engine: str, huffman: bool) -> None:
    """2.1 to 6.3, over many blocks with evictions"""
    client = FakeClient(engine)
    encoder = Encoder()
    for number in range(1, 201, 2):
        fields = [(b"x-%d" % (number % 50), b"v%d" % number * 20), (b"x-same", b"1")]
        block = bytes(encoder.encode([*GET, *fields], huffman=huffman))
        assert asks(client, block, number) == fields
        client.codec.reset(number, 8)
        client.now += 1.0


@pytest.mark.parametrize("size", [0, 100, 4096, 1 << 20])
def test_what_we_encode_keeps_to_the_peer_s_table(engine: str, size: int) -> None:
    """4.2: a reduction is told before the next block"""
    client = FakeClient(engine, greet=False)
    client.take(PREFACE + settings((HEADER_TABLE_SIZE, size)))
    client.sent()
    client.decoder.max_allowed_table_size = size
    for number in range(1, 41, 2):
        client.take(client.headers(number, GET))
        client.codec.send_head(number, response(200, (b"x-a", b"1"), (b"x-b", b"%d" % (number % 5) * 30)), end=True)
        answer = next(each for each in client.sent() if each.kind == HEADERS)
        assert answer.fields == [(b":status", b"200"), (b"x-a", b"1"), (b"x-b", b"%d" % (number % 5) * 30)]
    assert client.decoder.header_table_size <= size


SECRET = NeverIndexedHeaderTuple(b"x-secret", b"a value of some length, which could be guessed byte by byte")


def never_indexed(sent: Iterable[Frame]) -> list[bytes]:
    fields = [field for each in sent for field in each.fields]
    return [field[0] for field in fields if isinstance(field, NeverIndexedHeaderTuple)]


@pytest.mark.parametrize("change", [True, False], ids=["others change", "as it is"])
def test_a_request_s_field_that_came_never_indexed_goes_on_so(engine: str, change: bool) -> None:
    """6.2.3, 7.1.3: intermediaries keep the representation"""
    client, server = FakeClient(engine), FakeServer(engine)
    (event,) = heads(client.take(client.headers(1, [*GET, SECRET, (b"x-plain", b"1"), (b"x-gone", b"1")])))
    assert isinstance(event.head, RequestHead)
    if change:
        event.head.headers.set(b"x-plain", b"2")
        event.head.headers.remove(b"x-gone")
        event.head.headers.add(b"X-Upper", b"1")
    server.codec.open_stream(event.head, end=True)
    sent = server.sent()
    assert SECRET in sent[0].fields
    assert never_indexed(sent) == [b"x-secret"]


def test_a_response_s_fields_that_came_never_indexed_go_on_so(engine: str) -> None:
    """6.2.3, 7.1.3"""
    client, server = FakeClient(engine), FakeServer(engine)
    client.take(client.headers(1, GET))
    server.requested()
    server.take(server.headers(1, [*OK, SECRET, (b"x-plain", b"1")], end=False), server.headers(1, [SECRET]))
    (head,), (end,) = heads(server.events), trailers(server.events)
    assert isinstance(head.head, ResponseHead)
    client.codec.send_head(1, head.head, end=False)
    client.codec.send_end(1, end.trailers)
    assert never_indexed(client.sent()) == [b"x-secret", b"x-secret"]


@pytest.mark.parametrize("at", [0, 1])
def test_a_cookie_is_never_indexed_if_one_of_its_crumbs_was_not_to_be(engine: str, at: int) -> None:
    """7.1.3; RFC 9113 8.2.3"""
    client, server = FakeClient(engine), FakeServer(engine)
    crumbs: Fields = [(b"cookie", b"a=a value of some length"), (b"cookie", b"b=another value of some length")]
    crumbs[at] = NeverIndexedHeaderTuple(*crumbs[at])
    (event,) = heads(client.take(client.headers(1, [*GET, *crumbs])))
    assert isinstance(event.head, RequestHead)
    server.codec.open_stream(event.head, end=True)
    sent = server.sent()
    assert sent[0].fields[-1] == (b"cookie", b"a=a value of some length; b=another value of some length")
    assert never_indexed(sent) == [b"cookie"]


def test_what_attackers_would_guess_is_never_indexed_wherever_it_came_from(engine: str) -> None:
    """7.1.3: as common implementations do, credentials and short cookies"""
    server = FakeServer(engine)
    server.codec.open_stream(
        request(b"GET", (b"Authorization", b"Basic eDp5"), (b"Cookie", b"a=b"), (b"X-A", b"1")), end=True
    )
    assert never_indexed(server.sent()) == [b"authorization", b"cookie"]
