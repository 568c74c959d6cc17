"""Reported requests, summed up."""

from __future__ import annotations

from mesh.feed.message import RequestStatistics
from pilot.push.traffic import MAX_ROWS, Traffic


def test_rows_of_one_edge_and_class_add_up() -> None:
    traffic = Traffic()
    assert traffic.add([RequestStatistics("a", "b", 2, 1, 0.5, "b-v1", 5)]) == 0
    assert traffic.add([RequestStatistics("a", "b", 3, 2, 1.5, "b-v1", 5)]) == 0
    traffic.add([RequestStatistics("a", "b", 1, response_class=2, destination_workload="b-v1")])
    traffic.add([RequestStatistics("a", "b", 1, response_class=2, reporter="destination")])
    first, *others = traffic.rows
    assert first == RequestStatistics("a", "b", 5, 3, 2.0, "b-v1", 5)
    assert [row.requests for row in others] == [1, 1]


def test_what_finds_no_room_is_told() -> None:
    traffic = Traffic()
    assert traffic.add(RequestStatistics("a", str(number), 1) for number in range(MAX_ROWS + 2)) == 2
    assert traffic.add([RequestStatistics("a", "0", 1)]) == 0, "known rows still grow"
    assert traffic.rows[0].requests == 2
