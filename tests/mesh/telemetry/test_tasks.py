from __future__ import annotations

import msgspec
import pytest

from mesh.net.http import Response
from mesh.telemetry.tasks import (
    Connection,
    InFlight,
    LeftOut,
    Nursery,
    Report,
    Task,
    exchange_line,
    task_line,
    tree_lines,
)
from mesh.workers.merge import merge_answers

JSON = "application/json"
EXCHANGE = InFlight(
    method="GET",
    authority="reviews:9080",
    path="/reviews/0",
    protocol="HTTP/2",
    client="127.0.0.1:5000",
    principal="",
    listener="http_proxy",
    request_id="7",
    route="all",
    cluster="outbound|9080||reviews",
    endpoint="10.0.0.1:80",
    attempt=2,
    age=1.25,
    try_left=0.75,
    route_left=3.0,
    waits_for="upstream head",
    status=0,
    bytes_received=90,
    bytes_sent=0,
)


def test_an_exchange_is_one_line() -> None:
    assert exchange_line(EXCHANGE) == (
        "GET reviews:9080/reviews/0 HTTP/2, 1.2 s old, route all, 10.0.0.1:80 (try 2), waits for upstream head, "
        "0.8 s left of the try, 3.0 s left of the route"
    )
    bare = msgspec.structs.replace(EXCHANGE, route="", endpoint="", try_left=None, route_left=None)
    assert exchange_line(bare) == "GET reviews:9080/reviews/0 HTTP/2, 1.2 s old, waits for upstream head"


@pytest.mark.parametrize(
    ("task", "nursery", "line"),
    [
        (Task("sweeper", "agent.py:9"), None, "sweeper (at agent.py:9)"),
        (Task("main", ""), Nursery(2.0, True, ()), "main (running, deadline in 2.0 s, cancelled)"),
        (
            Task("connection", "tcp.py:1", Connection("1.1.1.1:1", "web", "h2", True, 4.0)),
            None,
            "connection (1.1.1.1:1 to web h2, idle, closes in 4.0 s, at tcp.py:1)",
        ),
    ],
)
def test_a_task_is_one_line(task: Task, nursery: Nursery | None, line: str) -> None:
    assert task_line(task, nursery) == line


def test_a_tree_is_nested_and_survives_the_wire() -> None:
    connection = Task("connection", "a.py:1", exchanges=(EXCHANGE,))
    root = Task("root", "b.py:2", nurseries=(Nursery(None, False, (connection,)),))
    report = Report(trees=(root,), left_out=(LeftOut(exchanges=3),))
    again = msgspec.json.decode(msgspec.json.encode(report), type=Report)
    assert again == report
    lines = list(tree_lines(again.trees[0]))
    assert [line[: len(line) - len(line.lstrip())] for line in lines] == ["", "  ", "    "]
    assert again.remainder() == "3 more exchanges"
    assert Report().remainder() == ""


def test_reports_of_workers_become_one() -> None:
    answers = [
        (k, Response(200, msgspec.json.encode(Report((Task("main", ""),), (EXCHANGE,), (LeftOut(k, 1),))), JSON))
        for k in (0, 1)
    ]
    report = msgspec.json.decode(merge_answers(answers).body, type=Report)
    assert [task_line(tree) for tree in report.trees] == ["worker 0: main (running)", "worker 1: main (running)"]
    assert [exchange.worker for exchange in report.exchanges] == [0, 1]
    assert report.remainder() == "1 more tasks and 2 more exchanges"
