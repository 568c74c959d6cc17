"""HTTP/2 for tests: a client that asks, and a scripted server that answers, on the codec's own engine.

What is odd on the wire is the codec's tests' business; here streams are opened, reset, held back and answered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from agent.codec import http2_client, http2_server
from agent.codec.headers import Headers
from agent.codec.http2 import (
    CANCEL,
    DataReceived,
    GoAwayReceived,
    HeadReceived,
    Http2,
    Http2Limits,
    StreamReset,
    TrailersReceived,
)
from agent.codec.message import CHUNKED, RequestHead, ResponseHead
from mesh import config
from mesh.net.tcp import TcpListener, Transport, connect
from tests.rig import LOOPBACK, listening, web


class Seen:
    """What came on one stream."""

    def __init__(self) -> None:
        self.heads: list[RequestHead | ResponseHead] = []
        self.body = b""
        self.trailers: Headers | None = None
        self.ended = False
        self.reset: int | None = None

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None

    @property
    def status(self) -> int:
        head = self.heads[-1]
        assert isinstance(head, ResponseHead)
        return head.status

    def header(self, name: bytes) -> bytes | None:
        return self.heads[-1].headers.get(name)


class H2Wire:
    """One end of a connection. `taking` False: data is not credited, so that the peer's window closes."""

    def __init__(self, transport: Transport, codec: Http2) -> None:
        self.transport = transport
        self.codec = codec
        self.streams: defaultdict[int, Seen] = defaultdict(Seen)
        self.goaway: list[tuple[int, int]] = []
        self.taking = True
        self.closed = False
        self.news = trio.Event()

    async def flush(self) -> None:
        """Write what is queued, as far as the windows go."""
        while data := self.codec.data_to_send(65536):
            await self.transport.send(data)

    async def listen(self) -> None:
        """Take what comes until the peer closes."""
        try:
            while data := await self.transport.receive():
                for event in self.codec.receive_data(data):
                    self._take(event)
                await self.flush()
                self._tell()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.closed = True
        self._tell()

    def _tell(self) -> None:
        self.news.set()
        self.news = trio.Event()

    def _take(self, event: object) -> None:
        if isinstance(event, HeadReceived):
            self.streams[event.stream_id].heads.append(event.head)
            self.streams[event.stream_id].ended = event.end
        elif isinstance(event, DataReceived):
            seen = self.streams[event.stream_id]
            seen.body += event.data
            seen.ended = event.end
            if self.taking:
                self.codec.consume(event.stream_id, event.credit)
        elif isinstance(event, TrailersReceived):
            self.streams[event.stream_id].trailers = event.trailers
            self.streams[event.stream_id].ended = True
        elif isinstance(event, StreamReset):
            self.streams[event.stream_id].reset = event.code
        elif isinstance(event, GoAwayReceived):
            self.goaway.append((event.last_stream_id, event.code))

    async def until(self, true: Callable[[], object], *, seconds: float = 5.0) -> None:
        """Wait until something that came makes `true()`."""
        with trio.fail_after(seconds):
            while not true():
                await self.news.wait()

    # A client's

    async def open(
        self,
        path: bytes = b"/",
        *,
        method: bytes = b"GET",
        end: bool = True,
        upgrade: bytes | None = None,
        **fields: str,
    ) -> int:
        """Begin a request; its stream."""
        headers = Headers((name.replace("_", "-").encode(), value.encode()) for name, value in fields.items())
        head = RequestHead(method, path, headers, version=b"2", authority=b"app", content_length=0 if end else CHUNKED)
        head.upgrade = upgrade
        number = self.codec.open_stream(head, end=end)
        await self.flush()
        return number

    async def send(self, number: int, data: bytes, *, end: bool = False) -> None:
        self.codec.send_data(number, data, end=end)
        await self.flush()

    async def cancel(self, number: int) -> None:
        self.codec.reset(number, CANCEL)
        await self.flush()

    async def answered(self, number: int, *, seconds: float = 5.0) -> Seen:
        """What came, once the stream is over."""
        await self.until(lambda: self.streams[number].over or self.closed, seconds=seconds)
        return self.streams[number]

    async def ask(self, path: bytes = b"/", body: bytes = b"", *, method: bytes = b"GET", **fields: str) -> Seen:
        """One request and its answer."""
        number = await self.open(path, method=method, end=not body, **fields)
        if body:
            await self.send(number, body, end=True)
        return await self.answered(number)

    # A server's

    async def answer(
        self, number: int, status: int = 200, body: bytes = b"", *, trailers: Headers | None = None
    ) -> None:
        """A whole response."""
        self.codec.send_head(number, ResponseHead(status, Headers()), end=not body and trailers is None)
        if body:
            self.codec.send_data(number, body, end=trailers is None)
        if trailers is not None:
            self.codec.send_end(number, trailers)
        await self.flush()


@asynccontextmanager
async def h2_client(port: int, limits: Http2Limits | None = None) -> AsyncIterator[H2Wire]:
    """A client with prior knowledge."""
    transport = await connect(LOOPBACK, port)
    wire = H2Wire(transport, http2_client(limits or Http2Limits(), "auto", trio.current_time))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.listen)
            await wire.flush()
            yield wire
            nursery.cancel_scope.cancel()
    finally:
        transport.close()


Answer = Callable[["H2Upstream", H2Wire, int], Awaitable[None]]


async def h2_echo(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
    """Answer with the body once it is all here, or with the path."""
    seen = wire.streams[number]
    await wire.until(lambda: seen.over)
    head = seen.heads[0]
    assert isinstance(head, RequestHead)
    await wire.answer(number, body=seen.body or head.path)


class H2Upstream:
    """A server on loopback; each stream that is opened is a task that runs `script`."""

    def __init__(self, script: Answer = h2_echo, limits: Http2Limits | None = None) -> None:
        self.script = script
        self.limits = limits or Http2Limits()
        self.port = 0
        self.wires: list[H2Wire] = []

    @property
    def accepted(self) -> int:
        return len(self.wires)

    @property
    def requests(self) -> list[RequestHead]:
        found = [seen.heads[0] for wire in self.wires for seen in wire.streams.values() if seen.heads]
        return [head for head in found if isinstance(head, RequestHead)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[H2Upstream]:
        async with listening() as listener, trio.open_nursery() as nursery:
            self.port = listener.port
            nursery.start_soon(self._accept, listener, nursery)
            yield self
            nursery.cancel_scope.cancel()

    async def _accept(self, listener: TcpListener, nursery: trio.Nursery) -> None:
        while True:
            nursery.start_soon(self._serve, await listener.accept())

    async def _serve(self, transport: Transport) -> None:
        wire = H2Wire(transport, http2_server(self.limits, "auto", trio.current_time))
        self.wires.append(wire)
        begun: set[int] = set()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wire.listen)
                await wire.flush()
                while not wire.closed:
                    for number in [number for number in wire.streams if number not in begun]:
                        begun.add(number)
                        nursery.start_soon(self._answer, wire, number)
                    await wire.news.wait()
                nursery.cancel_scope.cancel()
        finally:
            transport.close()

    async def _answer(self, wire: H2Wire, number: int) -> None:
        try:
            await self.script(self, wire, number)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the proxy hung up, which is for the test to judge


def web2(port: int, **fields: Any) -> config.Snapshot:
    """A gateway before an HTTP/2 upstream."""
    return web(port, protocol="http2", **fields)
