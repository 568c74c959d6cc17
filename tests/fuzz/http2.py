"""Hostile HTTP/2 streams for both engines, in both roles. Invariants, checked on every stream:

1. Nothing is raised. A connection is `failed`, and then its last frame is a GOAWAY, or it lives and what it sends is
   whole frames with header blocks that decode.
2. However the stream is cut into pieces, an engine says the same; where the connection failed, the same to a point.
3. Both engines give out the same heads, and the same bodies and trailers of streams that ended well, as long as neither
   failed. Where one failed, the other has given out all that it had, and the same: a message is never well-formed to
   one engine and malformed to the other.
4. What is given out is fit for HTTP/1: field names are lower-case tokens, no value holds CR, LF or NUL, no field of the
   connection is left, a request has one host, a target of visible ASCII, and at most one cookie field.
5. A body is never longer than its content-length, and as long when it ends well.

The streams are conversations from the lists below (the seeds), with frames and bytes changed.

`python -m tests.fuzz.http2 --seconds 60 [--seed N]` runs until the time is over; exit 1 and the stream if one broke.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from random import Random

from hpack import Encoder

from agent.codec.gate import is_host, is_target
from agent.codec.http2 import (
    DataReceived,
    Event,
    GoAwayReceived,
    HeadReceived,
    Http2Limits,
    StreamReset,
    TrailersReceived,
)
from agent.codec.message import CHUNKED, RequestHead, ResponseHead
from tests.attributes import attributes
from tests.fake_http2_peer import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENGINES,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    FakeClient,
    FakePeer,
    FakeServer,
    Fields,
    frame,
    request,
    response,
    settings,
)

METHODS = [b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT"]
PSEUDO = [
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":method", b"CONNECT"),
    (b":method", b"OPTIONS"),
    (b":method", b"G T"),
    (b":method", b""),
    (b":scheme", b"http"),
    (b":scheme", b"HTTPS"),
    (b":scheme", b"ftp"),
    (b":scheme", b""),
    (b":authority", b"a.example"),
    (b":authority", b"b.example:80"),
    (b":authority", b"[::1]"),
    (b":authority", b"u@a.example"),
    (b":authority", b""),
    (b":authority", b"a.example:443"),
    (b":path", b"/"),
    (b":path", b"/a?b=c"),
    (b":path", b"*"),
    (b":path", b""),
    (b":path", b"a"),
    (b":path", b"/#f"),
    (b":path", b"/a b"),
    (b":path", b"http://b.example/"),
    (b":protocol", b"websocket"),
    (b":protocol", b""),
    (b":status", b"200"),
    (b":foo", b"1"),
    (b":", b"1"),
]
STATUSES = [b"200", b"204", b"304", b"404", b"100", b"103", b"101", b"099", b"600", b"20", b"2x0", b"", b"0200"]
FIELDS = [
    (b"x-a", b"1"),
    (b"x-a", b""),
    (b"x_b", b"2"),
    (b"X-Upper", b"1"),
    (b"", b"1"),
    (b"x y", b"1"),
    (b"x:y", b"1"),
    (b"x\0", b"1"),
    (b"x\r\nb", b"1"),
    (b"x\xff", b"1"),
    (b"x-v", b" a"),
    (b"x-v", b"a\t"),
    (b"x-v", b"a\tb"),
    (b"x-v", b"a\r\nb: c"),
    (b"x-v", b"a\nb"),
    (b"x-v", b"a\0b"),
    (b"x-v", b"\xff\x80"),
    (b"x-v", b"\x7f"),
    (b"host", b"a.example"),
    (b"host", b"A.EXAMPLE"),
    (b"host", b"b.example"),
    (b"host", b""),
    (b"cookie", b"a=b"),
    (b"cookie", b"c=d"),
    (b"content-length", b"5"),
    (b"content-length", b"0"),
    (b"content-length", b"05"),
    (b"content-length", b"+5"),
    (b"content-length", b"5, 5"),
    (b"content-length", b""),
    (b"content-length", b"99999999999999999999"),
    (b"connection", b"close"),
    (b"keep-alive", b"1"),
    (b"proxy-connection", b"x"),
    (b"transfer-encoding", b"chunked"),
    (b"upgrade", b"h2c"),
    (b"te", b"trailers"),
    (b"te", b"gzip"),
    (b"expect", b"100-continue"),
    (b"expect", b"x"),
    (b"priority", b"u=1, i"),
    (b"x-long", b"l" * 500),
    (b"|~!#$%&'*+-.^`", b"t"),
]
BODIES = [b"hello", b"", b"hel", b"lo", b"x" * 300, b"hellox"]
SETTING_VALUES = [0, 1, 2, 100, 4096, 16383, 16384, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
NUMBERS = [0, 1, 1, 1, 3, 3, 5, 7, 2, 4, 9, 11, 0x7FFFFFFF]
TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
NO_GOAWAY = 1 << 31
LEFT_OUT = ("headers", "size")  # the library drops a length that means nothing before it is counted
CONNECTION = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")


class Told:
    """What an engine has said of one connection, by stream."""

    def __init__(self, *, server: bool) -> None:
        self._server = server
        self.heads: dict[int, list[tuple[object, ...]]] = {}
        self.lengths: dict[int, int] = {}
        self.bodies: dict[int, bytes] = {}
        self.trailers: dict[int, tuple[object, ...]] = {}
        self.ended: set[int] = set()
        self.reset: set[int] = set()
        self.last = NO_GOAWAY
        self.failed = ""
        self.counts: dict[str, int] = {}

    def take(self, event: Event) -> None:
        if isinstance(event, HeadReceived):
            check_head(event.head)
            head = event.head
            if head.content_length is not None:
                self.lengths[event.stream_id] = head.content_length
            self.heads.setdefault(event.stream_id, []).append(
                (
                    *attributes(head, but=LEFT_OUT),
                    tuple(head.headers.items),
                    tuple(sorted(head.headers.index.items())),
                    event.end,
                )
            )
        elif isinstance(event, DataReceived):
            assert event.stream_id in self.heads, "a body without a head"
            assert event.stream_id not in self.ended, "a body after its end"
            assert event.credit >= len(event.data)
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
        elif isinstance(event, TrailersReceived):
            check_fields(event.trailers.items)
            assert event.stream_id in self.heads, "trailers without a head"
            assert event.stream_id not in self.ended, "trailers after the end"
            self.trailers[event.stream_id] = tuple(event.trailers.items)
        elif isinstance(event, StreamReset):
            self.reset.add(event.stream_id)
        elif isinstance(event, GoAwayReceived):
            # a client's speaks of pushes: what it asks for afterwards, a server with nothing to do need not read
            self.last = 0 if self._server else min(self.last, event.last_stream_id)
        if isinstance(event, TrailersReceived) or getattr(event, "end", False):
            number = event.stream_id  # type: ignore[union-attr]
            self.ended.add(number)


def check_fields(items: Fields) -> None:
    """Invariant 4, of fields."""
    for name, value in items:
        assert TOKEN.fullmatch(name), (name, "is no lower-case token")
        assert not re.search(rb"[\r\n\0]", value), (name, value)
        assert name not in CONNECTION, (name, "is the connection's")
        assert value == value.strip(b" \t"), (name, value)


def check_head(head: RequestHead | ResponseHead) -> None:
    """Invariant 4."""
    items = head.headers.items
    check_fields(items)
    assert sum(name == b"cookie" for name, _ in items) <= 1
    assert set(head.headers.index) == {name for name, _ in items}
    lengths = [value for name, value in items if name == b"content-length"]
    assert len(lengths) <= 1
    assert all(value.isdigit() for value in lengths)
    if isinstance(head, ResponseHead):
        assert 100 <= head.status <= 599
        assert head.status != 101
        return
    assert b"host" not in head.headers
    assert is_host(head.authority)
    assert is_target(head.path)
    assert head.scheme in (b"http", b"https")
    assert TOKEN.fullmatch(head.method.lower())


def check_lengths(told: Told) -> None:
    """Invariant 5."""
    for number, length in told.lengths.items():
        size = len(told.bodies.get(number, b""))
        if length != CHUNKED:
            assert size <= length, (number, size, length)
            if number in told.ended and number not in told.reset:
                assert size == length, (number, size, length)


# --- streams


def field_list(random: Random, *, server: bool) -> Fields:
    """A field list, usually not far from a well-formed one."""
    fields: Fields
    if server:
        fields = [(b":status", b"200" if random.random() < 0.7 else random.choice(STATUSES))]
    else:
        fields = [
            (b":method", random.choice((b"GET", b"POST"))),
            (b":scheme", b"http"),
            (b":authority", b"a.example"),
            (b":path", b"/"),
        ]
        if random.random() < 0.1:
            fields = [(b":method", b"CONNECT"), (b":authority", b"a.example:443")]
            if random.random() < 0.5:
                fields += [(b":protocol", b"websocket"), (b":scheme", b"http"), (b":path", b"/")]
    for _ in range(random.choice((0, 0, 0, 1, 1, 2))):
        place = random.randrange(len(fields) + 1)
        fields[place : place + random.choice((0, 1))] = [random.choice(PSEUDO)] if random.random() < 0.8 else []
    fields += [random.choice(FIELDS) for _ in range(random.choice((0, 0, 1, 1, 2, 4)))]
    return fields


def head_frames(random: Random, encoder: Encoder, number: int, fields: Fields, *, end: bool) -> list[bytes]:
    block = bytes(encoder.encode(fields, huffman=random.random() < 0.5))
    pieces = [block]
    if random.random() < 0.2:
        place = random.randrange(len(block) + 1)
        pieces = [block[:place], block[place:]]
    flags = END_STREAM if end else 0
    first = pieces[0]
    if random.random() < 0.1:
        flags |= PRIORITIZED
        first = random.choice((bytes(5), (number or 1).to_bytes(4, "big") + b"\x10")) + first
    if random.random() < 0.1:
        flags |= PADDED
        first = b"\x03" + first + bytes(3)
    frames = [frame(HEADERS, flags | (END_HEADERS if len(pieces) == 1 else 0), number, first)]
    frames += [frame(CONTINUATION, END_HEADERS, number, piece) for piece in pieces[1:]]
    return frames


def odd_frame(random: Random) -> bytes:
    """A frame that may or may not be allowed where it comes."""
    number = random.choice(NUMBERS)
    word = random.choice(SETTING_VALUES)
    return random.choice(
        (
            frame(PING, random.choice((0, 1)), 0, bytes(random.choice((8, 8, 8, 7)))),
            frame(WINDOW_UPDATE, 0, number, word.to_bytes(4, "big")),
            frame(RST_STREAM, 0, number, random.randrange(15).to_bytes(4, "big")),
            frame(PRIORITY, 0, number, random.choice(NUMBERS).to_bytes(4, "big") + b"\x01"),
            settings((random.choice((1, 2, 3, 4, 5, 6, 8, 9, 99)), word)),
            settings(ack=True),
            frame(GOAWAY, 0, 0, number.to_bytes(4, "big") + random.randrange(15).to_bytes(4, "big") + b"why"),
            frame(DATA, random.choice((0, 1)), number, random.choice(BODIES)),
            frame(DATA, PADDED, number, random.choice((b"", b"\x00", b"\x03abc", b"\x02hi\0\0", b"\xffx"))),
            frame(PUSH_PROMISE, END_HEADERS, number, b"\0\0\0\x02\x82\x84\x86\x41\x01a"),
            frame(CONTINUATION, random.choice((0, END_HEADERS)), number, b"\x82"),
            frame(random.choice((10, 12, 16, 0xAB)), random.randrange(256), number, b"unknown"),
            frame(SETTINGS, 0, number, random.choice((b"", bytes(5), bytes(6)))),
        )
    )


def conversation(random: Random, *, server: bool) -> list[bytes]:
    """The frames of one side; `server`: of responses."""
    encoder = Encoder()
    frames = [
        settings() if random.random() < 0.8 else settings((random.choice((1, 3, 4, 5)), random.choice(SETTING_VALUES)))
    ]
    if random.random() < 0.7:
        frames.append(settings(ack=True))
    for number in range(1, random.choice((3, 3, 5, 7)), 2):
        fields = field_list(random, server=server)
        if server and random.random() < 0.2:
            frames += head_frames(random, encoder, number, [(b":status", b"103"), (b"link", b"x")], end=False)
        bodies = [random.choice(BODIES) for _ in range(random.choice((0, 0, 1, 1, 2)))]
        if bodies and random.random() < 0.4:
            fields.append((b"content-length", b"%d" % sum(map(len, bodies))))
        trailers = random.random() < 0.2
        frames += head_frames(random, encoder, number, fields, end=not bodies and not trailers)
        for at, piece in enumerate(bodies):
            flags = END_STREAM if at == len(bodies) - 1 and not trailers else 0
            if random.random() < 0.2:
                frames.append(frame(DATA, flags | PADDED, number, b"\x02" + piece + bytes(2)))
            else:
                frames.append(frame(DATA, flags, number, piece))
        if trailers:
            late = [random.choice(FIELDS) for _ in range(random.choice((1, 1, 2)))]
            frames += head_frames(random, encoder, number, late, end=random.random() < 0.9)
        if random.random() < 0.1:
            frames.append(frame(RST_STREAM, 0, number, b"\0\0\0\x08"))
    return frames


def hostile_stream(random: Random, *, server: bool) -> bytes:
    """A conversation, with some of its frames and bytes changed."""
    frames = conversation(random, server=server)
    for _ in range(random.choice((0, 0, 0, 1, 1, 2))):
        place = random.randrange(len(frames))
        change = random.randrange(6)
        if change == 0:
            frames.insert(place + 1, odd_frame(random))
        elif change == 1:
            del frames[place]
        elif change == 2:
            frames.insert(random.randrange(len(frames) + 1), frames[place])
        elif change == 3:
            other = random.randrange(len(frames))
            frames[place], frames[other] = frames[other], frames[place]
        elif change == 4:
            frames[place] = frames[place][:4] + bytes((random.randrange(256),)) + frames[place][5:]
        else:
            number = random.choice(NUMBERS).to_bytes(4, "big")
            frames[place] = frames[place][:5] + number + frames[place][9:]
        if not frames:
            break
    stream = b"".join(frames)
    for _ in range(random.choice((0, 0, 0, 0, 1, 3))):
        place = random.randrange(len(stream) + 1)
        stream = stream[:place] + bytes((random.randrange(256),)) + stream[place + random.choice((0, 1, 1)) :]
    return (b"" if server else PREFACE) + stream


def hostile_limits(random: Random) -> Http2Limits:
    return Http2Limits(
        random.choice((300, 61440)), random.choice((4, 100)), random.choice(("allow", "reject", "drop")), 100
    )


def cut(random: Random, data: bytes) -> list[bytes]:
    places = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((1, 2, 5, 20))))
    return [piece for low, high in zip([0, *places], [*places, len(data)], strict=True) if (piece := data[low:high])]


# --- checks


def listen(peer: FakePeer, pieces: list[bytes]) -> Told:
    """Feed it; what it says, by invariants 1, 4 and 5."""
    told = Told(server=peer.server)
    peer.decoder.max_allowed_table_size = 1 << 32
    for piece in pieces:
        for event in peer.take(piece):
            told.take(event)
        if len(pieces) > 1:
            peer.sent()
    told.failed = peer.codec.failed
    told.counts = peer.codec.counts
    if not told.failed and peer.server:
        for number in told.heads:
            peer.codec.send_head(number, response(200, (b"x", b"y")), end=False)
            peer.codec.send_data(number, b"body", end=True)
    peer.sent()
    if peer.codec.failed:
        assert peer.frames[-1].kind == GOAWAY, peer.frames[-1]
        assert peer.take(frame(PING, 0, 0, bytes(8))) == []
    check_lengths(told)
    return told


def compare(one: Told, other: Told) -> None:
    """Invariant 3: what `one` has given out, `other` has, unless it failed."""
    for number, heads in one.heads.items():
        if number > min(one.last, other.last):
            continue  # a GOAWAY of the peer's has ended it, sooner or later
        theirs = other.heads.get(number)
        if theirs is None or len(theirs) < len(heads):
            gone = other.failed or number in other.reset
            assert gone or (number in one.reset), (number, heads, theirs, "given out by one engine only")
            heads = heads[: len(theirs or [])]
        assert heads == (theirs or [])[: len(heads)], (number, heads, theirs)
        mine, body = one.bodies.get(number, b""), other.bodies.get(number, b"")
        assert mine.startswith(body) or body.startswith(mine), (number, mine, body)
        if number in one.ended and number not in one.reset and number not in other.reset and not other.failed:
            assert number in other.ended, (number, "ended for one engine only")
            assert mine == body, (number, mine, body)
            assert one.trailers.get(number) == other.trailers.get(number), number


def _below(heads: dict[int, list[tuple[object, ...]]], last: int) -> dict[int, list[tuple[object, ...]]]:
    return {number: told for number, told in heads.items() if number <= last}


def _refused(told: Told) -> bool:
    """Whether a stream was refused before the connection was, if it was."""
    return any(reason != told.failed for reason in told.counts)


def check_pieces(whole: Told, pieces: Told) -> None:
    """Invariant 2."""
    # a late frame for a stream whose reset is queued but not written may be one too many, or none; and after the
    # peer's GOAWAY a connection without streams is over, and what follows is not read
    if whole.last == pieces.last == NO_GOAWAY and not _refused(whole) and not _refused(pieces):
        assert bool(whole.failed) == bool(pieces.failed), (whole.failed, pieces.failed)
    compare(whole, pieces)
    compare(pieces, whole)
    if not whole.failed and not pieces.failed:
        gone = min(whole.last, pieces.last)
        assert _below(whole.heads, gone) == _below(pieces.heads, gone)
        unlike = whole.reset ^ pieces.reset  # a GOAWAY may end those above it before they are refused
        assert all(number > gone for number in unlike), (whole.reset, pieces.reset, whole.counts, pieces.counts)
        for number in _below(whole.heads, gone).keys() - whole.reset - pieces.reset:
            assert whole.bodies.get(number) == pieces.bodies.get(number)
            assert whole.trailers.get(number) == pieces.trailers.get(number)


def _check(make: dict[str, list[FakePeer]], stream: bytes, random: Random) -> None:
    told: list[Told] = []
    for engine, peers in make.items():
        try:
            cuts = [[stream], cut(random, stream), [bytes((byte,)) for byte in stream]]
            whole, *others = [listen(peer, pieces) for peer, pieces in zip(peers, cuts, strict=True)]
            for other in others:
                check_pieces(whole, other)
        except Exception as broken:
            raise AssertionError(engine, stream, repr(broken)) from broken
        told += [whole, *others]
    try:
        for one in told:
            for other in told:
                compare(one, other)
    except AssertionError as broken:
        raise AssertionError(stream, [(each.failed, each.counts) for each in told[::3]], broken.args) from broken


def check_requests(random: Random) -> bytes:
    """All invariants on one stream of requests; returns it."""
    stream = hostile_stream(random, server=False)
    limits = hostile_limits(random)
    _check({engine: [FakeClient(engine, limits, greet=False) for _ in range(3)] for engine in ENGINES}, stream, random)
    return stream


def check_responses(random: Random) -> bytes:
    """All invariants on one stream of responses; returns it."""
    stream = hostile_stream(random, server=True)
    limits = hostile_limits(random)
    asked = [(random.choice(METHODS), random.random() < 0.7) for _ in range(3)]

    def asking(engine: str) -> FakePeer:
        peer = FakeServer(engine, limits, greet=False)
        for method, end in asked:
            peer.codec.open_stream(request(method, authority=b"a.example:1"), end=end)
        peer.sent()
        return peer

    _check({engine: [asking(engine) for _ in range(3)] for engine in ENGINES}, stream, random)
    return stream


def main() -> int:
    parser = argparse.ArgumentParser(description="Feed both HTTP/2 codecs hostile streams.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="repeat a run")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else Random().randrange(1 << 32)
    random = Random(seed)
    until = time.monotonic() + options.seconds
    streams = 0
    try:
        while time.monotonic() < until:
            for check in (check_requests, check_responses):
                check(random)
                streams += 1
    except AssertionError as broken:
        print(f"seed {seed}, stream {streams}: {broken}", file=sys.stderr)
        return 1
    print(f"{streams} streams, seed {seed}: both engines agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
