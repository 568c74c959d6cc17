"""Frames as bytes: every cutting of the stream gives the same pieces."""

from __future__ import annotations

import pytest

from agent.codec.h2_frames import FrameCutter, as_end, goaway, stream_of, with_setting, without_resets
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


def test_a_setting_more() -> None:
    after = wire.ping()
    assert with_setting(wire.settings((4, 5)) + after, 3, 100) == wire.settings((4, 5), (3, 100)) + after


def test_a_goaway() -> None:
    assert goaway(7, 11) == wire.goaway(7, 11)
