"""The agent's subscription to the pilot: connect, hello, apply pushes, answer; come back when it breaks.

The resources outlive the session: the agent serves on from what it holds, tells the pilot the hashes when it is
back, and gets only what changed. Last good resources on disk are in last_good.py. The way to the pilot is injected
(`connect`), so the same code runs over WebSocket (websocket.py) and over an in-memory pair.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import trio
from msgspec import Struct

from agent.last_good import LastGood
from agent.websocket import Unreachable
from mesh.backoff import delays
from mesh.config import Snapshot
from mesh.feed.log import Log
from mesh.feed.message import (
    EndpointsPush,
    FeedError,
    Goodbye,
    Hello,
    Push,
    Refusal,
    Rejected,
    Report,
    SignRequest,
    SignResponse,
    ToPilot,
    Welcome,
    decode_to_agent,
    encode,
)
from mesh.feed.node import Node
from mesh.feed.session import AgentSession, Change
from mesh.feed.transport import FeedClosed, Transport
from mesh.telemetry.metrics import Registry

Connect = Callable[[], AbstractAsyncContextManager[Transport]]
OnSnapshot = Callable[[Snapshot], Sequence[Rejected]]
"""Compile and swap in; an empty answer means taken. Named resources get their last good version back and the rest is
offered again, so a refusing callee need not have swapped anything."""

_CONNECT_WAIT: Final = 10.0
_SEND_WAIT: Final = 30.0
_PING_EVERY: Final = 10.0
_PING_WAIT: Final = 10.0
_RETRY_CAP: Final = 5.0  # a third of the time that a restarted pilot waits for its agents
_OFFERS: Final = 5  # refusals of one push that are narrowed down before all of it is refused
_REPEAT_LOG: Final = 60.0
_REPORTS: Final = 16


class FeedState(Struct):
    """How the subscription stands, for the admin port. Times are seconds since the epoch."""

    connected: bool = False
    since: float = 0.0
    session: str = ""
    pilot_version: str = ""
    last_push: float = 0.0
    pushes: int = 0
    rejected: tuple[Rejected, ...] = ()
    from_disk: bool = False
    last_error: str = ""
    failures: int = 0


class FeedClient:
    """One agent's subscription. `node` may be replaced before the next hello."""

    def __init__(
        self,
        node: Node,
        connect: Connect,
        on_snapshot: OnSnapshot,
        *,
        log: Log,
        rng: random.Random,
        wall: Callable[[], float],
        registry: Registry | None = None,
        state_path: Path | None = None,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        self.node = node
        self.state = FeedState()
        self.on_session: Callable[[], None] = lambda: None
        """Called when a session begins."""
        self._connect = connect
        self._on_snapshot = on_snapshot
        self._log = log
        self._rng = rng
        self._wall = wall
        self._events = (registry or Registry()).counter(
            "trioweave_agent_feed_events_total", "Happenings of the subscription to the pilot, by event."
        )
        self._session = AgentSession()
        self._worker = worker
        self._workers = workers
        self._last_good = LastGood(state_path, log, writes=worker == 0) if state_path else None
        self._transport: Transport | None = None
        self._up = trio.Event()
        self._synced = trio.Event()
        self._signing: dict[int, tuple[trio.Event, list[SignResponse]]] = {}
        self._sign_ids = 0
        self._leaving = False
        self._reports: deque[Report] = deque()
        self._report_ready = trio.Event()
        self._logged: tuple[str, float] = ("", float("-inf"))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start from disk where there is something, then stay subscribed until cancelled."""
        if self._last_good is not None:
            await self._start_from_disk(self._last_good)
        task_status.started()
        async with trio.open_nursery() as nursery:
            if self._last_good is not None:
                nursery.start_soon(self._last_good.keep, name="last good configuration")
            await self._stay_subscribed()

    @property
    def session(self) -> str:
        """The id of the session; "" while there is none."""
        return self.state.session if self._transport is not None else ""

    async def wait_synced(self) -> None:
        """Return when a push of the pilot has been applied; the deadline is the caller's scope."""
        await self._synced.wait()

    async def sign(self, csr_pem: bytes, ttl: float) -> SignResponse:
        """Have the pilot sign a request, when there is a session. Raises FeedClosed when that breaks meanwhile."""
        while self._transport is None:
            await self._up.wait()
        self._sign_ids += 1
        id, done = self._sign_ids, trio.Event()
        answers: list[SignResponse] = []
        self._signing[id] = (done, answers)
        try:
            await self._send(self._transport, SignRequest(id, csr_pem.decode("ascii"), ttl))
            await done.wait()
        finally:
            self._signing.pop(id, None)
        if not answers:
            raise FeedClosed("the session ended before the certificate came")
        return answers[0]

    def report(self, report: Report) -> None:
        """Tell the pilot when there is a session; the oldest of too many unsent reports is dropped and counted."""
        if len(self._reports) >= _REPORTS:
            self._reports.popleft()
            self._count("report_dropped")
        self._reports.append(report)
        self._report_ready.set()

    async def goodbye(self, reason: str) -> None:
        """Tell the pilot that this agent is leaving for good, and do not come back.

        Takes at most a second, and is no error if the pilot cannot be told.
        """
        self._leaving = True
        transport = self._transport
        if transport is None:
            return
        with trio.move_on_after(1):
            try:
                await transport.send(encode(Goodbye(reason)))
            except FeedClosed:
                return  # the pilot has noticed already

    async def _start_from_disk(self, last_good: LastGood) -> None:
        push = await last_good.load()
        if push is None:
            return
        self._take(push)
        self.state.from_disk = True
        self._count("started_from_disk")
        self._log.info("serving from the last good snapshot on disk", resources=len(push.upserts))

    async def _stay_subscribed(self) -> None:
        pauses = delays(self._rng, cap=_RETRY_CAP)
        while not self._leaving:
            pushes = self.state.pushes
            try:
                async with self._connect() as transport:
                    await self._subscribed(transport)
            except (Unreachable, FeedClosed, FeedError) as exc:
                self._failed(exc)
            if self.state.pushes > pushes:
                pauses = delays(self._rng, cap=_RETRY_CAP)
            await trio.sleep(next(pauses))
        await trio.sleep_forever()

    def _failed(self, exc: Unreachable | FeedClosed | FeedError) -> None:
        label = exc.label if isinstance(exc, Unreachable) else "closed" if isinstance(exc, FeedClosed) else "protocol"
        self.state.connected = False
        self.state.since = self._wall()
        self.state.last_error = str(exc)
        self.state.failures += 1
        self._count(label)
        now = trio.current_time()
        if self._logged[0] != str(exc) or now - self._logged[1] > _REPEAT_LOG:
            self._logged = (str(exc), now)
            what = "serving on from what is held" if self.state.pushes else "nothing to serve until there is one"
            self._log.warning(f"no session with the pilot; {what}", reason=str(exc), failures=self.state.failures)

    async def _subscribed(self, transport: Transport) -> None:
        await self._send(
            transport, Hello(self.node, known=self._session.known(), worker=self._worker, workers=self._workers)
        )
        failure: list[Exception] = []

        async def guarded(task: Callable[[Transport], Any], scope: trio.CancelScope) -> None:
            try:
                await task(transport)
            except (FeedClosed, FeedError, Unreachable) as exc:
                failure.append(exc)
                scope.cancel()

        try:
            await self._welcome(transport)
            async with trio.open_nursery() as nursery:
                for name, task in (("pings", self._ping), ("sent reports", self._send_reports)):
                    nursery.start_soon(guarded, task, nursery.cancel_scope, name=name)
                await guarded(self._receive, nursery.cancel_scope)
        finally:
            self._disconnected()
        if failure:
            raise failure[0]

    async def _welcome(self, transport: Transport) -> None:
        with trio.move_on_after(_CONNECT_WAIT) as wait:
            message = decode_to_agent(await transport.receive())
        if wait.cancelled_caught:
            raise FeedClosed(f"no welcome within {_CONNECT_WAIT:.0f} s")
        if isinstance(message, Refusal):
            raise _refused(message)
        if not isinstance(message, Welcome):
            raise FeedError(f"the pilot's first message is a {type(message).__name__}, not a welcome")
        if self._worker and "workers" not in message.features:
            remedy = "run the agent without --workers, or a pilot of the same version"
            raise Unreachable("refused", "the pilot takes one session of an agent, not one of each worker", remedy)
        self.state.connected = True
        self.state.since = self._wall()
        self.state.session = message.session
        self.state.pilot_version = message.pilot_version
        self.state.last_error = ""
        self.state.failures = 0
        self._logged = ("", float("-inf"))
        self._transport = transport
        self._up.set()
        self._count("connected")
        self._log.info("connected to the pilot", session=message.session)
        self.on_session()

    def _disconnected(self) -> None:
        self._transport = None
        self._up = trio.Event()
        for done, _ in self._signing.values():
            done.set()

    async def _receive(self, transport: Transport) -> None:
        while True:
            message = decode_to_agent(await transport.receive())
            if isinstance(message, Push | EndpointsPush):
                answer = self._take(message).answer()
                await self._send(transport, answer)
                self.state.last_push = self._wall()
                self._synced.set()
            elif isinstance(message, SignResponse):
                if message.id in self._signing:
                    done, answers = self._signing[message.id]
                    answers.append(message)
                    done.set()
            elif isinstance(message, Refusal):
                raise _refused(message)
            else:
                raise FeedError("a second welcome in one session")

    def _take(self, push: Push | EndpointsPush) -> Change:
        change = self._session.apply(push)
        for _ in range(_OFFERS):
            rejected = self._offer(change)
            if not rejected:
                break
            if not change.revert(rejected):
                change.revert_all(f"refused with it: {rejected[0].kind} {rejected[0].name}: {rejected[0].reason}")
                break
        else:
            change.revert_all("the agent cannot use this push")
        self._session.commit(change)
        self._account(push, change)
        return change

    def _offer(self, change: Change) -> Sequence[Rejected]:
        try:
            return self._on_snapshot(change.snapshot)
        except Exception as exc:  # the boundary: a snapshot that breaks the compiler must not end the subscription
            self._log.error("the snapshot could not be compiled", error=repr(exc))
            change.revert_all(f"{type(exc).__name__}: {exc}")
            return ()

    def _account(self, push: Push | EndpointsPush, change: Change) -> None:
        self.state.pushes += 1
        self.state.rejected = tuple(change.rejected)
        self._count("endpoints_push" if isinstance(push, EndpointsPush) else "full_push" if push.full else "delta_push")
        for rejected in change.rejected:
            self._count("resource_rejected")
            self._log.warning(
                "resource rejected; its last good version stays",
                kind=rejected.kind,
                name=rejected.name,
                reason=rejected.reason,
            )
        if self._last_good is not None and (push.upserts or push.removals):
            self._last_good.note(self._session.as_push())

    async def _ping(self, transport: Transport) -> None:
        while True:
            await trio.sleep(_PING_EVERY)
            with trio.move_on_after(_PING_WAIT) as wait:
                await transport.ping()
            if wait.cancelled_caught:
                raise FeedClosed(f"the pilot answered no ping for {_PING_WAIT:.0f} s")

    async def _send_reports(self, transport: Transport) -> None:
        while True:
            while self._reports:
                await self._send(transport, self._reports.popleft())
            self._report_ready = trio.Event()
            await self._report_ready.wait()

    async def _send(self, transport: Transport, message: ToPilot) -> None:
        with trio.move_on_after(_SEND_WAIT) as wait:
            await transport.send(encode(message))
        if wait.cancelled_caught:
            raise FeedClosed(f"the pilot took nothing for {_SEND_WAIT:.0f} s")

    def _count(self, event: str) -> None:
        self._events.child((("event", event),)).inc()


def _refused(message: Refusal) -> Unreachable:
    return Unreachable("refused", f"the pilot refuses: {message.reason}", message.remedy or "see the pilot's log")
