"""Frames as bytes: every cutting of the stream gives the same pieces."""

from __future__ import annotations

import pytest

from agent.codec import h2_frames
from agent.codec.h2_frames import FrameCutter, as_end, goaway, stream_of, without_resets
from tests import fake_http2_peer as wire


@pytest.mark.parametrize("size", [1, 5, 9, 10, 24, 1000])
@pytest.mark.parametrize("preface", [True, False])
def test_any_cutting_gives_the_preface_and_whole_frames(size: int, preface: bool) -> None:
    frames = [*([wire.PREFACE] if preface else []), wire.settings(), wire.data(1, b"x" * 30), wire.data(3)]
    stream = b"".join(frames) + wire.ping()[:-1]
    cutter = FrameCutter(preface=preface)
    assert [piece for at in range(0, len(stream), size) for piece in cutter.cut(stream[at : at + size])] == frames


def test_the_reserved_bit_is_no_part_of_a_stream_s_number() -> None:
    assert stream_of(wire.data(0x80000005, b"x")) == 5


def test_resets_are_left_out() -> None:
    update, ping = wire.window_update(0, 5), wire.ping()
    assert without_resets(update + wire.rst_stream(1) + ping + wire.rst_stream(3)) == update + ping


def test_a_frame_is_made_the_last() -> None:
    assert as_end(wire.data(1, b"x")) == as_end(wire.data(1, b"x", end=True)) == wire.data(1, b"x", end=True)


def test_frames_are_written_as_the_rfc_has_them() -> None:
    assert h2_frames.header(wire.DATA, wire.END_STREAM, 2**31 - 1, 16384) + b"x" * 16384 == wire.data(
        2**31 - 1, b"x" * 16384, end=True
    )
    assert h2_frames.settings([(4, 5), (3, 2**32 - 1)]) == wire.settings((4, 5), (3, 2**32 - 1))
    assert wire.settings(ack=True) == h2_frames.SETTINGS_ACK
    assert h2_frames.window_update(3, 2**31 - 1) == wire.window_update(3, 2**31 - 1)
    assert h2_frames.rst_stream(5, 8) == wire.rst_stream(5, 8)
    assert h2_frames.ping(b"12345678", ack=True) == wire.ping(b"12345678", ack=True)
    assert h2_frames.ping(b"12345678", ack=False) == wire.ping(b"12345678")


@pytest.mark.parametrize(("size", "sizes"), [(0, [0]), (16384, [16384]), (16385, [16384, 1]), (49152, [16384] * 3)])
def test_a_header_block_is_cut_at_the_size_that_any_peer_takes(size: int, sizes: list[int]) -> None:
    fields = bytes(at % 251 for at in range(size))
    frames = FrameCutter(preface=False).cut(h2_frames.block(7, fields, wire.END_STREAM))
    assert b"".join(frame[9:] for frame in frames) == fields
    assert [len(frame) - 9 for frame in frames] == sizes
    assert [frame[3] for frame in frames] == [wire.HEADERS, *[wire.CONTINUATION] * (len(sizes) - 1)]
    assert [frame[4] & wire.END_HEADERS for frame in frames] == [*[0] * (len(sizes) - 1), wire.END_HEADERS]
    assert frames[0][4] & wire.END_STREAM
    assert {stream_of(frame) for frame in frames} == {7}


def test_a_goaway() -> None:
    assert goaway(7, 11) == wire.goaway(7, 11)
