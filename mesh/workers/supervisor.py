"""The parent of N workers: starts them, says when all serve, replaces one that dies, and ends them together.

A worker is a program started anew, not a fork: a fork would copy a running Trio. Until all have served once, the
death of one is the failure of all; later it is counted, logged and made good after a jittered pause. What the
listening sockets of a dead worker hold waits for its replacement, unless that dies too or takes longer than `_KEEP`.
"""

from __future__ import annotations

import random
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import trio

from mesh.backoff import delays
from mesh.errors import MeshError
from mesh.feed.log import Log
from mesh.net.http import Request, Response
from mesh.telemetry.metrics import Registry
from mesh.workers.channel import Answer, Ask, Channel, Failed, Serving
from mesh.workers.sockets import Places, serve_places

_KEEP = 15.0  # seconds for a replacement to take over what is queued; a start takes about one, on a busy machine more
_STABLE = 60.0  # seconds of life after which a death is news, not one of a row
_KILL_AFTER = 10.0  # seconds beyond its own drain time that a worker may take to end
_ANSWER_WAIT = 5.0  # seconds for a worker to answer its operator


class Gone(Exception):
    """The worker did not answer: it is dead, or stuck."""


class Worker:
    """One place among the workers, whichever process has it. `generation` counts the processes."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.pid = 0
        self.generation = 0
        self.ready: dict[str, Any] | None = None
        """What it said when it began to serve; None before that and after its death."""
        self.has_served = False
        self._channel: Channel | None = None
        self._questions: dict[int, tuple[trio.Event, list[Response]]] = {}
        self._ids = 0

    async def ask(self, request: Request) -> Response:
        """Have the worker answer. Raises Gone."""
        if self._channel is None:
            raise Gone
        self._ids += 1
        id, done, answers = self._ids, trio.Event(), list[Response]()
        self._questions[id] = (done, answers)
        try:
            with trio.move_on_after(_ANSWER_WAIT):
                await self._channel.send(Ask(id, request))
                await done.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Gone from None
        finally:
            del self._questions[id]
        if not answers:
            raise Gone
        return answers[0]

    def begin(self, pid: int, channel: Channel) -> None:
        """A process has the place."""
        self.pid = pid
        self.generation += 1
        self.has_served = False
        self._channel = channel

    def end(self) -> None:
        """Its process is dead; whoever waits for an answer hears of it."""
        self.ready = self._channel = None
        for done, _ in self._questions.values():
            done.set()

    def answered(self, answer: Answer) -> None:
        """The process has answered; too late an answer is nobody's."""
        if answer.id in self._questions:
            done, answers = self._questions[answer.id]
            answers.append(answer.response)
            done.set()


class _Death(NamedTuple):
    label: str
    reason: str


class Supervisor:
    """`program` is the worker's command line, to which two descriptors are added (channel, sockets); `orders(index)`
    its first message. `drain_time`: seconds that a worker takes to end at most, by its own settings."""

    def __init__(
        self,
        program: Sequence[str],
        orders: Callable[[int], object],
        *,
        workers: int,
        drain_time: float,
        rng: random.Random,
        log: Log,
        registry: Registry,
    ) -> None:
        self.workers = tuple(Worker(index) for index in range(workers))
        self.on_death: Callable[[Worker], None] = lambda worker: None
        """Called when a worker that served is dead."""
        self.leaving = trio.Event()
        self.served = trio.Event()
        """All have served once."""
        self._program = tuple(program)
        self._orders = orders
        self._drain_time = drain_time
        self._rng = rng
        self._log = log
        self._places = Places()
        self._deaths = registry.counter(
            "trioweave_worker_deaths_total", "Workers that ended unasked and were replaced, by reason."
        )
        registry.gauge("trioweave_workers", "Workers that serve now.").child().watch(
            lambda: sum(worker.ready is not None for worker in self.workers)
        )

    async def run(self, *, task_status: trio.TaskStatus[dict[str, Any] | None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep them until `leave` or cancellation; started with what the first one said when all serve, or with None
        when told to leave before. Raises MeshError when they cannot start."""
        try:
            async with trio.open_nursery() as nursery:
                for worker in self.workers:
                    nursery.start_soon(self._keep, worker, nursery)
                nursery.start_soon(self._tell_served, task_status)
        finally:
            self._places.leave()

    async def _tell_served(self, task_status: trio.TaskStatus[dict[str, Any] | None]) -> None:
        async with trio.open_nursery() as nursery:

            async def stop_waiting() -> None:
                await self.leaving.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_waiting)
            await self.served.wait()
            nursery.cancel_scope.cancel()
        task_status.started(None if self.leaving.is_set() else self.workers[0].ready)

    def leave(self) -> None:
        """Have all of them drain and end; `run` returns when they have."""
        self.leaving.set()
        self._places.leave()

    async def _keep(self, worker: Worker, nursery: trio.Nursery) -> None:
        pauses = delays(self._rng)
        while True:
            born = trio.current_time()
            replaces = worker.generation > 0
            died = await self._live(worker)
            if self.leaving.is_set():
                return
            if not self.served.is_set():
                raise MeshError(died.reason)
            self._places.orphan(worker.index)
            if replaces and not worker.has_served:
                self._drop_orphans(worker)
            else:
                nursery.start_soon(self._drop_orphans_later, worker)
            self.on_death(worker)
            self._deaths.child((("reason", died.label),)).inc()
            if trio.current_time() - born > _STABLE:
                pauses = delays(self._rng)
            pause = next(pauses)
            self._log.error("a worker died", worker=worker.index, reason=died.reason, replaced_in=round(pause, 3))
            with trio.move_on_after(pause):
                await self.leaving.wait()
                return

    async def _drop_orphans_later(self, worker: Worker) -> None:
        with trio.move_on_after(_KEEP):
            await self.leaving.wait()
        self._drop_orphans(worker)

    def _drop_orphans(self, worker: Worker) -> None:
        if dropped := self._places.drop_orphans(worker.index):
            self._log.warning("the others take a dead worker's share", worker=worker.index, listeners=dropped)

    async def _live(self, worker: Worker) -> _Death:
        """One process from its start to its end; returns why it ended."""
        channel, theirs = socket.socketpair()
        sockets, theirs_too = socket.socketpair()
        with theirs, theirs_too, sockets:
            descriptors = (theirs.fileno(), theirs_too.fileno())
            process = await trio.lowlevel.open_process(
                [*self._program, *map(str, descriptors)], stdin=subprocess.DEVNULL, pass_fds=descriptors
            )
            theirs.close()
            theirs_too.close()
            return await self._attend(worker, process, Channel(channel), sockets)

    async def _attend(self, worker: Worker, process: trio.Process, channel: Channel, sockets: socket.socket) -> _Death:
        worker.begin(process.pid, channel)
        failures: list[str] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_places, sockets, worker.index, self._places)
                nursery.start_soon(self._give_orders, worker, channel)
                nursery.start_soon(self._end_in_time, process)
                await self._listen(worker, channel, failures)
                with trio.move_on_after(self._drain_time + _KILL_AFTER):  # it closed its end: it is ending
                    await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            worker.end()
            channel.close()
            await _end(process)
        return _Death("start_failed", failures[0]) if failures else _death(process.returncode)

    async def _give_orders(self, worker: Worker, channel: Channel) -> None:
        try:
            await channel.send(self._orders(worker.index))
        except trio.BrokenResourceError:
            return  # dead before it read them; its end is seen elsewhere

    async def _listen(self, worker: Worker, channel: Channel, failures: list[str]) -> None:
        while (message := await channel.receive()) is not None:
            if isinstance(message, Serving):
                worker.ready, worker.has_served = message.ready, True
                self._log.info("a worker serves", worker=worker.index, pid=worker.pid)
                if all(each.ready is not None for each in self.workers):
                    self.served.set()
            elif isinstance(message, Failed):
                failures.append(message.reason)
            elif isinstance(message, Answer):
                worker.answered(message)

    async def _end_in_time(self, process: trio.Process) -> None:
        await self.leaving.wait()
        process.terminate()
        await trio.sleep(self._drain_time + _KILL_AFTER)
        self._log.error("a worker does not end; it is killed", pid=process.pid)
        process.kill()


async def _end(process: trio.Process) -> None:
    """See to it that the process is no more; a no-op for one that has ended."""
    if process.returncode is None:
        process.kill()
    with trio.CancelScope(shield=True):
        await process.wait()


def _death(status: int | None) -> _Death:
    if status is None or status >= 0:
        return _Death("exited", f"it ended with status {status}")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return _Death(name, f"it was ended by {name}")
