"""WebSockets through a gateway and two sidecars: none is closed while the pilot pushes one configuration after another.

The client is outside; the gateway's route leads to the sidecar `client`, whose route leads by mTLS to the sidecar
`server` and its app. By HTTP/2 the hops between the proxies carry streams (extended CONNECT, RFC 8441), and the client
comes with some connections of many streams.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest
import trio

from tests.h2_rig import Http2Peer, PeerStream, http2_connected
from tests.sockets.mesh_rig import SERVER_YAML, STRICT_YAML, Fleet, Program, ask, fleet, until

WHOLE = os.environ.get("MESH_TEST_WEBSOCKETS") == "all"  # the figures of the issue; a tenth of them otherwise
SOCKETS = 1000 if WHOLE else 100
PUSHES = 200 if WHOLE else 20
CONNECTIONS = 4
LIMIT = 300.0

EDGE_YAML = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{route: [{destination: {host: way.test}}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: way}
spec:
  hosts: [way.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: %d}}]
"""
UPGRADE_YAML = """---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: %(host)s}
spec: {host: %(host)s, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}}
"""
PUSH_YAML = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: push}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/never/%d]}}]}]}
"""


class Socket(Protocol):
    """An open WebSocket's client."""

    async def echo(self, word: bytes) -> bytes: ...


def frame(payload: bytes, mask: bytes = b"") -> bytes:
    """A short binary message (RFC 6455 5.2), masked as clients must."""
    assert len(payload) < 126
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if mask else payload
    return bytes([0x82, len(payload) | (0x80 if mask else 0)]) + mask + masked


def accept(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


class EchoApp:
    """An app that echoes messages; it knows HTTP/1 and nothing else. `open` counts its WebSockets."""

    def __init__(self) -> None:
        self.open = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        data = b""
        async with stream:
            try:
                while not data.endswith(b"\r\n\r\n"):
                    more = await stream.receive_some()
                    if not more:
                        return
                    data += more
                found = re.search(rb"(?i)\r\nsec-websocket-key: *(\S+)", data)
                if found is None:
                    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    return
                await stream.send_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
                    b"sec-websocket-accept: " + accept(found[1]) + b"\r\n\r\n"
                )
                self.open += 1
                try:
                    await self._echo(stream)
                finally:
                    self.open -= 1
            except trio.BrokenResourceError:
                return

    async def _echo(self, stream: trio.SocketStream) -> None:
        data = b""
        while more := await stream.receive_some():
            data += more
            while len(data) >= 2 and len(data) >= 6 + (data[1] & 0x7F):
                size = data[1] & 0x7F
                mask, masked = data[2:6], data[6 : 6 + size]
                data = data[6 + size :]
                await stream.send_all(frame(bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))))


class Http1Socket:
    """A WebSocket on a connection of its own."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._data = b""

    async def begin(self) -> None:
        key = base64.b64encode(b"0123456789abcdef")
        await self._stream.send_all(
            b"GET /ws HTTP/1.1\r\nhost: server:9080\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: " + key + b"\r\n\r\n"
        )
        while b"\r\n\r\n" not in self._data:
            self._data += await self._more()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert accept(key) in head

    async def echo(self, word: bytes) -> bytes:
        await self._stream.send_all(frame(word, b"mask"))
        while len(self._data) < 2 + len(word):
            self._data += await self._more()
        message, self._data = self._data[: 2 + len(word)], self._data[2 + len(word) :]
        return message

    async def _more(self) -> bytes:
        data = await self._stream.receive_some()
        assert data, "closed"
        return bytes(data)


class Http2Socket:
    """A WebSocket on a stream."""

    def __init__(self, peer: Http2Peer, stream: PeerStream) -> None:
        self._peer = peer
        self._stream = stream
        self._at = 0

    async def begin(self) -> None:
        await self._peer.until(lambda: self._stream.answered or self._stream.over)
        assert self._stream.status == 200

    async def echo(self, word: bytes) -> bytes:
        await self._peer.send_data(self._stream, frame(word, b"mask"))
        size = 2 + len(word)
        await self._peer.until(lambda: len(self._stream.body) >= self._at + size or self._stream.over)
        assert not self._stream.over, "closed"
        self._at += size
        return bytes(self._stream.body[self._at - size : self._at])


@asynccontextmanager
async def http1_sockets(port: int) -> AsyncIterator[list[Socket]]:
    streams = []
    try:
        made: list[Socket] = []
        for _ in range(SOCKETS):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            streams.append(stream)
            socket = Http1Socket(stream)
            await socket.begin()
            made.append(socket)
        yield made
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def http2_sockets(port: int) -> AsyncIterator[list[Socket]]:
    fields = [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"http"),
        (b":path", b"/ws"),
        (b":authority", b"server:9080"),
        (b"sec-websocket-version", b"13"),
    ]
    async with (
        http2_connected(port) as one,
        http2_connected(port) as two,
        http2_connected(port) as three,
        http2_connected(port) as four,
    ):
        made: list[Socket] = []
        for number in range(SOCKETS):
            peer = (one, two, three, four)[number % CONNECTIONS]
            socket = Http2Socket(peer, await peer.open(fields, end=False))
            await socket.begin()
            made.append(socket)
        yield made


class Mesh:
    """Pilot, gateway, and the two sidecars."""

    def __init__(self, programs: Fleet, app_port: int, *, http2: bool) -> None:
        self.programs = programs
        programs.write("server.yaml", SERVER_YAML + (UPGRADE_YAML % {"host": "server"} if http2 else ""))
        programs.write("strict.yaml", STRICT_YAML)
        programs.write("push.yaml", PUSH_YAML % 0)
        programs.start_pilot()
        quick = ("--set", "drain_time=0")
        server = programs.sidecar("server", *quick, app_port=app_port)
        self.client = programs.sidecar("client", *quick)
        server.wait_ready()
        self.client.wait_ready()
        edge = EDGE_YAML % self.client.address("http_proxy")[1]
        programs.write("edge.yaml", edge + (UPGRADE_YAML % {"host": "way.test"} if http2 else ""))
        flags = ("--pilot", programs.pilot.ready["feed"], *programs.secrets(), "--bind", "127.0.0.1")
        self.gateway = programs.start("agent", "gateway", *flags, "--port-map", "80=0", *quick).wait_ready()
        self.agents = (self.gateway, self.client, server)
        until(lambda: self.port())
        until(lambda: self._well())

    def port(self) -> int:
        """Where the gateway listens."""
        for line in self.gateway.admin("/listeners").text.splitlines():
            name, _, address = line.partition("::")
            if "80" in name:
                return int(address.rpartition(":")[2])
        return 0

    def _well(self) -> bool:
        return ask(("127.0.0.1", self.port()), "/", Host="server:9080").status == 200

    def push(self, number: int) -> None:
        """Write one more configuration, and wait until all three agents have taken it."""
        before = [self.applied(each) for each in self.agents]
        self.programs.write("push.yaml", PUSH_YAML % number)
        for each, count in zip(self.agents, before, strict=True):
            until(lambda each=each, count=count: self.applied(each) > count)

    @staticmethod
    def applied(agent: Program) -> float:
        full, delta = (f'trioweave_agent_feed_events_total{{event="{kind}_push"}}' for kind in ("full", "delta"))
        return agent.metric(full) + agent.metric(delta)


@contextmanager
def mesh(root: Path, app_port: int, *, http2: bool) -> Iterator[Mesh]:
    with fleet(root) as programs:
        yield Mesh(programs, app_port, http2=http2)


async def echoed(sockets: list[Socket], word: bytes) -> int:
    """How many give the word back."""
    got = 0
    for socket in sockets:
        got += await socket.echo(word) == frame(word)
    return got


@pytest.mark.slow
@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_pushes_close_none(tmp_path: Path, http2: bool) -> None:
    app = EchoApp()
    async with trio.open_nursery() as nursery:
        listeners: list[Any] = await nursery.start(partial(trio.serve_tcp, app.serve, 0, host="127.0.0.1"))
        app_port = listeners[0].socket.getsockname()[1]
        context = mesh(tmp_path, app_port, http2=http2)
        made = await trio.to_thread.run_sync(context.__enter__)
        try:
            async with (http2_sockets if http2 else http1_sockets)(made.port()) as sockets:
                assert app.open == await echoed(sockets, b"before") == SOCKETS
                for number in range(1, PUSHES + 1):
                    await trio.to_thread.run_sync(made.push, number)
                    some = sockets[number % 10 :: 10]
                    assert await echoed(some, b"push %d" % number) == len(some)
                assert app.open == await echoed(sockets, b"after") == SOCKETS
        finally:
            await trio.to_thread.run_sync(context.__exit__, None, None, None)
        nursery.cancel_scope.cancel()
