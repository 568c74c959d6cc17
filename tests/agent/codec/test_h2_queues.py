"""Queues towards the peer: turns, windows, and the one end of each stream."""

from __future__ import annotations

import pytest

from agent.codec.h2_heads import Field
from agent.codec.h2_queues import SendQueues


class FakeSender:
    """`sent` has what was sent, `windows` what each stream's peer takes."""

    max_outbound_frame_size = 10

    def __init__(self) -> None:
        self.windows = {1: 1000, 3: 1000}
        self.sent: list[tuple[int, object, bool]] = []

    def local_flow_control_window(self, stream_id: int) -> int:
        return self.windows[stream_id]

    def send_data(self, stream_id: int, data: bytes, *, end_stream: bool = False) -> None:
        self.windows[stream_id] -= len(data)
        self.sent.append((stream_id, data, end_stream))

    def send_headers(self, stream_id: int, headers: list[Field], *, end_stream: bool = False) -> None:
        self.sent.append((stream_id, headers, end_stream))

    def end_stream(self, stream_id: int) -> None:
        self.sent.append((stream_id, b"", True))


class Rig:
    def __init__(self) -> None:
        self.sender = FakeSender()
        self.ended: list[int] = []
        self.queues = SendQueues(self.sender, self.ended.append)
        for number in (1, 3):
            self.queues.open(number)

    def sent(self, limit: int = 100_000) -> list[tuple[int, object, bool]]:
        self.queues.send(limit)
        sent, self.sender.sent = self.sender.sent, []
        return sent


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_streams_take_turns_and_large_pieces_are_cut(rig: Rig) -> None:
    rig.queues.add(1, b"a" * 15, False)
    rig.queues.add(3, b"b" * 15, True)
    assert rig.sent() == [(1, b"a" * 10, False), (3, b"b" * 10, False), (1, b"a" * 5, False), (3, b"b" * 5, True)]
    assert rig.ended == [3]


def test_an_end_comes_with_the_last_data_or_alone(rig: Rig) -> None:
    rig.queues.add(1, b"a", True)
    assert rig.sent() == [(1, b"a", True)]
    rig.queues.add(3, b"", True)
    assert rig.sent() == [(3, b"", True)]
    assert rig.ended == [1, 3]


def test_trailers_follow_the_data(rig: Rig) -> None:
    rig.queues.add(1, b"a", False)
    rig.queues.add(1, b"", [(b"x-t", b"1")])
    assert rig.sent() == [(1, b"a", False), (1, [(b"x-t", b"1")], True)]
    assert rig.ended == [1]


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "queued"])
def test_nothing_follows_the_end(rig: Rig, sent: bool) -> None:
    rig.queues.add(1, b"a", True)
    before = rig.sent() if sent else []
    rig.queues.add(1, b"b", False)
    rig.queues.add(1, b"", [(b"x-t", b"1")])
    assert before + rig.sent() == [(1, b"a", True)]


def test_nothing_goes_before_the_head(rig: Rig) -> None:
    rig.queues.add(5, b"a", True)
    assert rig.sent() == []
    assert rig.queues.queued(5) == 0


def test_a_full_window_holds_its_own_stream_until_it_opens(rig: Rig) -> None:
    rig.sender.windows[1] = 4
    rig.queues.add(1, b"a" * 6, True)
    rig.queues.add(3, b"b", False)
    assert rig.sent() == [(1, b"aaaa", False), (3, b"b", False)]
    assert rig.queues.queued(1) == 2
    rig.sender.windows[1] = 10
    assert rig.sent() == [], "nobody said that it is open"
    rig.queues.wake(1)
    assert rig.sent() == [(1, b"aa", True)]


def test_all_windows_may_open_at_once(rig: Rig) -> None:
    rig.sender.windows = {1: 0, 3: 0}
    for number in (1, 3):
        rig.queues.add(number, b"a", False)
    assert rig.sent() == []
    rig.sender.windows = {1: 10, 3: 10}
    rig.queues.wake(0)
    assert rig.sent() == [(1, b"a", False), (3, b"a", False)]


def test_a_limit_ends_the_round(rig: Rig) -> None:
    rig.queues.add(1, b"a" * 30, False)
    assert rig.sent(limit=20) == [(1, b"a" * 10, False)]
    assert rig.queues.queued(1) == 20


def test_what_is_queued_for_a_dropped_stream_is_lost(rig: Rig) -> None:
    rig.queues.add(1, b"a", True)
    rig.queues.drop(1)
    rig.queues.drop(1)
    assert rig.sent() == []
    assert rig.ended == []
