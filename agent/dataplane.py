"""What every part of the data path shares: the plan in force, clock, randomness, identity, telemetry, connections.

One per agent. The plan is swapped in one assignment; an exchange reads it once and keeps it to its end.
"""

from __future__ import annotations

import hashlib
import random
import ssl
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol

import trio

from agent.bootstrap import Settings
from agent.credentials import Credentials
from agent.exchange.canonical import path_rules
from agent.exchange.record import Record
from agent.exchange.request_ids import RequestIds
from agent.policy.authz import Facts
from agent.policy.chain import OPEN
from mesh import config
from mesh.feed.node import Node
from mesh.identity.spiffe import SpiffeId
from mesh.net.batch import WriteBatch
from mesh.net.shuttle import Shuttle
from mesh.net.splice import Pipes
from mesh.net.tcp import Transport

if TYPE_CHECKING:
    from agent.exchange.stats import Stats
    from agent.plan import Plan
    from mesh.telemetry.log import Logger


class Identity(Protocol):
    """The workload's certificates in their ready form; swapped whole at rotation."""

    @property
    def server_context(self) -> ssl.SSLContext: ...
    @property
    def client_context(self) -> ssl.SSLContext: ...
    @property
    def spiffe_id(self) -> SpiffeId: ...

    def server_context_for(self, alpn: tuple[str, ...]) -> ssl.SSLContext:
        """The server's context with another list of ALPN names."""

    def client_context_for(self, alpn: tuple[str, ...]) -> ssl.SSLContext:
        """The client's context with another list of ALPN names."""


class LineSink(Protocol):
    """Where lines of the access log go; `write` never blocks."""

    def write(self, line: bytes) -> None: ...


class Cuttable(Protocol):
    """A wait that somebody else may end: a cancel scope, or a try in flight."""

    def cancel(self) -> object: ...


class Timed(Cuttable, Protocol):
    """A try with a deadline, in seconds of the injected clock."""

    @property
    def deadline(self) -> float: ...


class Tries(Protocol):
    """An exchange's way upstream, as `/tasks` sees it; deadlines in seconds of the injected clock."""

    @property
    def deadline(self) -> float:
        """When the try in flight is cut."""

    @property
    def whole_deadline(self) -> float:
        """When the route's timeout ends."""

    def waits_for(self) -> str:
        """One of mesh.telemetry.tasks.WAITS."""


class ClientSide(Protocol):
    """The client's side of one exchange, as the sweeper and `/tasks` see it."""

    downstream: Downstream
    record: Record | None
    """What is known of the exchange; None between two of them on an HTTP/1 connection."""
    forward: Tries | None
    """Its way upstream, while it is on it."""
    bytes_in: int
    bytes_out: int
    complete: bool
    tunnelled: bool

    attempt: Cuttable | None
    """What ends the try in flight, if there is one."""
    busy_since: float
    """When the exchange began."""
    client_gone: bool
    """Set when the client has hung up: the reason why its try was cut."""

    @property
    def deadline(self) -> float:
        """When the client has been silent for too long, or the exchange has lasted too long."""

    def expire(self) -> None:
        """End the exchange: its deadline has passed."""

    @property
    def writing(self) -> bool:
        """Whether the client has yet to take what was sent."""

    def hung_up(self) -> bool:
        """Whether the client has closed its connection; never blocks."""


class Downstream:
    """One accepted connection. `scope` encloses its task; `deadline` is looked at by the sweeper.

    `address` is the client's bare IP address, once an exchange has asked for it.
    `direct` is the peer's own address where a PROXY header told another, which then is the transport's.
    `guard` holds the policies that it is under, `facts` what they were last asked about, `server_name` the SNI of its
    ClientHello. `tls`: it came under TLS that ended here, `alpn` is what was agreed on ("" when nothing was). `peer` is
    who the client proved to be. `busy` is False only between exchanges, when the connection may be closed without loss.
    `drain` is set by a driver that has to say goodbye in its own words; without it, a connection is closed when idle.
    `task` serves it.
    """

    __slots__ = (
        "address",
        "alpn",
        "busy",
        "client_cert",
        "config",
        "deadline",
        "direct",
        "drain",
        "facts",
        "guard",
        "peer",
        "principal",
        "scope",
        "server_name",
        "source",
        "task",
        "timed_out",
        "tls",
        "transport",
    )

    def __init__(self, transport: Transport, settings: config.Listener, now: float) -> None:
        self.transport = transport
        self.address = b""
        self.direct = ""
        self.config = settings
        self.scope = trio.CancelScope()
        self.deadline = float("inf")
        self.timed_out = False
        self.guard = OPEN
        self.facts: Facts | None = None
        self.server_name = ""
        self.tls = False
        self.alpn = ""
        self.peer: SpiffeId | None = None
        self.principal = ""
        self.source: config.Workload | None = None
        self.client_cert = b""
        self.busy = True
        self.task: trio.lowlevel.Task | None = None
        self.drain: Callable[[], None] | None = None

    def leave(self) -> None:
        """Part from the client without loss, as soon as that can be; called again and again while draining."""
        if self.drain is not None:
            self.drain()
        elif not self.busy:
            self.scope.cancel()

    def secure(self, transport: Transport, alpn: str) -> None:
        """The handshake is done: from here on bytes go through `transport`."""
        self.transport = transport
        self.tls = True
        self.alpn = alpn

    def identify(self, peer: SpiffeId, own: SpiffeId, certificate: bytes) -> None:
        """A workload of the mesh proved who it is: remember it, and its element of x-forwarded-client-cert."""
        self.know(peer)
        digest = hashlib.sha256(certificate).hexdigest()
        self.client_cert = f'By={own};Hash={digest};Subject="";URI={peer}'.encode()

    def know(self, peer: SpiffeId) -> None:
        """Remember who the peer is, for policy and telemetry."""
        self.peer = peer
        self.principal = str(peer)
        self.source = config.Workload(
            name=peer.service_account, namespace=peer.namespace, service_account=peer.service_account
        )


class Dataplane:
    """Shared by listeners, exchanges and clusters of one agent."""

    def __init__(
        self,
        node: Node,
        settings: Settings,
        *,
        stats: Stats,
        log: Logger,
        clock: Callable[[], float],
        wall: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self.node = node
        self.settings = settings
        self.path_rules = path_rules(settings)
        self.stats = stats
        self.log = log
        self.clock = clock
        self.wall = wall
        self.rng = rng
        self.request_ids = RequestIds(rng)
        self.plan: Plan
        self.batch: WriteBatch | None = None
        self.pipes = Pipes(stats.refused)
        self.shuttle: Shuttle | None = None
        self.now = clock()
        """A recent time: good enough for idle deadlines, and free."""
        self._armed: set[Timed] = set()
        self._next_deadline = float("inf")
        self._sooner = trio.Event()
        self._date = b""
        self._date_second = -1
        self.identity: Identity | None = None
        self.credentials = Credentials(log)
        self.connections: set[Downstream] = set()
        self.exchanges: set[ClientSide] = set()
        """Client sides of exchanges under way; HTTP/1 connections keep theirs from one exchange to the next."""
        self.draining = False
        stats.watch_exchanges(self._under_way)
        self.access_log: LineSink | None = None
        self.format_access_log: Callable[[Record, float], bytes] | None = None

    def http_date(self) -> bytes:
        """Now as an IMF-fixdate (RFC 9110 5.6.7), rendered once a second."""
        now = self.wall()
        second = int(now)
        if second != self._date_second:
            self._date_second = second
            self._date = formatdate(second, usegmt=True).encode()
        return self._date

    def downstream_full(self) -> bool:
        """Whether one more connection would exceed `max_connections`."""
        return len(self.connections) >= self.settings.max_connections

    def _under_way(self, prefix: str) -> int:
        inbound = prefix == "inbound"
        return sum(side.record is not None and side.record.inbound == inbound for side in self.exchanges)

    def finish(self, record: Record) -> None:
        """An exchange is over: metrics and one line in the access log."""
        record.end = self.now = self.clock()
        self.stats.record(record)
        self._log(record)

    def _log(self, record: Record) -> None:
        if self.access_log is not None and self.format_access_log is not None:
            self.access_log.write(self.format_access_log(record, self.wall()))

    def finish_tcp(self, record: Record) -> None:
        """A relayed connection is over."""
        self.stats.tcp_closed(record)
        self._log(record)

    def arm(self, timed: Timed) -> None:
        """Have `timed` cancelled at its deadline, unless it is disarmed before."""
        self._armed.add(timed)
        if timed.deadline < self._next_deadline:
            self._next_deadline = timed.deadline
            self._sooner.set()

    @property
    def armed(self) -> int:
        """How many tries have a deadline now."""
        return len(self._armed)

    def disarm(self, timed: Timed) -> None:
        """The try is over."""
        self._armed.discard(timed)

    async def keep_deadlines(self) -> None:
        """The one clock of all tries. It wakes at the earliest deadline and when a sooner one is armed: rarely,
        because deadlines mostly come in the order in which they end."""
        while True:
            with trio.CancelScope(deadline=self._next_deadline):
                await self._sooner.wait()
            self._sooner = trio.Event()
            now = self.clock()
            self._next_deadline = float("inf")
            for timed in tuple(self._armed):
                if timed.deadline <= now:
                    self._armed.discard(timed)
                    timed.cancel()
                elif timed.deadline < self._next_deadline:
                    self._next_deadline = timed.deadline

    def sweep(self, now: float) -> None:
        """Cancel connections past their deadline, and exchanges whose client has hung up.

        Called a few times a second: one pass here is cheaper than a timer and a watcher per request.
        """
        self.now = now
        for connection in self.connections:
            if connection.deadline <= now:
                connection.timed_out = True
                connection.scope.cancel()
        for side in tuple(self.exchanges):
            if side.deadline <= now:
                side.expire()
            elif side.attempt is not None and now - side.busy_since > _SLOW and side.hung_up():
                side.client_gone = True
                side.attempt.cancel()


_SLOW = 0.1
"""Seconds after which an exchange counts as waiting, and its client is asked whether it is still there."""
