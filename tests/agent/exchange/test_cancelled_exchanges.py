"""Thousands of exchanges, cancelled at random by either side, by deadlines and by limits, leave nothing behind.

What happens is drawn from a seed, on virtual time: the client gives up at any step (close, reset, RST_STREAM, silence),
the upstream answers late, in part, too early, not at all, or with a reset; routes time out and retry; connections are
few; clusters are reconfigured meanwhile; some batches go by mTLS, some end in a drain. After each batch every lease,
socket, task, stream and deadline is accounted for. CANCELLED_EXCHANGES is how many (10000 unless given), CANCELLED_SEED
where to begin: a failure names the seed of its batch.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from agent.bootstrap import Settings
from agent.codec.http2 import CANCEL
from agent.drain import drain
from mesh import config
from mesh.net.tcp import connect
from tests.h2_rig import Http2Peer, Http2Upstream, PeerStream, http2_connected
from tests.rig import (
    LOOPBACK,
    HungUp,
    ScriptedUpstream,
    Serving,
    Wire,
    cluster,
    endpoint,
    http_listener,
    idle_counts,
    listening,
    mesh_identity,
    routes_to,
    serving,
    snapshot,
)

TOTAL = int(os.environ.get("CANCELLED_EXCHANGES", "10000"))
SEED = int(os.environ.get("CANCELLED_SEED", "1"))
BATCH = 250
PARTS = 8  # test cases that the whole is cut into, so that workers share them
BIG = bytes(200_000)
LOST = (HungUp, OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What a peer meets when the proxy, or its own doing, has ended the connection."""


# The upstream: a request's path says what becomes of it


class Reply:
    """A response over either protocol, piece by piece. Raises LOST."""

    async def request_body(self) -> None: ...
    async def hint(self) -> None: ...
    async def head(self, status: int, length: int) -> None: ...
    async def data(self, data: bytes) -> None: ...
    async def end(self) -> None: ...
    async def reset(self) -> None: ...
    async def close(self) -> None: ...
    async def garbage(self) -> None: ...


class Http1Reply(Reply):
    """`over`: the connection is."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.over = False
        self._body_read = False
        self.request: Any = None

    async def request_body(self) -> None:
        await self.wire.body(self.request)
        self._body_read = True

    async def hint(self) -> None:
        await self.wire.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")

    async def head(self, status: int, length: int) -> None:
        await self.wire.send(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n" % (status, length))

    async def data(self, data: bytes) -> None:
        await self.wire.send(data)

    async def end(self) -> None:
        self.over = self.over or not self._body_read

    async def reset(self) -> None:
        self.over = True
        self.wire.transport.reset()

    async def close(self) -> None:
        self.over = True

    async def garbage(self) -> None:
        self.over = True
        await self.wire.send(b"NOT HTTP\r\n\r\n")


class Http2Reply(Reply):
    def __init__(self, peer: Http2Peer, stream: PeerStream) -> None:
        self.peer = peer
        self.stream = stream

    async def request_body(self) -> None:
        await self.peer.until(lambda: self.stream.over)

    async def hint(self) -> None:
        await self.peer.send_head(self.stream, [(b":status", b"103")])

    async def head(self, status: int, length: int) -> None:
        fields = [(b":status", b"%d" % status), (b"content-length", b"%d" % length)]
        await self.peer.send_head(self.stream, fields)

    async def data(self, data: bytes) -> None:
        await self.peer.send_data(self.stream, data)

    async def end(self) -> None:
        await self.peer.send_data(self.stream, b"", end=True)

    async def reset(self) -> None:
        await self.peer.send_reset(self.stream, CANCEL)

    async def close(self) -> None:
        self.peer.transport.close()

    async def garbage(self) -> None:
        await self.peer.send_raw(b"\0\0\0\xff" * 9)


async def answer(reply: Reply, rng: random.Random, status: int = 200) -> None:
    await reply.request_body()
    await reply.head(status, 5)
    await reply.data(b"hello")
    await reply.end()


async def late(reply: Reply, rng: random.Random) -> None:
    await trio.sleep(rng.random())
    await answer(reply, rng)


async def refuse(reply: Reply, rng: random.Random) -> None:
    await answer(reply, rng, rng.choice((500, 503, 404)))


async def never(reply: Reply, rng: random.Random) -> None:
    await trio.sleep(20)
    await reply.close()


async def reset_early(reply: Reply, rng: random.Random) -> None:
    await reply.reset()


async def close_early(reply: Reply, rng: random.Random) -> None:
    await reply.close()


async def stall(reply: Reply, rng: random.Random) -> None:
    await reply.head(200, 10)
    await reply.data(b"hello")
    await trio.sleep(20)
    await reply.close()


async def cut(reply: Reply, rng: random.Random) -> None:
    await reply.head(200, 10)
    await reply.data(b"hello")
    await trio.sleep(rng.choice((0, 0.1)))
    await reply.reset()


async def big(reply: Reply, rng: random.Random) -> None:
    await reply.head(200, len(BIG))
    await reply.data(BIG)
    await reply.end()


async def slow_big(reply: Reply, rng: random.Random) -> None:
    await reply.head(200, 40)
    for _ in range(4):
        await reply.data(b"0123456789")
        await trio.sleep(rng.random() / 2)
    await reply.end()


async def hasty(reply: Reply, rng: random.Random) -> None:
    """Before the request's body."""
    await reply.head(rng.choice((200, 413, 503)), 5)
    await reply.data(b"hello")
    await reply.end()


async def hint(reply: Reply, rng: random.Random) -> None:
    await reply.hint()
    await late(reply, rng)


async def garbage(reply: Reply, rng: random.Random) -> None:
    await reply.garbage()


Answer = Callable[[Reply, random.Random], Awaitable[None]]
ANSWERS: dict[bytes, Answer] = {
    b"/" + each.__name__.encode(): each
    for each in (
        *(answer, late, refuse, never, reset_early, close_early, stall),
        *(cut, big, slow_big, hasty, hint, garbage),
    )
}
PATHS = [*ANSWERS, *[b"/answer"] * 6, *[b"/late"] * 3]


def script(rng: random.Random) -> Any:
    """Both protocols, told apart by the first bytes."""

    async def over_http1(wire: Wire) -> None:
        reply = Http1Reply(wire)
        while not reply.over:
            reply.request = await wire.head()
            reply._body_read = False
            await ANSWERS[reply.request.path](reply, rng)

    async def over_http2(peer: Http2Peer, stream: PeerStream) -> None:
        await ANSWERS[stream.head[b":path"]](Http2Reply(peer, stream), rng)

    http2 = Http2Upstream(over_http2)

    async def both(upstream: ScriptedUpstream, wire: Wire) -> None:
        first = await wire.transport.receive()
        wire.transport.unread(first)
        if first.startswith(b"PRI"):
            await http2.script(http2, wire)
        else:
            await over_http1(wire)

    return both


# Clients, each with a patience


async def pause(rng: random.Random) -> None:
    """Nothing, a pass of the scheduler, or time."""
    if (kind := rng.random()) < 0.2:
        await trio.sleep(rng.random() / 4)
    elif kind < 0.5:
        await trio.lowlevel.checkpoint()


def patience(rng: random.Random) -> float:
    """Seconds after which the client gives up."""
    return rng.choice((0.0, rng.random() / 20, rng.random() / 2, rng.random() * 3, 25.0))


def pieces(rng: random.Random) -> list[bytes]:
    return [bytes(rng.choice((1, 100, 70_000))) for _ in range(rng.choice((0, 1, 1, 3)))]


async def http1_exchange(wire: Wire, rng: random.Random) -> None:
    path = rng.choice(PATHS)
    body = pieces(rng)
    if body and rng.random() < 0.5:
        await wire.send(b"POST %s HTTP/1.1\r\nhost: app\r\n" % path)
        await pause(rng)
        await wire.send(b"transfer-encoding: chunked\r\n\r\n")
        for piece in body:
            await pause(rng)
            await wire.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        await pause(rng)
        await wire.send(b"0\r\n\r\n")
    else:
        framing = b"content-length: %d\r\n" % sum(map(len, body)) if body else b""
        await wire.send(b"%s %s HTTP/1.1\r\nhost: app\r\n%s\r\n" % (b"PUT" if body else b"GET", path, framing))
        for piece in body:
            await pause(rng)
            await wire.send(piece)
    await pause(rng)
    while (await wire.message()).status < 200:
        pass


async def http1_client(port: int, rng: random.Random, count: int) -> None:
    """`count` exchanges one after another, as long as the connection lasts and the client has patience."""
    transport = await connect(LOOPBACK, port)
    wire = Wire(transport)
    try:
        for _ in range(count):
            with trio.move_on_after(patience(rng)) as scope:
                await http1_exchange(wire, rng)
            if scope.cancelled_caught:
                await leave(wire, rng)
                return
    except LOST:
        pass
    finally:
        transport.close()


async def leave(wire: Wire, rng: random.Random) -> None:
    """Without a goodbye: close, reset, or a half-close and silence."""
    if rng.random() < 0.3:
        await wire.transport.send_eof()
        await trio.sleep(rng.random())
    elif rng.random() < 0.5:
        wire.transport.reset()


async def http2_exchange(peer: Http2Peer, rng: random.Random) -> None:
    """One stream; whoever loses patience resets it, or forgets it."""
    stream: PeerStream | None = None
    try:
        with trio.move_on_after(patience(rng)) as scope:
            body = pieces(rng)
            stream = await peer.begin(rng.choice(PATHS), method=b"POST" if body else b"GET", end=not body)
            for number, piece in enumerate(body, 1):
                await pause(rng)
                await peer.send_data(stream, piece, end=number == len(body))
            await peer.answer(stream)
        if scope.cancelled_caught and stream is not None and not stream.over and rng.random() < 0.8:
            await peer.send_reset(stream, CANCEL)
    except LOST:
        pass


async def http2_connection(port: int, rng: random.Random, count: int) -> None:
    """`count` exchanges, some at a time, over one connection that may end before them."""
    try:
        with trio.move_on_after(rng.choice((0.2, 2.0, 40.0, 40.0))):
            async with http2_connected(port, hold=rng.random() < 0.2) as peer, trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(http2_exchange, peer, rng)
                    await pause(rng)
    except* LOST:
        pass


# One batch


def draw_config(rng: random.Random, ports: list[int], *, tls: bool) -> config.Snapshot:
    few = rng.random() < 0.5
    return snapshot(
        http_listener(),
        routes_to(
            timeout=rng.choice((0.0, 0.3, 2.0)),
            retries=config.RetryPolicy(
                attempts=rng.choice((0, 2)),
                retry_on=("5xx", "reset", "connect-failure"),
                per_try_timeout=rng.choice((0.0, 0.0, 0.2)),
                backoff_base=0.02,
                backoff_max=0.1,
            ),
        ),
        cluster(
            protocol=rng.choice(("http1", "http2", "downstream")),
            breakers=config.CircuitBreakers(
                max_connections=rng.choice((2, 6)) if few else 1024,
                max_pending_requests=rng.choice((3, 1024, 1024)),
                max_requests=rng.choice((20, 1024, 1024, 1024)),
                max_retries=rng.choice((1, 1024)),
            ),
            connection=config.ConnectionSettings(
                connect_timeout=1.0,
                idle_timeout=rng.choice((0.5, 60.0)),
                max_requests_per_connection=rng.choice((0, 0, 1, 3)),
                max_connection_duration=rng.choice((0.0, 0.0, 1.0)),
            ),
        ),
        config.ClusterEndpoints("app", tuple(endpoint(port, tls="istio" if tls else "disabled") for port in ports)),
    )


def draw_settings(rng: random.Random) -> Settings:
    return Settings(
        codec=rng.choice(("fast", "reference")),
        stream_idle_timeout=rng.choice((0.0, 1.5)),
        request_timeout=rng.choice((0.0, 1.0)),
        request_headers_timeout=rng.choice((0.0, 1.0)),
        max_concurrent_streams=rng.choice((4, 1024, 1024, 1024)),
        request_body_buffer_bytes=rng.choice((1, 65536)),
    )


async def exchanges(made: Serving, rng: random.Random, snapshots: list[config.Snapshot]) -> None:
    """BATCH exchanges and a few more, by clients of which some are there at a time, and pushes meanwhile."""
    port = made.port()
    places = trio.Semaphore(rng.choice((4, 30)))

    async def client() -> None:
        async with places:
            kind = rng.choice((http1_client, http2_connection))
            await kind(port, random.Random(rng.random()), rng.choice((1, 3, 10, 10)))

    async with trio.open_nursery() as clients:
        while len(made.records) < BATCH:
            async with places:
                clients.start_soon(client)
            await pause(rng)
            if rng.random() < 0.03:
                made.apply(rng.choice(snapshots))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def living() -> list[str]:
    """Names of all tasks."""
    names = []
    root = trio.lowlevel.current_root_task()
    pending = [root] if root is not None else []
    while pending:
        task = pending.pop()
        names.append(task.name)
        pending.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return sorted(names)


async def eventually(true: Callable[[], bool]) -> None:
    """Virtual time goes on until it is so; the longest timers of a batch are over long before this gives up."""
    for _ in range(2000):
        if true():
            return
        await trio.sleep(0.25)
    assert true()


async def run_batch(seed: int, clock: MockClock) -> None:
    rng = random.Random(seed)
    trio._core._run._r.seed(seed)  # the scheduler shuffles what is ready
    identity = mesh_identity() if rng.random() < 0.25 else None
    upstream = ScriptedUpstream(script(random.Random(rng.random())), identity)
    async with listening() as dead, upstream.running():
        dead.close()
        ports = [upstream.port, dead.port][: rng.choice((1, 1, 1, 1, 2))]
        snapshots = [draw_config(rng, ports, tls=identity is not None) for _ in range(3)]
        snapshots = [s for s in snapshots if s.clusters["app"].protocol == snapshots[0].clusters["app"].protocol]
        async with serving(snapshots[0], settings=draw_settings(rng), identity=identity) as made:
            await trio.testing.wait_all_tasks_blocked()
            before, files = living(), open_files()
            await exchanges(made, rng, snapshots)
            if rng.random() < 0.3:
                await drain(made.dataplane, 30.0)
            await eventually(lambda: not made.dataplane.connections)
            clock.autojump_threshold = 0.001  # from here on virtual time waits for the kernel
            await nothing_is_left(made, upstream, before, files)
    clock.autojump_threshold = 0


async def nothing_is_left(made: Serving, upstream: ScriptedUpstream, before: list[str], files: int) -> None:
    dataplane, app = made.dataplane, made.cluster()
    assert not dataplane.exchanges
    assert dataplane.armed == 0
    assert not [line for line in made.log.lines if line[0] in ("exchange failed", "connection failed")]
    await trio.testing.wait_all_tasks_blocked()
    with idle_counts(app):
        pass
    app.set_endpoints(())
    await eventually(lambda: not upstream.open)
    await eventually(lambda: living() == before)
    assert open_files() == files
    assert app.limits.connections.held == 0


@pytest.mark.parametrize("part", range(PARTS))
async def test_cancelled_exchanges_leave_nothing_behind(
    part: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    batches = -(-TOTAL // BATCH)
    for number in range(part, batches, PARTS):
        try:
            await run_batch(SEED + number, autojump_clock)
        except BaseException as exc:
            exc.add_note(f"seed {SEED + number}")
            raise
