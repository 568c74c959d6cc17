"""What an agent tells of its tasks and exchanges (`/tasks`, `meshctl tasks`): the shape, and the words for it.

Every time is in seconds; None: there is no limit. agent/task_tree.py fills it in. An agent with workers gives the lists
of all of them as one (mesh/workers/merge.py), each thing in it with its `worker`.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class InFlight(msgspec.Struct, frozen=True):
    """One exchange under way. `attempt` 0: not sent anywhere yet; `status` 0: no response has begun.

    `try_left` and `route_left` are what remains of the time for this try, and for the whole response.
    """

    method: str
    authority: str
    path: str
    protocol: str
    client: str
    """The downstream peer's address."""
    principal: str
    """The downstream peer's SPIFFE id, "" when it showed none."""
    listener: str
    request_id: str
    route: str
    cluster: str
    endpoint: str
    attempt: int
    age: float
    try_left: float | None
    route_left: float | None
    waits_for: str
    """One of WAITS."""
    status: int
    bytes_received: int
    bytes_sent: int
    worker: int | msgspec.UnsetType = msgspec.UNSET


WAITS = (
    "request body",
    "injected delay",
    "name resolution",
    "connection",
    "pending queue",
    "retry back-off",
    "upstream to read",
    "upstream head",
    "upstream body",
    "client to read",
    "tunnel",
    "its turn",
)
"""What an exchange can wait for; "its turn" is the scheduler's."""


class Connection(msgspec.Struct, frozen=True):
    """A downstream connection that a task serves. `idle`: no exchange is under way and no head has begun."""

    client: str
    listener: str
    alpn: str
    idle: bool
    closes_in: float | None
    """Until the sweeper closes it, if nothing happens."""


class Task(msgspec.Struct, frozen=True):
    """A task, the exchanges of the connection that it serves, and its nurseries. `at`: FILE:LINE where it waits."""

    name: str
    at: str
    connection: Connection | None = None
    exchanges: tuple[InFlight, ...] = ()
    nurseries: tuple[Nursery, ...] = ()
    worker: int | msgspec.UnsetType = msgspec.UNSET


class Nursery(msgspec.Struct, frozen=True):
    """A nursery's cancel scope and tasks."""

    deadline: float | None
    cancelled: bool
    tasks: tuple[Task, ...]


class LeftOut(msgspec.Struct, frozen=True):
    """How many the limit left out."""

    tasks: int = 0
    exchanges: int = 0


class Report(msgspec.Struct, frozen=True):
    """The answer of `/tasks?format=json`: `trees`, one for each process, with the exchanges in their places, or
    `exchanges` alone, the oldest of each process first."""

    trees: tuple[Task, ...] = ()
    exchanges: tuple[InFlight, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def remainder(self) -> str:
        """What was left out, in words; "" when nothing."""
        tasks = sum(each.tasks for each in self.left_out)
        exchanges = sum(each.exchanges for each in self.left_out)
        counts = ((tasks, "tasks"), (exchanges, "exchanges"))
        return " and ".join(f"{count} more {what}" for count, what in counts if count)


def task_line(task: Task, nursery: Nursery | None = None) -> str:
    """A task in one line; `nursery` is the one that it is in."""
    words = [f"at {task.at}" if task.at else "running"]
    if task.connection is not None:
        words.insert(0, _connection(task.connection))
    if nursery is not None and nursery.deadline is not None:
        words.append(f"deadline in {nursery.deadline:.1f} s")
    if nursery is not None and nursery.cancelled:
        words.append("cancelled")
    name = task.name if task.worker is msgspec.UNSET else f"worker {task.worker}: {task.name}"
    return f"{name} ({', '.join(words)})"


def _connection(connection: Connection) -> str:
    words = f"{connection.client} to {connection.listener}" + (f" {connection.alpn}" if connection.alpn else "")
    if connection.idle:
        words += ", idle"
    return words if connection.closes_in is None else f"{words}, closes in {connection.closes_in:.1f} s"


def exchange_line(exchange: InFlight) -> str:
    """An exchange in one line."""
    words = [f"{exchange.method} {exchange.authority}{exchange.path} {exchange.protocol}", f"{exchange.age:.1f} s old"]
    if exchange.route:
        words.append(f"route {exchange.route}")
    if exchange.endpoint:
        words.append(f"{exchange.endpoint} (try {exchange.attempt})")
    words.append(f"waits for {exchange.waits_for}")
    if exchange.try_left is not None:
        words.append(f"{exchange.try_left:.1f} s left of the try")
    if exchange.route_left is not None:
        words.append(f"{exchange.route_left:.1f} s left of the route")
    return ", ".join(words)


def tree_lines(task: Task, nursery: Nursery | None = None, depth: int = 0) -> Iterator[str]:
    """The tree as text, nested by two blanks."""
    yield "  " * depth + task_line(task, nursery)
    for exchange in task.exchanges:
        yield "  " * (depth + 1) + exchange_line(exchange)
    for inner in task.nurseries:
        for child in inner.tasks:
            yield from tree_lines(child, inner, depth + 1)
