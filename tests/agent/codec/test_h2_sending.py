"""What is to be sent: turns, windows, small bodies at once, and the one end of each stream."""

from __future__ import annotations

import pytest

from agent.codec.h2_frames import FrameCutter, stream_of
from agent.codec.h2_sending import Sending, Stream
from tests import fake_http2_peer as wire

Told = list[tuple[int, bytes, bool]]


class Rig:
    def __init__(self, *numbers: int) -> None:
        self.sending = Sending()
        self.streams = {number: Stream(number, b"GET", 65535, 65535) for number in numbers or (1, 3)}
        for stream in self.streams.values():
            stream.sending = True

    def add(self, number: int, data: bytes, *, end: bool = False) -> None:
        self.sending.write_body(self.streams[number], data, end=end)

    def sent(self, limit: int = 1 << 20) -> Told:
        """Frames by stream: payload, and whether it is the last one."""
        frames = FrameCutter(preface=False).cut(self.sending.pull(limit))
        return [(stream_of(frame), frame[9:], bool(frame[4] & wire.END_STREAM)) for frame in frames]


def test_streams_take_turns_and_large_pieces_are_cut() -> None:
    rig = Rig()
    rig.add(1, b"a" * 20000)
    rig.add(3, b"b" * 20000, end=True)
    assert [(number, len(data), end) for number, data, end in rig.sent()] == [
        (1, 16384, False),
        (3, 16384, False),
        (1, 3616, False),
        (3, 3616, True),
    ]
    assert rig.sending.ended == [rig.streams[3]]


def test_a_small_body_that_ends_goes_before_those_that_take_turns() -> None:
    rig = Rig()
    rig.add(1, b"a" * 5000, end=True)
    rig.add(3, b"b" * 4096, end=True)
    assert [number for number, _, _ in rig.sent()] == [3, 1]


def test_a_small_body_waits_for_its_window_like_others() -> None:
    rig = Rig()
    rig.streams[1].window = 2
    rig.add(1, b"abc", end=True)
    assert rig.sent() == [(1, b"ab", False)]
    assert rig.sending.open_stream_window(rig.streams[1], 1)
    assert rig.sent() == [(1, b"c", True)]


def test_small_bodies_wait_too_where_nothing_is_taken() -> None:
    rig = Rig(*range(1, 101, 2))
    rig.sending.open_window(1 << 20)
    for number in rig.streams:
        rig.add(number, b"x" * 4096, end=True)
    assert 64 * 1024 < rig.sending.backlog < 80 * 1024
    assert len(rig.sending.ended) < 20
    assert {number for number, _, end in rig.sent() if end} == {*rig.streams}


def test_small_pieces_share_a_frame() -> None:
    rig = Rig()
    for at in range(3):
        rig.add(1, b"%d" % at)
    assert rig.sent() == [(1, b"012", False)]
    rig.streams[1].window = 5
    for _ in range(3):
        rig.add(1, b"abc")
    assert rig.sent() == [(1, b"abc", False), (1, b"ab", False)]
    rig.sending.open_stream_window(rig.streams[1], 100)
    assert rig.sent() == [(1, b"c", False), (1, b"abc", False)]


def test_trailers_follow_the_data_at_once() -> None:
    rig = Rig()
    rig.add(1, b"a")
    rig.add(3, b"b")
    rig.sending.write_end(rig.streams[1], [(b":status", b"200")])
    assert rig.sent() == [(1, b"a", False), (1, b"\x88", True), (3, b"b", False)]


@pytest.mark.parametrize("queued", [True, False])
def test_an_end_without_trailers(queued: bool) -> None:
    rig = Rig()
    if queued:
        rig.add(1, b"a")
    rig.sending.write_end(rig.streams[1], [])
    assert rig.sent() == [(1, b"a" if queued else b"", True)]
    assert not rig.streams[1].sending


def test_streams_that_the_connection_holds_back_keep_their_turns() -> None:
    rig = Rig(1, 3, 5)
    for number in rig.streams:
        rig.add(number, b"x" * 40000, end=True)
    assert sum(len(data) for _, data, _ in rig.sent()) == 65535
    assert rig.sent() == []
    assert rig.sending.open_window(1 << 20)
    assert sum(len(data) for _, data, _ in rig.sent()) == 120_000 - 65535
    assert len(rig.sending.ended) == 3


def test_an_end_alone_needs_no_window() -> None:
    rig = Rig()
    rig.add(1, b"x" * 65535)
    rig.sent()
    rig.add(3, b"", end=True)
    assert rig.sent() == [(3, b"", True)]


def test_other_windows_by_settings() -> None:
    rig = Rig()
    rig.add(1, b"x" * 65000)
    rig.sent()
    assert rig.sending.set_initial_window(100, rig.streams.values())
    assert (rig.streams[1].window, rig.streams[3].window) == (100 - 65000, 100)
    rig.add(3, b"y" * 200)
    assert rig.sent() == [(3, b"y" * 100, False)]
    assert rig.sending.set_initial_window(65535, rig.streams.values())
    assert rig.sent() == [(3, b"y" * 100, False)]
    assert not rig.sending.set_initial_window(2**31 - 1, [Stream(5, b"GET", 65536, 0)])


def test_windows_have_a_largest_size() -> None:
    rig = Rig()
    assert rig.sending.open_window(2**31 - 1 - 65535)
    assert not rig.sending.open_window(1)
    assert not rig.sending.open_stream_window(rig.streams[1], 2**31 - 1)


@pytest.mark.parametrize("stalled", [True, False])
def test_nothing_is_left_of_a_dropped_stream(stalled: bool) -> None:
    rig = Rig(1, 3, 5)
    if stalled:
        rig.add(5, b"x" * 65535)
        rig.sent()
    rig.add(1, b"a" * 5000, end=True)
    rig.add(3, b"b" * 5000, end=True)
    if stalled:
        assert rig.sent() == []
    rig.sending.drop(rig.streams[1])
    rig.sending.open_window(10_000)
    assert {number for number, _, _ in rig.sent()} == {3}
    rig.sending.drop(rig.streams[3])


def test_a_limit_ends_the_round() -> None:
    rig = Rig()
    rig.add(1, b"a" * 40000)
    assert [len(data) for _, data, _ in rig.sent(limit=20_000)] == [16384, 16384]
    assert rig.streams[1].size == 40000 - 2 * 16384


def test_order_is_kept_however_pieces_and_windows_fall() -> None:
    rig = Rig()
    stream = rig.streams[1]
    stream.window = 0
    pieces = [b"%d," % at * (at % 50) for at in range(400)]
    taken = b""
    for at, piece in enumerate(pieces):
        rig.add(1, piece)
        rig.sending.open_window(at % 97)
        rig.sending.open_stream_window(stream, at % 97)
        taken += b"".join(data for _, data, _ in rig.sent())
    rig.sending.open_window(1 << 20)
    rig.sending.open_stream_window(stream, 1 << 20)
    taken += b"".join(data for _, data, _ in rig.sent())
    assert taken == b"".join(pieces)
    assert stream.size == 0
