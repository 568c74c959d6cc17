"""The framing gate: it reads any cutting of the stream alike, and floods run dry at the reason of their bucket."""

from __future__ import annotations

import pytest

from agent.codec.h2_gate import FrameGate
from agent.codec.http2 import ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED
from tests.fake_http2_peer import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    HEADERS,
    PREFACE,
    PRIORITY,
    data,
    frame,
    ping,
    rst_stream,
    settings,
    window_update,
)


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def server_gate(clock: FakeClock | None = None, max_head_bytes: int = 61440) -> FrameGate:
    gate = FrameGate(clock or FakeClock(), max_head_bytes, server=True)
    assert gate.check(PREFACE + settings()) == ""
    return gate


def head(stream: int, flags: int = END_HEADERS, payload: bytes = b"\x82") -> bytes:
    return frame(HEADERS, flags, stream, payload)


def spent(gate: FrameGate, piece: bytes) -> tuple[int, str]:
    """How many times the gate lets `piece` through before it gives a reason."""
    for count in range(5000):
        if reason := gate.check(piece):
            return count, reason
    raise AssertionError("never refused")


def test_the_preface_is_read_to_its_last_byte() -> None:
    for size in (1, 10, 24):
        gate = FrameGate(FakeClock(), 1000, server=True)
        wrong = PREFACE[:-1] + b"x"
        reasons = [gate.check(wrong[at : at + size]) for at in range(0, len(wrong), size)]
        assert (any(reasons), reasons[-1]) == (True, "bad_preface")


@pytest.mark.parametrize("server", [True, False])
def test_the_first_frame_is_settings(server: bool) -> None:
    gate = FrameGate(FakeClock(), 1000, server=server)
    assert gate.check((PREFACE if server else b"") + ping()) == "first_frame_not_settings"
    assert gate.code == PROTOCOL_ERROR


def test_frames_larger_than_our_settings_allow() -> None:
    gate = server_gate()
    assert gate.check(data(1, b"x" * 16384)) == ""
    assert gate.check(frame(0, 0, 1, b"", length=16385)) == "frame_too_large"
    assert gate.code == FRAME_SIZE_ERROR


def test_a_frame_is_judged_by_its_header_before_its_payload_comes() -> None:
    assert server_gate().check(frame(0, 0, 1, b"", length=1 << 20)) == "frame_too_large"


def test_priority_on_stream_0() -> None:
    gate = server_gate()
    assert gate.check(frame(PRIORITY, 0, 1, bytes(5))) == ""
    assert gate.check(frame(PRIORITY, 0, 0, bytes(5))) == "priority_on_stream_0"


def test_a_header_block_is_open_until_its_end_flag() -> None:
    gate = server_gate()
    gate.check(head(1, flags=0))
    assert gate.in_block
    gate.check(frame(CONTINUATION, 0, 1, b"x"))
    assert gate.in_block
    gate.check(frame(CONTINUATION, END_HEADERS, 1, b"x"))
    assert not gate.in_block


def test_a_number_used_before_is_closed() -> None:
    gate = server_gate()
    gate.check(head(5))
    assert gate.check(head(5)) == "", "trailers"
    assert gate.check(head(3)) == "stream_closed"
    assert gate.code == STREAM_CLOSED


def test_nothing_may_come_for_a_stream_that_both_sides_have_ended() -> None:
    gate = server_gate()
    gate.check(head(1))
    gate.closed(1)
    assert gate.check(head(1)) == "stream_closed"


def test_late_frames_of_a_stream_that_we_have_reset_are_forgiven_for_a_while() -> None:
    gate = server_gate()
    gate.check(head(1))
    gate.was_reset(1)
    assert gate.check(head(1)) == ""
    for number in range(3, 3 + 2 * 1000, 2):
        gate.check(head(number))
        gate.was_reset(number)
    assert gate.check(head(1)) == "stream_closed"


@pytest.mark.parametrize("server", [True, False])
def test_only_streams_that_were_reset_not_long_ago_are_forgiven(server: bool) -> None:
    gate = FrameGate(FakeClock(), 1000, server=server)
    for number in range(1, 2 * 1001, 2):
        gate.was_reset(number)
    assert [gate.forgives(number) for number in (1, 3, 2001, 2003)] == [False, True, True, False]


def test_a_client_s_gate_leaves_stream_numbers_to_the_engine() -> None:
    gate = FrameGate(FakeClock(), 1000, server=False)
    gate.check(settings() + head(5))
    assert gate.check(head(3)) == ""


@pytest.mark.parametrize(
    ("piece", "size", "reason"),
    [
        (rst_stream(1), 400, "rapid_reset"),
        (ping(), 1000, "control_flood"),
        (settings(), 999, "control_flood"),
        (data(1), 1000, "control_flood"),
        (data(1, padding=50), 1000, "control_flood"),
        (frame(PRIORITY, 0, 1, bytes(5)), 1000, "control_flood"),
        (frame(0xAB, 0, 1, b"?"), 1000, "control_flood"),
        (window_update(0, 1), 2000, "window_update_flood"),
    ],
    ids=["rst", "ping", "settings", "empty data", "padding only", "priority", "unknown", "window update"],
)
def test_a_flood_runs_its_bucket_dry(piece: bytes, size: int, reason: str) -> None:
    clock = FakeClock()
    gate = server_gate(clock)
    first = 1 if reason == "control_flood" else 0  # the greeting's SETTINGS
    assert spent(gate, piece) == (size - (first if size == 1000 else 0), reason)
    assert gate.code == ENHANCE_YOUR_CALM


@pytest.mark.parametrize("piece", [rst_stream(1), ping(), window_update(0, 1)])
def test_a_bucket_fills_with_time_and_no_further_than_its_size(piece: bytes) -> None:
    clock = FakeClock()
    gate = server_gate(clock)
    size, _ = spent(gate, piece)
    clock.now += 1.0
    refilled, _ = spent(gate, piece)
    assert 90 <= refilled <= 101
    clock.now += 3600.0
    again, _ = spent(gate, piece)
    assert 0 <= again - size <= 2, "the greeting's SETTINGS were paid the first time"


def test_a_slow_peer_never_floods() -> None:
    clock = FakeClock()
    gate = server_gate(clock)
    for _ in range(5000):
        clock.now += 0.011
        assert gate.check(rst_stream(1) + ping() + window_update(0, 1)) == ""


def test_answers_and_body_cost_nothing() -> None:
    gate = server_gate()
    for _ in range(3000):
        assert gate.check(ping(ack=True) + settings(ack=True) + data(1, b"x")) == ""


def test_what_we_send_pays_for_window_updates() -> None:
    gate = server_gate()
    for _ in range(5000):
        gate.sent(20)
        assert gate.check(window_update(0, 1)) == ""


def test_resets_that_the_peer_forces_are_paid_like_its_own() -> None:
    gate = server_gate()
    assert spent_forced(gate) == (400, "rapid_reset")
    assert gate.check(rst_stream(1)) == "rapid_reset"


def spent_forced(gate: FrameGate) -> tuple[int, str]:
    for count in range(1000):
        if reason := gate.reset_forced():
            return count, reason
    raise AssertionError("never refused")


def test_continuations_without_end() -> None:
    gate = server_gate()
    gate.check(head(1, flags=0))
    assert spent(gate, frame(CONTINUATION, 0, 1)) == (16, "continuation_flood")
    assert gate.code == ENHANCE_YOUR_CALM


def test_a_header_block_larger_than_any_head_could_be() -> None:
    gate = server_gate(max_head_bytes=1000)
    gate.check(head(1, flags=0, payload=b"x" * 16384))
    assert gate.check(frame(CONTINUATION, 0, 1, b"x" * 4000)) == ""
    assert gate.check(frame(CONTINUATION, END_HEADERS, 1, b"x")) == "continuation_flood"


def test_any_cutting_of_the_stream_is_read_alike() -> None:
    stream = PREFACE + settings((3, 10)) + head(1, flags=0) + frame(CONTINUATION, END_HEADERS, 1, b"xyz")
    stream += data(1, b"body", padding=2) + ping(ack=True) + head(3) + frame(PRIORITY, 0, 0, bytes(5))
    for size in (1, 2, 3, 9, 10, 17):
        gate = FrameGate(FakeClock(), 1000, server=True)
        reasons = [gate.check(stream[at : at + size]) for at in range(0, len(stream), size)]
        assert next(reason for reason in reasons if reason) == "priority_on_stream_0"


@pytest.mark.parametrize(
    "piece",
    [
        rst_stream(1),
        ping(),
        data(1),
        data(1, padding=50),
        data(1, b"x", padding=50),
        frame(0xAB, ACK, 1),
        window_update(0, 1),
        head(1),
        head(0, flags=0),
        frame(CONTINUATION, 4, 1, b"x"),
        frame(PRIORITY, 0, 0, bytes(5)),
        frame(0, 0, 1, b"", length=16385),
    ],
)
def test_frames_one_by_one_are_refused_as_bytes_are(piece: bytes) -> None:
    by_bytes, by_frame = server_gate(), server_gate()
    padding = piece[9] + 1 if piece[3] == 0 and piece[4] & 0x8 else 0
    for _ in range(2100):
        reason = by_bytes.check(piece)
        length = int.from_bytes(piece[:3], "big")
        assert by_frame.frame(piece[3], piece[4], piece[8], length, padding) == reason
        assert (by_frame.code, by_frame.in_block) == (by_bytes.code, by_bytes.in_block)
        if reason:
            break


def test_the_preface_may_come_in_pieces_before_frames() -> None:
    gate = FrameGate(FakeClock(), 1000, server=True)
    assert [gate.greet(PREFACE[:10]), gate.greet(PREFACE[10:] + settings())] == [10, 14]
    assert gate.greeting == b""


def test_an_ack_flag_makes_nothing_else_free() -> None:
    gate = server_gate()
    assert spent(gate, frame(0xAB, ACK, 1))[1] == "control_flood"


def test_header_frames_that_belong_to_no_stream_or_block() -> None:
    for piece, reason in ((head(0), "headers_on_stream_0"), (frame(CONTINUATION, 4, 1, b"x"), "stray_continuation")):
        gate = server_gate()
        assert gate.check(piece) == reason
        assert gate.code == PROTOCOL_ERROR
