"""All connected agents: who they are, what each is to be told, and when. Several workers of one are one workload.

A change of the world comes in as `changed`; configuration waits in the debounce, endpoints go at once. The one
dispatcher task translates for one proxy after another (equal proxies share the work) and hands each session its
bundle; the sessions send.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import trio

from mesh.feed.log import Log
from mesh.feed.message import Report, SignRequest, SignResponse
from mesh.feed.node import Node
from pilot.push.debounce import Debounce
from pilot.push.queue import Key, PushQueue, PushRequest
from pilot.push.registrations import Registrations
from pilot.push.session import ProxySession, Refused
from pilot.push.stats import PushStats
from pilot.push.translations import Translations

WorkloadChange = Callable[[Node | None, Node | None], None]
"""(arrived or changed, gone): the world is to learn of it and to call `changed` in turn."""


class Fleet:
    """The sessions of one pilot."""

    def __init__(
        self,
        translations: Translations,
        registrations: Registrations,
        sign: Callable[[Node, SignRequest], SignResponse],
        *,
        stats: PushStats,
        log: Log,
        wall: Callable[[], float],
        debounce: Debounce | None = None,
    ) -> None:
        self.stats = stats
        self.log = log
        self.wall = wall
        self.sign = sign
        self.translations = translations
        self.on_workload: WorkloadChange = lambda arrived, gone: None
        self.on_report: Callable[[ProxySession, Report], None] = lambda session, report: None
        self._registrations = registrations
        self._sessions: dict[Key, ProxySession] = {}
        self._workers: dict[str, dict[int, ProxySession]] = {}
        self._queue = PushQueue()
        self._debounce = debounce or Debounce()
        self._work = trio.Event()
        self._progress = trio.Event()
        self._triggers: set[str] = set()
        stats.watch_connected(self._versions)

    def now(self) -> float:
        """Monotonic seconds."""
        return trio.current_time()

    @property
    def sessions(self) -> list[ProxySession]:
        """Sessions of connected agents, by id and worker."""
        return [self._sessions[key] for key in sorted(self._sessions)]

    def of(self, node_id: str) -> list[ProxySession]:
        """The sessions of one agent, one of each worker that is there."""
        workers = self._workers.get(node_id, {})
        return [workers[index] for index in sorted(workers)]

    def session(self, node_id: str) -> ProxySession | None:
        """The session of one agent; of its first worker where there are several, since all are told the same."""
        return next(iter(self.of(node_id)), None)

    def is_current(self, session: ProxySession) -> bool:
        """Whether no newer session has taken its place."""
        return self._sessions.get(session.key) is session

    def changed(self, trigger: str, *, endpoints_only: bool = False, at_once: bool = False) -> int:
        """The world has changed. Returns its version, for `wait_in_step`."""
        version = self.translations.renew()
        self.stats.triggered([trigger])
        now = self.now()
        if endpoints_only:
            self._enqueue(PushRequest(False, now, frozenset([trigger])))
        else:
            self._debounce.note(now, at_once=at_once)
            self._triggers.add(trigger)
        self._work.set()
        return version

    def join(self, session: ProxySession) -> None:
        """Take a session in; its workload enters the world and its first push is queued. Raises Refused."""
        node = session.node
        identity = (node.namespace, node.service_account)
        if any((each.node.namespace, each.node.service_account) != identity for each in self.of(node.id)):
            raise Refused("id-in-use", f"{node.id} is connected with another identity", "give each agent its own id")
        older = self._sessions.get(session.key)
        if older is not None:
            self.stats.event("replaced")
            older.end(f"{node.id} has connected again")
        self._sessions[session.key] = session
        self._workers.setdefault(node.id, {})[session.worker] = session
        self.stats.event("connected")
        if session.book.resumed:
            self.stats.resumed.inc()
        self.log.info("agent connected", proxy=node.id, resumed=session.book.resumed, by=session.caller.how)
        if self._registrations.connect(node, session.id):
            self.on_workload(node, None)
        self._queue.put(session.key, PushRequest(True, self.now(), frozenset(["proxy"])))
        self.stats.triggered(["proxy"])
        self._work.set()

    def leave(self, session: ProxySession, *, at_once: bool) -> None:
        """A session has ended; its workload goes at once, or after a grace."""
        node = session.node
        if self.is_current(session):
            del self._sessions[session.key]
            del self._workers[node.id][session.worker]
            if not self._workers[node.id]:
                del self._workers[node.id]
            self._queue.forget(session.key)
        self._gone(self._registrations.disconnect(node.id, session.id, self.now(), at_once=at_once))
        self._work.set()
        self._progressed()

    def answered(self, session: ProxySession) -> None:
        """An agent has acked or nacked."""
        self._progressed()

    def reported(self, session: ProxySession, report: Report) -> None:
        """An agent has sent what it saw."""
        self.on_report(session, report)

    async def run(self) -> None:
        """The dispatcher: serve the queue, the debounce and the graces until cancelled."""
        while True:
            self._expire()
            self._release()
            item = self._queue.take()
            if item is not None:
                self._dispatch(*item)
                await trio.lowlevel.checkpoint()
                continue
            self._work = trio.Event()
            with trio.move_on_at(self._next_wake()):
                await self._work.wait()

    async def wait_in_step(self, version: int, seconds: float) -> list[ProxySession]:
        """Wait until every worker of every connected agent has answered for world `version`.

        Returns the sessions that have not in time.
        """
        with trio.move_on_after(seconds):
            while self._behind(version):
                await self._progress.wait()
        return self._behind(version)

    def _behind(self, version: int) -> list[ProxySession]:
        return [session for session in self.sessions if session.version < version or not session.book.in_step]

    def _progressed(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    def _next_wake(self) -> float:
        times = [t for t in (self._debounce.due, self._registrations.next_expiry) if t is not None]
        return min(times, default=float("inf"))

    def _expire(self) -> None:
        for node in self._registrations.expire(self.now()):
            self.stats.event("workload_expired")
            self._gone(node)

    def _gone(self, node: Node | None) -> None:
        if node is not None:
            self.log.info("workload left", proxy=node.id)
            self.on_workload(None, node)

    def _release(self) -> None:
        since = self._debounce.since
        if self._debounce.take(self.now()):
            self.stats.debounce_time.observe(self.now() - since)
            self._enqueue(PushRequest(True, since, frozenset(self._triggers)))
            self._triggers.clear()
            self.translations.prune(session.node for session in self._sessions.values())

    def _enqueue(self, request: PushRequest) -> None:
        for key in self._sessions:
            self._queue.put(key, request)

    def _dispatch(self, key: Key, request: PushRequest) -> None:
        session = self._sessions.get(key)
        if session is None:
            return
        try:
            bundle = self.translations.bundle(session.node)
        except Exception as exc:  # the boundary: what breaks one proxy's translation must not end the others' feed
            self.stats.internal_errors.inc()
            self.log.error("translation failed; the proxy keeps its last push", proxy=session.node.id, error=repr(exc))
            return
        session.offer(bundle, self.translations.version, request)

    def _versions(self) -> list[tuple[str, int]]:
        versions = {session.node.id: session.node.agent_version for session in self._sessions.values()}
        return sorted(Counter(versions.values()).items())
