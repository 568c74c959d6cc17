"""What a body of 1 GB that nobody reads costs a gateway in memory: an answer's, or a request's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from hyperframe.frame import SettingsFrame, WindowUpdateFrame

from tests.h2_rig import WINDOW, Http2Peer, Http2Upstream, PeerStream, http2_connected
from tests.rig import HungUp, ScriptedUpstream, Wire, connected, settle
from tests.sockets.mesh_rig import Fleet, Program
from tests.sockets.test_rss import resident_kib

GIGABYTE = 1_000_000_000
PIECE = b"x" * 16384
HELD = 4  # bodies at a time, lest what a process does once be taken for the cost of one
MOST_KIB = 1024  # of memory for each; a fifth of that is what it takes
MOST_GIVEN = 400_000_000  # bytes in all; the system's buffers hold a tenth of that
ROUNDS = 5
DEADLINE = 60
WIDE = 2**31 - 1  # the largest window: only the socket then holds the sender back
Client = Wire | Http2Peer

GATEWAY_YAML = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: app}
spec:
  hosts: [app.test]
  resolution: STATIC
  ports: [{number: 80, name: app, protocol: %s}]
  endpoints: [{address: 127.0.0.1, ports: {app: %d}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{route: [{destination: {host: app.test}}]}]
"""
FLAGS = ("--bind", "127.0.0.1", "--port-map", "80=0", "--set", "drain_time=0")


class Given:
    """Bytes of bodies that were taken from us: by the gateway, and by the system's buffers on both sides of it."""

    def __init__(self) -> None:
        self.size = 0

    async def pour(self, send: Callable[[bytes], Awaitable[None]], stream: PeerStream | None = None) -> None:
        """A body without an end. Raises HungUp when the proxy breaks it off instead of holding it back."""
        while self.size < MOST_GIVEN:
            await send(PIECE)
            if stream is not None and stream.reset is not None:
                raise HungUp(f"reset with {stream.reset}")
            self.size += len(PIECE)


# Upstreams: `/pour` is answered without end, of a POST only the head is read, anything else gets a small answer.


def upstream_of(version: str, given: Given) -> ScriptedUpstream:
    async def http1(upstream: ScriptedUpstream, wire: Wire) -> None:
        while True:
            head = await wire.head()
            if head.first.startswith(b"POST"):
                await trio.sleep_forever()
            if head.path != b"/pour":
                await wire.answer(body=PIECE)
                continue
            await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % GIGABYTE)
            await given.pour(wire.send)

    async def http2(peer: Http2Peer, stream: PeerStream) -> None:
        if stream.head[b":method"] == b"POST":
            if "wide" in version:
                peer.pause()
            await trio.sleep_forever()
        if stream.head[b":path"] != b"/pour":
            if stream.number == 1:
                await widen(peer, version)
            await peer.reply(stream, body=PIECE)
            return
        await peer.send_head(stream, [(b":status", b"200"), (b"content-length", b"%d" % GIGABYTE)])
        await given.pour(lambda piece: peer.send_data(stream, piece), stream)

    if version == "http1":
        return ScriptedUpstream(http1)
    return Http2Upstream(http2, hold=True, **({"initial_window_size": WIDE} if "wide" in version else {}))


async def widen(peer: Http2Peer, version: str) -> None:
    if "wide" in version:
        await peer.send_frames(WindowUpdateFrame(0, window_increment=WIDE - WINDOW))


@asynccontextmanager
async def gateway_before(version: str, given: Given, programs: Fleet) -> AsyncIterator[Program]:
    async with upstream_of(version, given).running() as upstream:
        protocol = "HTTP" if version == "http1" else "HTTP2"
        programs.write("edge.yaml", GATEWAY_YAML % (protocol, upstream.port))
        gateway = programs.start("agent", "gateway", "-f", str(programs.folder), *FLAGS)
        await trio.to_thread.run_sync(gateway.wait_ready)
        yield gateway


# Clients


@asynccontextmanager
async def client_of(version: str, gateway: Program) -> AsyncIterator[Client]:
    """One that the gateway has served before."""
    port = gateway.address("listen")[1]
    settings = {SettingsFrame.INITIAL_WINDOW_SIZE: WIDE} if "wide" in version else {}
    made = connected(port) if version == "http1" else http2_connected(port, hold=True, settings=settings)
    async with made as client:
        if isinstance(client, Http2Peer):
            await widen(client, version)
        answer = await client.ask()
        assert (answer.status, len(answer.body)) == (200, len(PIECE))
        yield client


async def download(client: Client, given: Given) -> None:
    """Ask for the answer that does not end, and read no more."""
    if isinstance(client, Wire):
        await client.send(b"GET /pour HTTP/1.1\r\nhost: app\r\n\r\n")
    else:
        client.pause()
        await client.begin(b"/pour")


async def upload(client: Client, given: Given) -> None:
    """Send a body that does not end."""
    if isinstance(client, Wire):
        await client.send(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: %d\r\n\r\n" % GIGABYTE)
        await given.pour(client.send)
        return
    stream = await client.begin(method=b"POST", extra=[(b"content-length", b"%d" % GIGABYTE)], end=False)
    await given.pour(lambda piece: client.send_data(stream, piece), stream)


async def still(given: Given, gateway: Program) -> None:
    """Wait until nothing moves: no task of ours can go on, and the gateway would have taken more if it wanted to, since
    it has gone round its loop, to answer at its admin port, several times after it took the last."""
    quiet = 0
    while quiet < ROUNDS or not given.size:
        before = given.size
        await settle()
        async with connected(gateway.address("admin")[1]) as admin:
            assert (await admin.ask(b"/ready", host=b"localhost")).status == 200
        quiet = quiet + 1 if given.size == before else 0
    assert given.size < MOST_GIVEN, "nothing holds the sender back"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("transfer", "near", "far"),
    [
        *((download, near, far) for near in ("http1", "http2", "http2, wide") for far in ("http1", "http2")),
        *((upload, near, far) for near in ("http1", "http2") for far in ("http1", "http2", "http2, wide")),
    ],
)
async def test_a_body_that_nobody_reads_costs_under_1_mb(
    programs: Fleet, transfer: Callable[[Client, Given], Awaitable[None]], near: str, far: str
) -> None:
    given = Given()
    with trio.fail_after(DEADLINE):
        async with gateway_before(far, given, programs) as gateway, AsyncExitStack() as clients:
            held = [await clients.enter_async_context(client_of(near, gateway)) for _ in range(HELD)]
            before = resident_kib(gateway.pid)
            async with trio.open_nursery() as nursery:
                for client in held:
                    nursery.start_soon(transfer, client, given)
                await still(given, gateway)
                cost = (resident_kib(gateway.pid) - before) / HELD
                assert len(gateway.admin("/tasks?view=exchanges&format=json").json["exchanges"]) == HELD
                nursery.cancel_scope.cancel()
    assert cost < MOST_KIB, f"{cost:.0f} KiB each"
