"""A data plane without a feed, for tests: a hand-made snapshot in, real loopback sockets around it.

`serving` runs listeners, clock, sweeper and write batch as the agent does; `ScriptedUpstream` is what stands behind
them, `Wire` speaks HTTP/1 over any transport, and `mesh_identity` makes certificates of a test mesh.
"""

from __future__ import annotations

import functools
import itertools
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import trio
import trio.testing
from msgspec import Struct

from agent.bootstrap import Settings
from agent.codec.message import Limits as CodecLimits
from agent.dataplane import Dataplane
from agent.downstream.listeners import Listeners
from agent.exchange.record import Record
from agent.exchange.stats import Stats
from agent.identity import Identity
from agent.plan import Plan, compile_plan
from agent.upstream.cluster import Cluster
from agent.upstream.stats import ClusterStats
from agent.websocket import Certificate
from mesh import config
from mesh.feed.message import Rejected
from mesh.feed.node import Node
from mesh.identity.contexts import mesh_client_context, mesh_server_context
from mesh.identity.pki import Issuer, make_csr, make_key, make_root
from mesh.identity.spiffe import make
from mesh.net.batch import WriteBatch
from mesh.net.readiness import Readiness
from mesh.net.shuttle import make_shuttle
from mesh.net.tcp import TcpListener, TcpTransport, Transport, connect, listen
from mesh.net.tls import TlsTransport
from mesh.telemetry.metrics import Registry

NOW = time.time()  # noqa: TID251  OpenSSL checks certificates against the real clock
MESH_ALPN = ("istio-http/1.1", "istio")
LOOPBACK = "127.0.0.1"
SWEEP = 0.25
engine = "auto"
"""The codec of what `serving` serves, where its settings leave the choice; the fixture `engine` sets it."""


# Certificates


@functools.cache
def mesh_root(domain: str = "cluster.local") -> tuple[bytes, Issuer]:
    """Root certificate and issuer of a trust domain, made once per run of the tests."""
    root, key = make_root(domain, now=NOW, lifetime=86400)
    return root, Issuer(root, key)


@functools.cache
def mesh_identity(
    account: str = "default",
    *,
    domain: str = "cluster.local",
    root: str = "cluster.local",
    alpn: tuple[str, ...] = MESH_ALPN,
    uri: str = "",
) -> Identity:
    """A workload's identity; `root` names the authority that signed it, `uri` overrides its SPIFFE id."""
    roots, issuer = mesh_root(root)
    key = make_key()
    spiffe_id = make(domain, "default", account)
    chain = issuer.sign_workload(make_csr(key), uri or spiffe_id.uri, now=NOW, ttl=3600)
    return Identity(
        spiffe_id=spiffe_id,
        server_context=mesh_server_context(chain, key, roots, alpn),
        client_context=mesh_client_context(chain, key, roots, alpn),
        certificate=Certificate(chain, key, NOW + 3600),
        roots_pem=roots,
        not_before=NOW,
    )


# Connections


@asynccontextmanager
async def listening() -> AsyncIterator[TcpListener]:
    """A bound loopback listener that nobody accepts from yet."""
    listener = listen(LOOPBACK, 0)
    try:
        yield listener
    finally:
        listener.close()


@asynccontextmanager
async def tcp_pair() -> AsyncIterator[tuple[TcpTransport, TcpTransport]]:
    """Two ends of one connection: (client, server)."""
    async with listening() as listener:
        client = await connect(LOOPBACK, listener.port)
        server = await listener.accept()
    try:
        yield client, server
    finally:
        client.close()
        server.close()


@asynccontextmanager
async def tls_pair(
    client: Identity | None = None, server: Identity | None = None
) -> AsyncIterator[tuple[TlsTransport, TlsTransport]]:
    """Two ends of one mesh TLS session, after the handshake: (client, server)."""
    near_context = (client or mesh_identity("client")).client_context
    far_context = (server or mesh_identity("server")).server_context
    async with tcp_pair() as (near, far):
        ends = (
            TlsTransport(near, near_context, server_side=False),
            TlsTransport(far, far_context, server_side=True),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends[0].handshake)
            nursery.start_soon(ends[1].handshake)
        yield ends


class Message(Struct):
    """A request or response as it was on the wire; names are lower case, the body is decoded."""

    first: bytes
    headers: dict[bytes, bytes]
    body: bytes = b""

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.first.split(b" ")[1])

    @property
    def path(self) -> bytes:
        """Of a request."""
        return self.first.split(b" ")[1]


class HungUp(Exception):
    """The peer closed before a whole message had come."""


class Wire:
    """Plain, strict-enough HTTP/1 over a transport, for either side of a test."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._buffer = bytearray()

    async def send(self, data: bytes) -> None:
        await self.transport.send(data)

    async def head(self) -> Message:
        """Next head, its body unread. Raises HungUp at end of stream."""
        head = await self._until(b"\r\n\r\n")
        first, *fields = head.split(b"\r\n")
        pairs = (field.split(b":", 1) for field in fields)
        return Message(first, {name.lower(): value.strip() for name, value in pairs})

    async def message(self) -> Message:
        """Next head with its body (by length, chunked, or none)."""
        return await self.body(await self.head())

    async def body(self, found: Message) -> Message:
        """The body of a head that was read."""
        if found.headers.get(b"transfer-encoding") == b"chunked":
            while size := int(await self._until(b"\r\n"), 16):
                found.body += (await self.take(size + 2))[:-2]
            await self._until(b"\r\n")
        else:
            found.body = await self.take(int(found.headers.get(b"content-length", b"0")))
        return found

    async def ask(self, path: bytes = b"/", *, host: bytes = b"app", extra: bytes = b"") -> Message:
        """One GET and its answer."""
        await self.send(b"GET " + path + b" HTTP/1.1\r\nhost: " + host + b"\r\n" + extra + b"\r\n")
        return await self.message()

    async def take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def rest(self) -> bytes:
        """Everything to the end of the stream."""
        while more := await self.transport.receive():
            self._buffer += more
        return await self.take(len(self._buffer))

    async def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            await self._more()
        data, _, self._buffer = self._buffer.partition(end)
        return bytes(data)

    async def _more(self) -> None:
        data = await self.transport.receive()
        if not data:
            raise HungUp(self._buffer.decode("latin-1"))
        self._buffer += data

    async def answer(self, status: int = 200, body: bytes = b"", extra: bytes = b"") -> None:
        """A response of known length."""
        await self.send(b"HTTP/1.1 %d x\r\n%scontent-length: %d\r\n\r\n%s" % (status, extra, len(body), body))

    def close(self) -> None:
        self.transport.close()


@asynccontextmanager
async def connected(port: int, identity: Identity | None = None, *, host: str = LOOPBACK) -> AsyncIterator[Wire]:
    """A client's connection, under mesh TLS when it has an identity."""
    transport: Transport = await connect(host, port)
    try:
        if identity is not None:
            transport = TlsTransport(transport, identity.client_context, server_side=False)
            await transport.handshake()
        yield Wire(transport)
    finally:
        transport.close()


class FakeNames(trio.abc.HostnameResolver):
    """A resolver that knows `table`; a name mapped to None never answers. `asked` counts questions."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.table = table
        self.asked = 0

    async def getaddrinfo(self, host: Any, port: Any, *args: Any, **how: Any) -> Any:
        self.asked += 1
        name = host.decode() if isinstance(host, bytes) else host
        found = self.table.get(name, ())
        if found is None:
            await trio.sleep_forever()
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


# Upstream

Script = Callable[["ScriptedUpstream", Wire], Awaitable[None]]


async def echo(upstream: ScriptedUpstream, wire: Wire) -> None:
    """Answer every request with its path, or with its body when it has one."""
    while True:
        request = await wire.message()
        upstream.requests.append(request)
        await wire.answer(body=request.body or request.path)


async def mirror(upstream: ScriptedUpstream, wire: Wire) -> None:
    """Send opaque bytes back, then end of stream."""
    while data := await wire.transport.receive():
        await wire.send(data)
    await wire.transport.send_eof()


class ScriptedUpstream:
    """A server whose every connection runs `script` and is then closed. `accepted` and `open` count them."""

    def __init__(self, script: Script = echo, identity: Identity | None = None) -> None:
        self.script = script
        self.identity = identity
        self.requests: list[Message] = []
        self.accepted = 0
        self.open = 0
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedUpstream]:
        """Serve for the body."""
        async with listening() as listener, trio.open_nursery() as nursery:
            self.port = listener.port
            nursery.start_soon(self._accept, listener, nursery)
            yield self
            nursery.cancel_scope.cancel()

    async def _accept(self, listener: TcpListener, nursery: trio.Nursery) -> None:
        while True:
            transport = await listener.accept()
            self.accepted += 1
            nursery.start_soon(self._serve, transport)

    async def _serve(self, transport: Transport) -> None:
        self.open += 1
        try:
            if self.identity is not None:
                transport = TlsTransport(transport, self.identity.server_context, server_side=True)
                await transport.handshake()
            await self.script(self, Wire(transport))
        except (HungUp, OSError, trio.BrokenResourceError):
            pass  # the proxy hung up, which is for the test to judge
        finally:
            self.open -= 1
            transport.close()


# Snapshots and what serves them


def cluster(name: str = "app", **fields: Any) -> config.Cluster:
    """A cluster; fields of `breakers` and `connection` may be given as dicts."""
    for key, kind in (("breakers", config.CircuitBreakers), ("connection", config.ConnectionSettings)):
        if isinstance(fields.get(key), dict):
            fields[key] = kind(**fields[key])
    return config.Cluster(name, **fields)


def endpoint(port: int, **fields: Any) -> config.Endpoint:
    """An endpoint on loopback."""
    return config.Endpoint(LOOPBACK, port, **fields)


def http_listener(name: str = "web", route_config: str = "web", **fields: Any) -> config.Listener:
    """A gateway's HTTP listener on a free port."""
    chain = config.FilterChain("http", http=config.HttpChain(route_config, **fields))
    return config.Listener(name, "gateway", LOOPBACK, 0, (chain,))


def tcp_listener(*clusters: tuple[str, int], name: str = "raw", **fields: Any) -> config.Listener:
    """A gateway's TCP listener on a free port."""
    chain = config.FilterChain("tcp", tcp=config.TcpChain(clusters, **fields))
    return config.Listener(name, "gateway", LOOPBACK, 0, (chain,))


def routes_to(name: str = "app", *, route_config: str = "web", **action: Any) -> config.RouteConfig:
    """Every request of every host goes to one cluster."""
    route = config.Route("all", config.RouteMatch(), config.RouteAction((config.WeightedCluster(name),), **action))
    return config.RouteConfig(route_config, (config.VirtualHost("any", ("*",), (route,)),))


def snapshot(*resources: config.Resource) -> config.Snapshot:
    """Resources of any kind, put where they belong."""
    made = config.Snapshot(listeners={}, routes={}, clusters={}, endpoints={}, secrets={})
    for each in resources:
        if isinstance(each, config.ClusterEndpoints):
            made.endpoints[each.cluster] = each
        elif isinstance(each, config.Listener):
            made.listeners[each.name] = each
        elif isinstance(each, config.RouteConfig):
            made.routes[each.name] = each
        elif isinstance(each, config.Secret):
            made.secrets[each.name] = each
        else:
            made.clusters[each.name] = each
    return made


def web(port: int, *, listener: config.Listener | None = None, **fields: Any) -> config.Snapshot:
    """The smallest gateway: one HTTP listener, one route, cluster `app` with one endpoint at `port`."""
    return snapshot(
        listener or http_listener(),
        routes_to(),
        cluster(**fields),
        config.ClusterEndpoints("app", (endpoint(port),)),
    )


def make_cluster(
    settings: config.Cluster,
    *ports: int,
    clock: Callable[[], float] = trio.current_time,
    identity: Identity | None = None,
    refused: Callable[[str, str, int], None] = lambda where, reason, count: None,
    ejections_changed: Callable[[], None] = lambda: None,
) -> Cluster:
    """A living cluster with endpoints at these ports."""
    made = Cluster(
        settings,
        clock=clock,
        rng=random.Random(1),
        identity=lambda: identity,
        stats=ClusterStats(Registry(), settings.name),
        codec_limits=CodecLimits(),
        refused=refused,
        ejections_changed=ejections_changed,
    )
    made.set_endpoints(tuple(endpoint(port) for port in ports))
    return made


class FakeAccessLog:
    """Keeps the records that would be formatted and written."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def format(self, record: Record, wall: float) -> bytes:
        self.records.append(record)
        return b""

    def write(self, line: bytes) -> None:
        pass


class FakeLog:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def debug(self, event: str, /, **fields: Any) -> None:
        self.lines.append((event, fields))

    info = warning = error = debug


class Serving:
    """A running data plane. `records` are the exchanges and relays that ended, in order."""

    def __init__(self, settings: Settings, identity: Identity | None, role: Any) -> None:
        node = Node("gateway~test.default", role)
        self.registry = Registry()
        self.log = FakeLog()
        self.access_log = FakeAccessLog()
        self.records = self.access_log.records
        self.stats = Stats(self.registry, node)
        self.identity = identity
        self.dataplane = Dataplane(
            node,
            settings,
            stats=self.stats,
            log=self.log,  # type: ignore[arg-type]
            clock=trio.current_time,
            wall=lambda: NOW,
            rng=random.Random(1),
        )
        self.dataplane.identity = identity
        self.dataplane.plan = Plan(config.Snapshot(), {}, {})
        self.dataplane.access_log = self.access_log
        self.dataplane.format_access_log = self.access_log.format
        self.listeners: Listeners
        self.nursery: trio.Nursery
        self._plan: Plan | None = None

    def apply(self, given: config.Snapshot) -> list[Rejected]:
        """Take a snapshot as the agent does."""
        refused = self.dataplane.credentials.apply(given)
        self._plan, rejected = compile_plan(given, self._plan, self._make_cluster)
        self.dataplane.plan = self._plan
        return refused + rejected + self.listeners.apply(given.listeners.values())

    def _make_cluster(self, settings: config.Cluster) -> Cluster:
        return Cluster(
            settings,
            clock=trio.current_time,
            rng=self.dataplane.rng,
            identity=lambda: self.dataplane.identity,
            credentials=self.dataplane.credentials,
            stats=self.stats.cluster(settings.name),
            codec_limits=CodecLimits(),
            engine=self.dataplane.settings.codec,
            nursery=self.nursery,
            batch=lambda: self.dataplane.batch,
            refused=self.stats.refused,
        )

    def cluster(self, name: str = "app") -> Cluster:
        """A living cluster."""
        return self.dataplane.plan.clusters[name]

    def port(self, name: str = "") -> int:
        """Where a listener is bound; the first one without a name."""
        bound = self.listeners.bound
        return bound[name or next(iter(bound))].sock.port

    def connect(self, identity: Identity | None = None, name: str = "") -> Any:
        """`async with serving.connect() as wire`: a client of a listener."""
        return connected(self.port(name), identity)

    def refused(self) -> dict[tuple[str, str], int]:
        """Counted drops and refusals: (where, reason) to how many."""
        found = {}
        for line in self.registry.exposition().decode().splitlines():
            if line.startswith("trioweave_refused_total{"):
                labels, value = line[len("trioweave_refused_total{") :].rsplit("} ", 1)
                pairs = dict(label.split("=", 1) for label in labels.split(","))
                found[pairs["where"].strip('"'), pairs["reason"].strip('"')] = int(float(value))
        return found

    async def settled(self) -> None:
        """Wait until every accepted connection has ended."""
        await until(lambda: not self.dataplane.connections)


@asynccontextmanager
async def serving(
    given: config.Snapshot,
    *,
    settings: Settings | None = None,
    identity: Identity | None = None,
    role: str = "gateway",
    prebound: dict[str, TcpListener] | None = None,
    port_map: dict[int, int] | None = None,
) -> AsyncIterator[Serving]:
    """Serve a snapshot for the body: listeners, connections, sweeper and write batch of an agent."""
    settings = settings or Settings()
    if settings.codec == "auto":
        settings = msgspec.structs.replace(settings, codec=engine)
    made = Serving(settings, identity, role)
    async with trio.open_nursery() as services:
        made.nursery = services
        batch = made.dataplane.batch = WriteBatch(services)
        trio.lowlevel.add_instrument(batch)
        services.start_soon(Readiness().run)
        shuttle = made.dataplane.shuttle = make_shuttle()
        if shuttle is not None:
            services.start_soon(shuttle.run)
        try:
            async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
                made.listeners = Listeners(
                    made.dataplane,
                    accepting=accepting,
                    connections=connections,
                    gateway_address=LOOPBACK,
                    port_map=port_map or {},
                    prebound=prebound or {},
                )
                made.apply(given)
                services.start_soon(_sweep, made)
                services.start_soon(made.dataplane.keep_deadlines)
                yield made
                made.listeners.close()
                connections.cancel_scope.cancel()
        finally:
            made.listeners.close()
            for each in made.dataplane.plan.clusters.values():
                each.close()
            trio.lowlevel.remove_instrument(batch)
        services.cancel_scope.cancel()


async def _sweep(made: Serving) -> None:
    for beat in itertools.count(1):
        await trio.sleep(SWEEP)
        made.dataplane.sweep(trio.current_time())
        if beat % 4 == 0:
            for each in made.dataplane.plan.clusters.values():
                each.tick(trio.current_time())


# Waiting


async def until(true: Callable[[], object], *, seconds: float = 5.0) -> None:
    """Let other tasks run until `true()`; TooSlowError after `seconds`."""
    with trio.fail_after(seconds):
        while not true():  # noqa: ASYNC110  the world outside this task has no event to wait for
            await trio.sleep(0.005)


async def settle() -> None:
    """Let every task run until all of them wait."""
    await trio.testing.wait_all_tasks_blocked(0.002)


@contextmanager
def idle_counts(*clusters: Cluster) -> Iterator[None]:
    """After the body nothing is held of these clusters but their idle connections."""
    yield
    for each in clusters:
        idle = {
            name: len(e.pool.idle) + sum(not shared.leased for shared in e.streams.connections)
            for name, e in each.endpoints.items()
        }
        assert each.limits.connections.held == sum(idle.values())
        assert {name: e.cx_active for name, e in each.endpoints.items()} == idle
        assert each.stats.upstream_cx_active.value == sum(idle.values())
        assert each.limits.pending.held == each.limits.requests.held == each.limits.retries.held == 0
        assert each.stats.upstream_rq_pending_active.value == each.queued == 0
        assert all(e.active == 0 for e in each.endpoints.values())
