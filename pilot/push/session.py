"""One agent's session on the pilot: Hello, then pushes, answers, certificates and reports until it ends.

Works on any feed transport. The transport's door has authenticated the caller; who the agent claims to be in Hello
must agree with that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import trio
from msgspec import Struct

from mesh import __version__
from mesh.feed.log import Log
from mesh.feed.message import (
    FEATURES,
    Ack,
    FeedError,
    Goodbye,
    Hello,
    Nack,
    Push,
    Refusal,
    Report,
    SignRequest,
    SignResponse,
    ToAgent,
    ToPilot,
    Welcome,
    decode_to_pilot,
    encode,
)
from mesh.feed.node import Node
from mesh.feed.session import Bundle, PilotSession
from mesh.feed.transport import FeedClosed, Transport
from mesh.identity.spiffe import DEFAULT_TRUST_DOMAIN, SpiffeError, SpiffeId, make
from pilot.push.queue import Key, PushRequest
from pilot.push.stats import PushStats
from pilot.push.traffic import Traffic

_HELLO_WAIT = 10.0  # as the agents' own connect deadline
_SEND_WAIT = 30.0  # a full push over a slow link; beyond it the agent is stuck
_PING_EVERY = 10.0
_PING_WAIT = 10.0
_CLOSE_WAIT = 0.25  # when cancelled, nothing reads the answer to our close
_LONGEST_ID = 253  # as a Kubernetes name
_MOST_WORKERS = 256
_NAMED = 5  # of a push's rejections, how many one log line names; the admin port has all


class Caller(Struct, frozen=True):
    """Who authenticated: by certificate (`identity` is known) or by the bootstrap token (it may be anyone)."""

    how: str
    remote: str = ""
    identity: SpiffeId | None = None


class Refused(Exception):
    """The agent may not have a session; it is told `reason` and `remedy`, and `label` is counted."""

    def __init__(self, label: str, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.label = label
        self.reason = reason
        self.remedy = remedy


class Fleet(Protocol):
    """What a session needs of the whole."""

    stats: PushStats
    log: Log

    def now(self) -> float: ...

    def wall(self) -> float: ...

    def join(self, session: ProxySession) -> None:
        """Take a new session in and queue its first push. Raises Refused."""

    def leave(self, session: ProxySession, *, at_once: bool) -> None: ...

    def answered(self, session: ProxySession) -> None: ...

    def reported(self, session: ProxySession, report: Report) -> None: ...

    def sign(self, node: Node, request: SignRequest) -> SignResponse: ...


class ProxySession:
    """A connected agent, as the fleet and the operator see it."""

    def __init__(self, id: str, hello: Hello, caller: Caller, transport: Transport, fleet: Fleet) -> None:
        self.id = id
        self.node = hello.node
        self.worker = hello.worker
        self.workers = hello.workers
        self.caller = caller
        self.features = tuple(feature for feature in hello.features if feature in FEATURES)
        self.book = PilotSession(hello.known)
        self.connected_at = fleet.wall()
        self.last_ack_at: float | None = None
        self.last_report: Report | None = None
        self.last_report_at: float | None = None
        self.traffic = Traffic()
        self.version = 0
        self.end_reason = ""
        self._since: float | None = None
        self._transport = transport
        self._fleet = fleet
        self._wake = trio.Event()
        self._ended = trio.Event()

    @property
    def key(self) -> Key:
        """Under which the fleet knows it."""
        return self.node.id, self.worker

    def offer(self, bundle: Bundle, version: int, request: PushRequest) -> None:
        """Have the agent hold `bundle`, world `version`; sync, the session's own task sends."""
        self.book.offer(bundle) if request.full else self.book.offer_endpoints(bundle)
        if request.full:
            self.version = version
        self._since = request.since if self._since is None else min(self._since, request.since)
        self._wake.set()

    def end(self, reason: str) -> None:
        """Close the session from this side."""
        self.end_reason = reason
        self._ended.set()

    async def run(self) -> None:
        """Serve until the session ends. Raises FeedClosed or FeedError with why."""
        async with trio.open_nursery() as nursery:
            for task in (self._push, self._ping, self._watch_end):
                nursery.start_soon(self._guarded, task, nursery.cancel_scope)
            await self._guarded(self._receive, nursery.cancel_scope)
        raise self._failure or FeedClosed("ended")

    _failure: Exception | None = None

    async def _guarded(self, task: Callable[[], Any], scope: trio.CancelScope) -> None:
        # The first failure is the session's end; the others are its echo.
        try:
            await task()
        except (FeedClosed, FeedError) as exc:
            self._failure = self._failure or exc
            scope.cancel()

    async def _watch_end(self) -> None:
        await self._ended.wait()
        await self._send(Refusal(self.end_reason))
        raise FeedClosed(self.end_reason)

    async def _send(self, message: ToAgent) -> None:
        with trio.move_on_after(_SEND_WAIT):
            await self._transport.send(encode(message))
            return
        self._fleet.stats.event("send_timeout")
        raise FeedClosed(f"the agent took nothing for {_SEND_WAIT:.0f} s")

    async def _push(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while (push := self.book.next_push()) is not None:
                stats = self._fleet.stats
                stats.pushed([*(u.kind for u in push.upserts), *(r.kind for r in push.removals)])
                if isinstance(push, Push) and push.full:
                    stats.full_pushes.inc()
                await self._send(push)
            self._settle()

    def _settle(self) -> None:
        if self._since is not None and self.book.in_step:
            self._fleet.stats.convergence.observe(self._fleet.now() - self._since)
            self._since = None

    async def _ping(self) -> None:
        while True:
            await trio.sleep(_PING_EVERY)
            with trio.move_on_after(_PING_WAIT):
                await self._transport.ping()
                continue
            self._fleet.stats.event("ping_timeout")
            raise FeedClosed(f"the agent answered no ping for {_PING_WAIT:.0f} s")

    async def _receive(self) -> None:
        while True:
            message = decode_to_pilot(await self._transport.receive())
            if isinstance(message, Goodbye):
                raise FeedClosed(message.reason or "the agent said goodbye", clean=True)
            await self._take(message)

    async def _take(self, message: ToPilot) -> None:
        fleet = self._fleet
        if isinstance(message, Ack | Nack):
            self._answer(message)
        elif isinstance(message, SignRequest):
            response = fleet.sign(self.node, message)
            fleet.stats.signed(response.error)
            if response.error:
                fleet.log.warning("certificate refused", proxy=self.node.id, reason=response.error)
            await self._send(response)
        elif isinstance(message, Report):
            self.last_report = message
            self.last_report_at = fleet.wall()
            if left_out := self.traffic.add(message.requests):
                fleet.stats.event("traffic_overflow", left_out)
            fleet.reported(self, message)
        else:
            raise FeedError("a second hello in one session; an agent says hello once, first")

    def _answer(self, message: Ack | Nack) -> None:
        fleet = self._fleet
        if not self.book.receive(message):
            fleet.stats.stale_answer()
            return
        self.last_ack_at = fleet.wall()
        if isinstance(message, Nack):
            for rejected in message.rejected:
                fleet.stats.rejected(rejected.kind)
            named = "; ".join(f"{r.kind} {r.name}: {r.reason}" for r in message.rejected[:_NAMED])
            fleet.log.error(
                "resources rejected; the agent keeps their last good versions",
                proxy=self.node.id,
                count=len(message.rejected),
                rejected=named,
            )
        self._settle()
        self._wake.set()
        fleet.answered(self)


def check_caller(node: Node, caller: Caller) -> None:
    """The names must be names, and namespace and service account the certificate's. Raises Refused."""
    try:
        make(DEFAULT_TRUST_DOMAIN, node.namespace, node.service_account)
    except SpiffeError as exc:
        raise Refused("node", str(exc), "start the agent with Kubernetes names") from exc
    if not node.id.isprintable() or not 0 < len(node.id) <= _LONGEST_ID:
        remedy = f"use 1 to {_LONGEST_ID} printable characters"
        raise Refused("node", f"{node.id[:_LONGEST_ID]!r} is no id of an agent", remedy)
    who = caller.identity
    if who is not None and (who.namespace, who.service_account) != (node.namespace, node.service_account):
        raise Refused(
            "identity",
            f"{node.id} claims {node.namespace}/{node.service_account}, but its certificate is {who}",
            "start the agent with the namespace and service account of its certificate, or with the token",
        )


def check_workers(hello: Hello) -> None:
    """One node has a bounded number of sessions. Raises Refused."""
    if not 0 <= hello.worker < hello.workers <= _MOST_WORKERS:
        told = f"{hello.node.id} is worker {hello.worker} of {hello.workers}"
        raise Refused("node", told, f"run 1 to {_MOST_WORKERS} workers; they count from 0")


async def serve_session(transport: Transport, caller: Caller, fleet: Fleet, new_id: str) -> None:
    """Serve one agent on an authenticated transport until either end closes it; never raises for the peer's doing."""
    session: ProxySession | None = None
    at_once = False
    try:
        hello = await _hello(transport)
        check_caller(hello.node, caller)
        check_workers(hello)
        session = ProxySession(new_id, hello, caller, transport, fleet)
        await transport.send(encode(Welcome(new_id, session.features, __version__)))
        fleet.join(session)
        await session.run()
    except Refused as exc:
        fleet.stats.refused(exc.label)
        fleet.log.warning("agent refused", remote=caller.remote, reason=exc.reason, remedy=exc.remedy)
        await _refuse(transport, exc.reason, exc.remedy)
    except FeedError as exc:
        fleet.stats.refused("protocol")
        fleet.log.warning("agent broke the protocol", remote=caller.remote, reason=str(exc))
        await _refuse(transport, str(exc), "use an agent of the same version as the pilot")
    except FeedClosed as exc:
        at_once = exc.clean
        fleet.stats.event("closed" if exc.clean else "broken")
        fleet.log.info("session ended", remote=caller.remote, reason=exc.reason)
    finally:
        if session is not None:
            fleet.leave(session, at_once=at_once)
        with trio.move_on_after(_CLOSE_WAIT, shield=True):
            await transport.close()


async def _hello(transport: Transport) -> Hello:
    with trio.move_on_after(_HELLO_WAIT):
        message = decode_to_pilot(await transport.receive())
        if isinstance(message, Hello):
            return message
        raise FeedError(f"the first message is a {type(message).__name__}, not a hello")
    raise FeedClosed(f"no hello within {_HELLO_WAIT:.0f} s")


async def _refuse(transport: Transport, reason: str, remedy: str) -> None:
    with trio.move_on_after(5):
        try:
            await transport.send(encode(Refusal(reason, remedy)))
        except FeedClosed:
            return  # it has left already
