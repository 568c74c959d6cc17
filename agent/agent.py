"""The nursery tree of one agent, top to bottom: admin, access log, upkeep, sweeper, feed, reports, identity, listeners.

Born in that order, they die in the reverse one: in-flight exchanges keep their pools and their log while draining.
How the pilot is reached is injected, so that the same agent runs over WebSocket and within one process.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import trio

from agent.admin import Admin, Certificate, State
from agent.bootstrap import Bootstrap, Ready
from agent.certificates import shown_certificates, shown_secrets
from agent.codec.message import Limits as CodecLimits
from agent.dataplane import ClientSide, Dataplane, Downstream
from agent.doors import Doors, OwnDoors
from agent.downstream.listeners import Listeners
from agent.drain import drain
from agent.exchange.access_log import AccessLogWriter
from agent.exchange.access_log_format import AccessLog
from agent.exchange.stats import Stats
from agent.explain import explain_url
from agent.feed import Connect, FeedClient
from agent.identity import Identity, IdentityKeeper
from agent.plan import Plan, compile_plan
from agent.reporting import Health, Reporter, app_health
from agent.upstream.cluster import Cluster
from agent.upstream.endpoint import Endpoint
from agent.upstream.upkeep import Upkeep
from agent.websocket import Certificate as FeedCertificate
from mesh import config
from mesh.feed.message import Rejected
from mesh.feed.node import InboundPort, Node
from mesh.net.batch import WriteBatch
from mesh.net.readiness import Readiness
from mesh.net.shuttle import make_shuttle
from mesh.net.tcp import TcpListener
from mesh.telemetry.log import get_logger
from mesh.telemetry.metrics import Registry

_MESH_ALPN = ("istio-h2", "istio-http/1.1", "istio", "h2", "http/1.1")  # the callee chooses: the best first
_SWEEP = 0.25  # seconds between looks at deadlines and vanished clients
_TICK = 1.0  # seconds between looks at idle pools and ejections
_IDENTITY_WAIT = 5.0  # seconds for a certificate when the snapshot is from disk, so the pilot may be away


class Agent:
    """One sidecar or gateway. `run` is its life; `leave` ends it gracefully from another task."""

    def __init__(
        self,
        bootstrap: Bootstrap,
        connect: Connect,
        *,
        wall: Callable[[], float],
        rng: random.Random,
        needs_identity: bool,
        doors: Doors | None = None,
    ) -> None:
        self.registry = Registry()
        self._bootstrap = bootstrap
        self._connect = connect
        self._wall = wall
        self._rng = rng
        self._needs_identity = needs_identity
        self._log = get_logger("agent")
        self._clock = trio.lowlevel.current_clock().current_time
        self._started = trio.current_time()
        self._doors = doors or OwnDoors(bootstrap.admin_address, bootstrap.admin_port)
        self._prebound, ports = _bind_inbound(bootstrap, self._doors)
        self.node: Node = msgspec.structs.replace(bootstrap.node, ports=ports)
        self._stats = Stats(self.registry, self.node)
        self._dataplane = Dataplane(
            self.node,
            bootstrap.settings,
            stats=self._stats,
            log=get_logger("dataplane"),
            clock=self._clock,
            wall=wall,
            rng=rng,
        )
        self._dataplane.plan = Plan(config.Snapshot(), {}, {})
        self._plan: Plan | None = None
        self._identity: Identity | None = None
        self._feed: FeedClient | None = None
        self._keeper: IdentityKeeper | None = None
        self._reporter: Reporter | None = None
        self._listeners: Listeners | None = None
        self._upkeep: Upkeep | None = None
        self._configured = trio.Event()
        self._identified = trio.Event()
        self._leaving = trio.Event()
        self._live = False
        self._services: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[Ready | None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `leave` or cancellation; `started` when traffic is served, with None when told to leave before.

        Raises MeshError at start.
        """
        try:
            self._doors.open()
            await self._run(task_status)
        finally:
            self._release()

    async def _run(self, task_status: trio.TaskStatus[Ready | None]) -> None:
        async with trio.open_nursery() as services:
            self._services = services
            services.start_soon(self._doors.serve_admin, Admin(self).handle, name="admin port")
            self._open_access_log(services)
            batch = self._dataplane.batch = WriteBatch(services)
            trio.lowlevel.add_instrument(batch)
            services.start_soon(Readiness().run)
            shuttle = self._dataplane.shuttle = make_shuttle()
            if shuttle is not None:
                services.start_soon(shuttle.run, name="relay of small messages")
            self._upkeep = Upkeep(
                services,
                dns_refresh_rate=self._bootstrap.settings.dns_refresh_rate,
                on_failure=self._dns_failed,
                on_verdict=self._judged,
            )
            services.start_soon(self._dataplane.keep_deadlines, name="deadlines of tries")
            services.start_soon(self._dataplane.credentials.keep_files, name="certificate files")
            services.start_soon(self._sweep, name="sweeper")
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    self._listeners = Listeners(
                        self._dataplane,
                        accepting=accepting,
                        connections=connections,
                        gateway_address=self._bootstrap.bind,
                        port_map=self._bootstrap.port_map,
                        prebound=self._prebound,
                        bind=self._doors.bind,
                    )
                    await self._subscribe(services)
                    task_status.started(await self._wait_live())
                    await self._leaving.wait()
                    await self._drain()
                    accepting.cancel_scope.cancel()
                connections.cancel_scope.cancel()
            if self._feed is not None:
                await self._feed.goodbye("the agent is leaving")
            services.cancel_scope.cancel()

    def _release(self) -> None:
        if self._dataplane.batch is not None:
            trio.lowlevel.remove_instrument(self._dataplane.batch)
        for cluster in self.clusters():
            cluster.close()
        if self._listeners is not None:
            self._listeners.close()
        for sock in self._prebound.values():
            sock.close()

    def feed_certificate(self) -> FeedCertificate | None:
        """What this agent shows the pilot instead of its token, once it has it."""
        return self._keeper.certificate() if self._keeper is not None else None

    def leave(self) -> None:
        """Begin the graceful end; `run` returns when it is over."""
        self._leaving.set()

    # Birth

    def _open_access_log(self, services: trio.Nursery) -> None:
        settings = self._bootstrap.settings
        if not settings.access_log_file:
            return
        formatter = AccessLog.compile(settings.access_log_format or None, settings.access_log_encoding)
        writer = AccessLogWriter(settings.access_log_file, lambda reason: self._stats.refused("access_log", reason))
        for operator in formatter.not_served:
            self._log.warning("an access log operator is not served; it is written as -", operator=operator)
        self._dataplane.format_access_log = formatter.render
        self._dataplane.access_log = writer
        services.start_soon(writer.run, name="access log")

    async def _subscribe(self, services: trio.Nursery) -> None:
        state_path = Path(self._bootstrap.state_path) if self._bootstrap.state_path else None
        self._feed = FeedClient(
            self.node,
            self._connect,
            self._take_snapshot,
            log=get_logger("feed"),
            rng=self._rng,
            wall=self._wall,
            registry=self.registry,
            state_path=state_path,
            worker=self._bootstrap.worker,
            workers=self._bootstrap.workers,
        )
        self._reporter = Reporter(self, self._feed, self._stats, clock=self._clock, wall=self._wall)
        self._feed.on_session = self._reporter.wake
        await services.start(self._feed.run, name="feed")
        services.start_soon(self._reporter.run, name="reports to the pilot")
        if self._needs_identity:
            self._keeper = IdentityKeeper(
                self._feed,
                self._take_identity,
                log=get_logger("identity"),
                rng=self._rng,
                wall=self._wall,
                registry=self.registry,
                server_alpn=_MESH_ALPN,
                ttl=self._bootstrap.settings.certificate_ttl,
            )
            services.start_soon(self._keeper.run, name="identity")

    async def _wait_live(self) -> Ready | None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_waiting_when_told_to_leave, nursery.cancel_scope, name="told to leave")
            await self._configured.wait()
            if self._needs_identity:
                await self._wait_identified()
            nursery.cancel_scope.cancel()
        if self._leaving.is_set():
            return None
        self._live = True
        return self.ready()

    async def _stop_waiting_when_told_to_leave(self, waiting: trio.CancelScope) -> None:
        await self._leaving.wait()
        waiting.cancel()

    async def _wait_identified(self) -> None:
        """A restart while the pilot is away must not hold back what needs no certificate."""
        from_disk = self._feed is not None and self._feed.state.from_disk
        with trio.move_on_after(_IDENTITY_WAIT if from_disk else math.inf):
            await self._identified.wait()
            return
        self._stats.refused("identity", "no_certificate_yet")
        self._log.warning("no certificate yet: plaintext is served, mTLS when the pilot has signed one")

    def ready(self) -> Ready:
        """Where this agent can be reached now."""
        assert self._listeners is not None
        upstreams = {
            listener.config.service: listener.sock.name
            for listener in self._listeners.bound.values()
            if listener.config.service
        }
        return Ready(admin=self._doors.admin, listeners=self._listeners.addresses(), upstreams=upstreams)

    # What comes in while it lives

    def _take_snapshot(self, snapshot: config.Snapshot) -> Sequence[Rejected]:
        """Compile and swap: synchronous, so no request sees half of it."""
        assert self._listeners is not None
        assert self._upkeep is not None
        rejected = self._dataplane.credentials.apply(snapshot)
        plan, more = compile_plan(snapshot, self._plan, self._make_cluster)
        rejected += more
        gone = self._plan.clusters.keys() - plan.clusters.keys() if self._plan is not None else ()
        self._plan = self._dataplane.plan = plan
        for name in gone:
            self._stats.forget_cluster(name)
        for sentence in plan.reports():
            self._log.warning("a route is served in part", what=sentence)
        self._upkeep.adopt(plan.clusters.values(), snapshot.endpoints)
        rejected += self._listeners.apply(snapshot.listeners.values())
        self._configured.set()
        return rejected

    def _make_cluster(self, settings: config.Cluster) -> Cluster:
        limits = self._bootstrap.settings
        return Cluster(
            settings,
            clock=self._clock,
            rng=self._rng,
            identity=lambda: self._dataplane.identity,
            credentials=self._dataplane.credentials,
            stats=self._stats.cluster(settings.name),
            codec_limits=CodecLimits(limits.max_request_headers_kb * 1024, limits.max_headers_count),
            engine=limits.codec,
            nursery=self._services,
            batch=lambda: self._dataplane.batch,
            refused=self._stats.refused,
            ejections_changed=self._report_soon,
        )

    def _take_identity(self, identity: Identity) -> None:
        self._identity = self._dataplane.identity = identity
        self._stats.set_principal(str(identity.spiffe_id))
        self._identified.set()
        self._report_soon()

    def _dns_failed(self, cluster: str, reason: str) -> None:
        self._stats.refused("dns", "resolve_failed")
        self._log.warning("a name does not resolve; the last addresses stay", cluster=cluster, reason=reason)

    def _judged(self, cluster: Cluster, endpoint: Endpoint) -> None:
        if endpoint.checked:
            self._log.info("health checks pass", cluster=cluster.name, endpoint=endpoint.name)
        elif not endpoint.check.successes:  # an app that is starting is no fault
            self._log.info("health checks do not pass yet", cluster=cluster.name, endpoint=endpoint.name)
        else:
            reason = endpoint.check.last_error
            self._log.warning("health checks fail", cluster=cluster.name, endpoint=endpoint.name, reason=reason)
        self._report_soon()

    def _report_soon(self) -> None:
        if self._reporter is not None:
            self._reporter.wake()

    async def _sweep(self) -> None:
        next_tick = 0.0
        while True:
            await trio.sleep(_SWEEP)
            now = self._clock()
            self._dataplane.sweep(now)
            if now >= next_tick and self._plan is not None:
                next_tick = now + _TICK
                for cluster in self._plan.clusters.values():
                    cluster.tick(now)

    async def _drain(self) -> None:
        self._live = False
        self._report_soon()
        cut = await drain(self._dataplane, self._bootstrap.settings.drain_time)
        if cut:
            self._log.warning("connections cut at the end of the drain time", connections=cut)

    # What the admin port asks

    @property
    def state(self) -> State:
        """LIVE serves; INITIALIZING waits for the pilot or a certificate."""
        if self._leaving.is_set():
            return "DRAINING"
        if self._live:
            return "LIVE"
        return "INITIALIZING" if self._configured.is_set() else "PRE_INITIALIZING"

    @property
    def snapshot(self) -> config.Snapshot | None:
        """What is in force."""
        return self._plan.snapshot if self._plan is not None else None

    def bootstrap(self) -> Mapping[str, Any]:
        """Settings that the agent started with; they hold no secrets."""
        made: dict[str, Any] = msgspec.to_builtins(self._bootstrap, str_keys=True)
        return made

    def clusters(self) -> Iterable[Cluster]:
        """The living clusters."""
        return self._plan.clusters.values() if self._plan is not None else ()

    def connections(self) -> Iterable[Downstream]:
        """The clients' connections."""
        return self._dataplane.connections

    def exchanges(self) -> Iterable[ClientSide]:
        """The client's sides of exchanges, idle ones too."""
        return self._dataplane.exchanges

    def listeners(self) -> Mapping[str, str]:
        """Listener name to bound address."""
        return self._listeners.addresses() if self._listeners is not None else {}

    def feed(self) -> Mapping[str, Any]:
        """How the subscription stands."""
        made: dict[str, Any] = msgspec.to_builtins(self._feed.state) if self._feed is not None else {}
        return made

    def health(self) -> Health:
        """What the pilot is told of this workload: its app's health, until it leaves."""
        if self._leaving.is_set() or self._dataplane.draining:
            return "draining"
        return app_health(self.clusters())

    def certificate_expiry(self) -> float:
        """When the certificate in use ends, seconds since the epoch; 0 without one."""
        return self._identity.not_after if self._identity is not None else 0.0

    def certificates(self) -> Sequence[Certificate]:
        """Certificates in use."""
        own = shown_certificates(self._identity) if self._identity is not None else ()
        return (*own, *shown_secrets(self._dataplane.credentials.secrets()))

    def wall(self) -> float:
        """Seconds since the epoch."""
        return self._wall()

    def uptime(self) -> float:
        """Seconds since start."""
        return self._clock() - self._started

    def explain(self, method: str, url: str, headers: Sequence[tuple[str, str]]) -> Any:
        """Where a request would go from here, and why."""
        return explain_url(
            self.snapshot or config.Snapshot(), method, url, headers, role=self.node.role, plan=self._plan
        )

    def drain(self) -> None:
        """Mark answers and close idle connections, but stay (a preStop hook)."""
        self._dataplane.draining = True
        self._report_soon()

    def quit(self) -> None:
        """Drain and end."""
        self.leave()


def _bind_inbound(bootstrap: Bootstrap, doors: Doors) -> tuple[dict[str, TcpListener], tuple[InboundPort, ...]]:
    if bootstrap.node.role != "sidecar" or not bootstrap.app_port:
        return {}, ()
    name = f"inbound|{bootstrap.app_port}||"
    sock = doors.bind(name, "127.0.0.1", 0)
    return {name: sock}, (InboundPort(bootstrap.app_port, sock.address, sock.port),)
