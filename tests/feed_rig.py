"""A pilot's feed with a hard-wired translator, and agents that subscribe to it, for tests of either side."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from agent.feed import Connect, FeedClient
from agent.websocket import WebSocketWay
from mesh import config
from mesh.config import Snapshot
from mesh.feed.message import Ack, Hello, Push, Rejected, ToAgent, ToPilot, Welcome, decode_to_agent, encode
from mesh.feed.node import Node
from mesh.feed.transport import FeedClosed, Transport
from mesh.identity.contexts import feed_server_context
from mesh.telemetry.metrics import Registry
from pilot.ca import authority as authorities
from pilot.ca import signing, tokens
from pilot.push.debounce import Debounce
from pilot.push.fleet import Fleet
from pilot.push.memory import memory_pair
from pilot.push.registrations import Registrations
from pilot.push.server import FeedServer
from pilot.push.session import Caller, serve_session
from pilot.push.stats import PushStats
from pilot.push.translations import Translated, Translations

M = TypeVar("M", bound=ToAgent)
NOW = 1_700_000_000.0
DEADLINE = 20.0


class FakeLog:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self._more = trio.Event()

    def info(self, event: str, /, **fields: Any) -> None:
        self.lines.append((event, fields))
        self._more.set()
        self._more = trio.Event()

    async def wait(self, true: Callable[[str, dict[str, Any]], bool], count: int = 1) -> None:
        """Return when `count` lines are such."""
        with trio.fail_after(DEADLINE):
            while sum(true(event, fields) for event, fields in self.lines) < count:
                await self._more.wait()

    warning = info
    error = info


def cluster(name: str, *, timeout: float = 10.0) -> config.Cluster:
    """A cluster told apart by its connect timeout."""
    return config.Cluster(name=name, connection=config.ConnectionSettings(connect_timeout=timeout))


def endpoints(name: str, *ports: int) -> config.ClusterEndpoints:
    """Endpoints on loopback."""
    return config.ClusterEndpoints(name, tuple(config.Endpoint("127.0.0.1", port) for port in ports))


def snapshot(*clusters: config.Cluster, eds: tuple[config.ClusterEndpoints, ...] = ()) -> Snapshot:
    """A snapshot of clusters and their endpoints."""
    return Snapshot(clusters={c.name: c for c in clusters}, endpoints={e.cluster: e for e in eds})


class PilotRig:
    """The push side of a pilot; `told` is what every proxy is told."""

    def __init__(self, state_dir: Path, *, debounce: Debounce | None = None, wall: Callable[[], float]) -> None:
        self.state_dir = state_dir
        self.told = snapshot(cluster("a"))
        self.wall = wall
        self.log = FakeLog()
        self.registry = Registry()
        self.authority = authorities.load_or_create(state_dir, trust_domain="cluster.local", now=wall())
        self.token = tokens.load_or_create(state_dir)
        self.registrations = Registrations(state_dir / "workloads.json")
        self.translations = Translations(lambda node: node.role, lambda node: Translated(self.told))
        self.fleet = Fleet(
            self.translations,
            self.registrations,
            lambda node, request: signing.sign(
                self.authority,
                request,
                namespace=node.namespace,
                service_account=node.service_account,
                now=wall(),
            ),
            stats=PushStats(self.registry, version="test"),
            log=self.log,
            wall=wall,
            debounce=debounce or Debounce(),
        )
        chain, key, _ = signing.server_certificate(self.authority, ("localhost", "127.0.0.1"), now=wall())
        self.context = feed_server_context(chain, key, self.authority.roots_pem)
        self.port = 0

    @property
    def url(self) -> str:
        return f"wss://127.0.0.1:{self.port}/feed"

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[PilotRig]:
        """Serve on loopback for the body."""
        [listener] = await trio.open_tcp_listeners(port, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        server = FeedServer(self.fleet, self.token, lambda: self.context)
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(self.fleet.run)
            nursery.start_soon(server.serve, listener)
            yield self
            nursery.cancel_scope.cancel()

    def tell(self, told: Snapshot, **how: bool) -> int:
        """Change what proxies are told."""
        self.told = told
        return self.fleet.changed("config", **how)

    def metric(self, line: str) -> float:
        """The value of the sample that starts with `line`."""
        for text in self.registry.exposition().decode().splitlines():
            if text.startswith(line):
                return float(text.rsplit(" ", 1)[1])
        return 0.0


class AgentRig:
    """An agent's feed that keeps the snapshots it was given."""

    def __init__(
        self,
        id: str,
        connect: Connect,
        *,
        wall: Callable[[], float],
        state_path: Path | None = None,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        self.snapshots: list[Snapshot] = []
        self.refuse: dict[str, str] = {}
        self.log = FakeLog()
        self.registry = Registry()
        self._changed = trio.Event()
        self.client = FeedClient(
            node(id),
            connect,
            self.take,
            log=self.log,
            rng=random.Random(7),
            wall=wall,
            registry=self.registry,
            state_path=state_path,
            worker=worker,
            workers=workers,
        )

    def take(self, given: Snapshot) -> list[Rejected]:
        """Refuse clusters named in `refuse`, with the reason there, when they are not the default form."""
        bad = [
            Rejected("cluster", name, self.refuse[name])
            for name, each in given.clusters.items()
            if name in self.refuse and each.connection.connect_timeout != 10.0
        ]
        if not bad:
            self.snapshots.append(given)
            self._changed.set()
            self._changed = trio.Event()
        return bad

    async def wait(self, true: Callable[[Snapshot], bool]) -> Snapshot:
        """The first snapshot, from now on or the current, for which `true` holds."""
        with trio.fail_after(DEADLINE):
            while not (self.snapshots and true(self.snapshots[-1])):
                await self._changed.wait()
        return self.snapshots[-1]

    def counted(self, event: str) -> float:
        """How often an event was counted."""
        line = f'trioweave_agent_feed_events_total{{event="{event}"}}'
        for text in self.registry.exposition().decode().splitlines():
            if text.startswith(line):
                return float(text.rsplit(" ", 1)[1])
        return 0.0


def node(id: str, **fields: Any) -> Node:
    """A sidecar of the default namespace."""
    return Node(id, "sidecar", agent_version="1", **fields)


def way(pilot: PilotRig, **overrides: Any) -> WebSocketWay:
    """An agent's way to this pilot, with the right token and trust bundle unless overridden."""
    files = {"token_file": pilot.state_dir / "token", "ca_file": pilot.state_dir / "root-cert.pem"}
    return WebSocketWay(pilot.url, wall=pilot.wall, **{**files, **overrides})


class Peer:
    """An agent's end of a memory pair, played by the test, message by message."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    async def send(self, *messages: ToPilot) -> None:
        for message in messages:
            await self.transport.send(encode(message))

    async def receive(self) -> ToAgent:
        with trio.fail_after(DEADLINE):
            return decode_to_agent(await self.transport.receive())

    async def expect(self, kind: type[M]) -> M:
        """The next message, which is of this kind."""
        message = await self.receive()
        assert isinstance(message, kind), message
        return message

    async def join(self, id: str, worker: int = 0, workers: int = 1, **fields: Any) -> Push:
        """Hello, and take the first push."""
        await self.send(Hello(node(id, **fields), worker=worker, workers=workers))
        await self.expect(Welcome)
        push = await self.expect(Push)
        await self.send(Ack(push.nonce))
        return push

    async def ended(self) -> FeedClosed:
        """Read on until the pilot closes."""
        try:
            while True:
                await self.receive()
        except FeedClosed as exc:
            return exc


class MemoryMesh:
    """A fleet, running, with peers over memory."""

    def __init__(self, pilot: PilotRig, nursery: trio.Nursery) -> None:
        self.pilot = pilot
        self.nursery = nursery
        self.gone: list[str] = []
        self._count = 0

    def peer(self, caller: Caller | None = None) -> Peer:
        """A new session's other end."""
        ours, theirs = memory_pair()
        self._count += 1
        who = caller or Caller("memory", "test")
        self.nursery.start_soon(serve_session, ours, who, self.pilot.fleet, f"s{self._count}")
        return Peer(theirs)


@asynccontextmanager
async def memory_mesh(state_dir: Path, **options: Any) -> AsyncIterator[MemoryMesh]:
    """A pilot whose agents are played by the test, on the test's clock."""
    pilot = PilotRig(state_dir, wall=lambda: NOW + trio.current_time(), **options)
    async with trio.open_nursery() as nursery:
        mesh = MemoryMesh(pilot, nursery)
        pilot.fleet.on_workload = lambda arrived, gone: mesh.gone.append(gone.id) if gone else None
        nursery.start_soon(pilot.fleet.run)
        yield mesh
        nursery.cancel_scope.cancel()
