"""The live tree of Trio tasks, and the exchanges that they carry: what the process is doing at this moment.

Exchanges between multiplexed connections have no task (mesh/net/strand.py), so each is told from its client's side and
stands below the task of its connection. Nothing is prepared for this while requests run; it is all read when asked.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import Final

import trio

from agent.dataplane import ClientSide, Downstream
from mesh.telemetry.tasks import Connection, InFlight, LeftOut, Nursery, Report, Task

_NEVER: Final = float("inf")


def in_flight(sides: Iterable[ClientSide], now: float, *, min_age: float = 0.0) -> list[tuple[Downstream, InFlight]]:
    """The exchanges under way for at least `min_age` seconds, oldest first, each with its connection."""
    found = [
        (side.downstream, told) for side in sides if (told := _describe(side, now)) is not None and told.age >= min_age
    ]
    found.sort(key=lambda each: -each[1].age)
    return found


def exchanges_report(sides: Iterable[ClientSide], now: float, *, limit: int, min_age: float = 0.0) -> Report:
    """The exchanges alone: the `limit` oldest."""
    found = in_flight(sides, now, min_age=min_age)
    shown = tuple(told for _, told in found[:limit])
    return Report(exchanges=shown, left_out=(LeftOut(exchanges=len(found) - len(shown)),))


def tree_report(
    root: trio.lowlevel.Task,
    connections: Iterable[Downstream],
    sides: Iterable[ClientSide],
    now: float,
    *,
    limit: int,
    min_age: float = 0.0,
) -> Report:
    """The tree below `root` with `limit` tasks and `limit` exchanges at most: those nearest to the root, and the oldest
    of whose connection is shown."""
    kept, left_out = _nearest(root, limit)
    served = {each.task: each for each in connections if each.task in kept}
    exchanges: dict[Downstream, list[InFlight]] = {}
    found = in_flight(sides, now, min_age=min_age)
    shown = [(downstream, told) for downstream, told in found if downstream.task in served][:limit]
    for downstream, told in shown:
        exchanges.setdefault(downstream, []).append(told)

    def draw(task: trio.lowlevel.Task) -> Task:
        downstream = served.get(task)
        return Task(
            _short(task.name),
            _place(task),
            _connection(downstream, now) if downstream is not None else None,
            tuple(exchanges.get(downstream, ())) if downstream is not None else (),
            tuple(
                Nursery(
                    _left(nursery.cancel_scope.deadline, now),
                    nursery.cancel_scope.cancel_called,
                    tuple(draw(child) for child in _children(nursery) if child in kept),
                )
                for nursery in task.child_nurseries
            ),
        )

    return Report(trees=(draw(root),), left_out=(LeftOut(left_out, len(found) - len(shown)),))


def _nearest(root: trio.lowlevel.Task, limit: int) -> tuple[set[trio.lowlevel.Task], int]:
    """The first `limit` tasks level by level, so that no crowd hides what stands beside it; how many there are more."""
    kept: set[trio.lowlevel.Task] = set()
    left_out = 0
    pending = deque([root])
    while pending:
        task = pending.popleft()
        if len(kept) < limit:
            kept.add(task)
        else:
            left_out += 1
        for nursery in task.child_nurseries:
            pending.extend(_children(nursery))
    return kept, left_out


def _children(nursery: trio.Nursery) -> list[trio.lowlevel.Task]:
    return sorted(nursery.child_tasks, key=lambda task: task.name)


def _short(name: str) -> str:
    return re.sub(r"<locals>\.", "", name)


def _place(task: trio.lowlevel.Task) -> str:
    """FILE:LINE of the last frame outside of Trio: Trio's own say how it waits, that one what for."""
    place = ""
    for frame, line in task.iter_await_frames():
        folder, _, file = frame.f_code.co_filename.rpartition("/")
        if "/trio/" not in f"{folder}/" or not place:
            place = f"{file}:{line}"
    return place


def _left(deadline: float, now: float) -> float | None:
    return None if deadline == _NEVER else round(max(0.0, deadline - now), 3)


def _connection(downstream: Downstream, now: float) -> Connection:
    return Connection(
        downstream.transport.remote,
        downstream.config.name,
        downstream.alpn,
        not downstream.busy,
        _left(downstream.deadline, now),
    )


def _describe(side: ClientSide, now: float) -> InFlight | None:
    record = side.record
    if record is None:  # an HTTP/1 connection between two exchanges
        return None
    forward = side.forward
    return InFlight(
        method=_text(record.method),
        authority=_text(record.authority),
        path=_text(record.path),
        protocol=record.protocol,
        client=record.downstream_remote,
        principal=record.peer_principal,
        listener=side.downstream.config.name,
        request_id=_text(record.request_id),
        route=record.route,
        cluster=record.cluster,
        endpoint=record.upstream_host,
        attempt=record.attempts,
        age=round(now - record.start, 3),
        try_left=_left(forward.deadline, now) if forward is not None else None,
        route_left=_left(forward.whole_deadline, now) if forward is not None else None,
        waits_for=_waits_for(side),
        status=record.response_code,
        bytes_received=side.bytes_in,
        bytes_sent=side.bytes_out,
    )


def _waits_for(side: ClientSide) -> str:
    assert side.record is not None
    if side.tunnelled:
        return "tunnel"
    if side.writing or side.complete:
        return "client to read"
    if side.forward is not None:
        return side.forward.waits_for()
    if "DI" in side.record.flags:
        return "injected delay"
    return "connection" if side.record.attempts else "its turn"


def _text(value: bytes) -> str:
    return value.decode("latin-1")
