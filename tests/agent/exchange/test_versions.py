"""Messages and upgrades from either version of HTTP to either: nothing is lost on the way from one to the other."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hyperframe.frame import SettingsFrame

from agent.codec.http2 import NO_ERROR
from tests.h2_rig import Http2Peer, Http2Upstream, PeerStream, gateway, http2_connected
from tests.rig import Message, ScriptedUpstream, Serving, Wire, until

pytestmark = pytest.mark.usefixtures("engine")

PAIRS = [(near, far) for near in (1, 2) for far in (1, 2)]
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3
HOPS = {b"connection", b"transfer-encoding", b"keep-alive", b"upgrade", b"http2-settings"}


class Both:
    """An upstream of either version that gives one answer to all; `asked` are the requests as it saw them."""

    def __init__(
        self,
        version: int,
        status: int = 200,
        body: bytes = b"",
        extra: tuple[tuple[bytes, bytes], ...] = (),
        trailers: tuple[tuple[bytes, bytes], ...] = (),
        *,
        length: bool = True,
        interim: bool = False,
    ) -> None:
        self.asked: list[tuple[dict[bytes, bytes], bytes, dict[bytes, bytes]]] = []
        self.status, self.body, self.trailers, self.interim = status, body, trailers, interim
        self.extra = extra + (((b"content-length", b"%d" % len(body)),) if length else ())
        self.upstream = Http2Upstream(self._http2) if version == 2 else ScriptedUpstream(self._http1)

    async def _http2(self, peer: Http2Peer, stream: PeerStream) -> None:
        await peer.until(lambda: stream.over)
        trailers = stream.heads[1] if len(stream.heads) > 1 else {}
        self.asked.append((stream.head, bytes(stream.body), trailers))
        if self.interim:
            await peer.send_head(stream, [(b":status", b"103"), (b"link", b"</x>")])
        body = b"" if stream.head[b":method"] == b"HEAD" else self.body
        head = [(b":status", b"%d" % self.status), *self.extra]
        await peer.send_head(stream, head, end=not body and not self.trailers)
        if body:
            await peer.send_data(stream, body, end=not self.trailers)
        if self.trailers:
            await peer.send_head(stream, self.trailers, end=True)

    async def _http1(self, upstream: ScriptedUpstream, wire: Wire) -> None:
        while True:
            request = await wire.head()
            trailers: dict[bytes, bytes] = {}
            if request.headers.get(b"transfer-encoding") == b"chunked":
                request.body, trailers = await read_chunks(wire)
            else:
                request.body = await wire.take(int(request.headers.get(b"content-length", b"0")))
            self.asked.append((request.headers, request.body, trailers))
            if self.interim:
                await wire.send(b"HTTP/1.1 103 Early\r\nlink: </x>\r\n\r\n")
            body = b"" if request.first.startswith(b"HEAD") else self.body
            fields = b"".join(b"%s: %s\r\n" % pair for pair in self.extra)
            if any(name == b"content-length" for name, _ in self.extra) or self.status in (204, 304):
                await wire.send(b"HTTP/1.1 %d x\r\n%s\r\n%s" % (self.status, fields, body))
                continue
            chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
            end = b"".join(b"%s: %s\r\n" % pair for pair in self.trailers)
            head = b"HTTP/1.1 %d x\r\n%stransfer-encoding: chunked\r\n\r\n" % (self.status, fields)
            await wire.send(head + chunk + b"0\r\n" + end + b"\r\n")


async def read_chunks(wire: Wire) -> tuple[bytes, dict[bytes, bytes]]:
    """A chunked body and its trailers."""
    body = b""
    while size := int(await wire._until(b"\r\n"), 16):
        body += (await wire.take(size + 2))[:-2]
    trailers = {}
    while line := await wire._until(b"\r\n"):
        name, _, value = line.partition(b":")
        trailers[name.lower()] = value.strip()
    return body, trailers


class Answer:
    """A response of either version."""

    def __init__(self, status: int, headers: dict[bytes, bytes], body: bytes, trailers: dict[bytes, bytes]) -> None:
        self.status, self.headers, self.body, self.trailers = status, headers, body, trailers
        self.interim = 0


async def ask(
    served: Serving,
    version: int,
    method: bytes = b"GET",
    body: bytes = b"",
    *,
    length: bool = True,
    trailers: tuple[tuple[bytes, bytes], ...] = (),
    extra: tuple[tuple[bytes, bytes], ...] = (),
) -> Answer:
    """One request of this version and its answer."""
    if body and length:
        extra += ((b"content-length", b"%d" % len(body)),)
    if version == 2:
        async with http2_connected(served.port()) as client:
            stream = await client.begin(method=method, extra=extra, end=not body and not trailers)
            if body:
                await client.send_data(stream, body, end=not trailers)
            if trailers:
                await client.send_head(stream, trailers, end=True)
            await client.answer(stream)
            assert stream.ended
            answer = Answer(stream.status, stream.head, bytes(stream.body), stream.trailers or {})
            answer.interim = sum(head[b":status"].startswith(b"1") for head in stream.heads if b":status" in head)
            assert not HOPS & answer.headers.keys()
            return answer
    async with served.connect() as wire:
        chunked = (body and not length) or trailers
        if chunked:
            extra += ((b"transfer-encoding", b"chunked"),)
        fields = b"".join(b"%s: %s\r\n" % pair for pair in extra)
        raw = b"%s / HTTP/1.1\r\nhost: app\r\n%s\r\n" % (method, fields)
        if chunked:
            end = b"".join(b"%s: %s\r\n" % pair for pair in trailers)
            raw += b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, end)
        else:
            raw += body
        await wire.send(raw)
        interim = 0
        while (head := await wire.head()).status < 200:
            interim += 1
        answer = Answer(head.status, head.headers, b"", {})
        answer.interim = interim
        if head.headers.get(b"transfer-encoding") == b"chunked":
            answer.body, answer.trailers = await read_chunks(wire)
        elif method != b"HEAD" and head.status not in (204, 304):
            answer.body = await wire.take(int(head.headers.get(b"content-length", b"0")))
        return answer


# Messages


@pytest.mark.parametrize(("near", "far"), PAIRS)
@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("size", [5, 100_000])
async def test_bodies(near: int, far: int, length: bool, size: int) -> None:
    up = Both(far, body=b"a" * size, length=length)
    async with gateway(up.upstream) as served:
        answer = await ask(served, near, b"POST", b"q" * size, length=length)
        assert (answer.status, answer.body) == (200, b"a" * size)
        [(_, body, _)] = up.asked
        assert body == b"q" * size


@pytest.mark.parametrize(("near", "far"), PAIRS)
async def test_trailers(near: int, far: int) -> None:
    trailers = ((b"x-sum", b"1"), (b"x-more", b"2"))
    up = Both(far, body=b"answer", trailers=trailers, length=False)
    async with gateway(up.upstream) as served:
        answer = await ask(
            served, near, b"POST", b"question", length=False, trailers=trailers, extra=((b"te", b"trailers"),)
        )
        assert (answer.body, answer.trailers) == (b"answer", dict(trailers))
        [(_, body, seen)] = up.asked
        assert (body, seen) == (b"question", dict(trailers))


@pytest.mark.parametrize(("near", "far"), PAIRS)
async def test_an_answer_to_head_has_a_length_and_no_body(near: int, far: int) -> None:
    up = Both(far, body=b"never sent")
    async with gateway(up.upstream) as served:
        answer = await ask(served, near, b"HEAD")
        assert (answer.status, answer.headers[b"content-length"], answer.body) == (200, b"10", b"")


@pytest.mark.parametrize(("near", "far"), PAIRS)
@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body(near: int, far: int, status: int) -> None:
    up = Both(far, status, length=False)
    async with gateway(up.upstream) as served:
        answer = await ask(served, near)
        assert (answer.status, answer.body) == (status, b"")
        assert b"transfer-encoding" not in answer.headers


@pytest.mark.parametrize(("near", "far"), PAIRS)
async def test_early_hints(near: int, far: int) -> None:
    up = Both(far, body=b"x", interim=True)
    async with gateway(up.upstream) as served:
        answer = await ask(served, near)
        assert (answer.status, answer.interim) == (200, 1)


@pytest.mark.parametrize(("near", "far"), PAIRS)
async def test_a_grpc_answer_of_trailers_only(near: int, far: int) -> None:
    up = Both(far, extra=((b"content-type", b"application/grpc"), (b"grpc-status", b"5")), length=far == 1)
    async with gateway(up.upstream) as served:
        extra = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))
        answer = await ask(served, near, b"POST", b"\0\0\0\0\0", extra=extra)
        assert (answer.status, answer.headers[b"grpc-status"], answer.body) == (200, b"5", b"")


@pytest.mark.parametrize(("near", "far"), PAIRS)
async def test_names_of_hosts(near: int, far: int) -> None:
    up = Both(far)
    async with gateway(up.upstream, use_remote_address=True) as served:
        await ask(served, near)
        [(head, _, _)] = up.asked
        assert head[b":authority" if far == 2 else b"host"] == b"app"
        assert head[b"x-forwarded-for"] == b"127.0.0.1"
        assert head[b"x-forwarded-proto"] == b"http"
        if far == 2:
            assert not (HOPS | {b"host"}) & head.keys()


async def test_cookies_are_one_field_to_http1() -> None:
    up = Both(1)
    async with gateway(up.upstream) as served:
        await ask(served, 2, extra=((b"cookie", b"a=1"), (b"cookie", b"b=2")))
        assert up.asked[0][0][b"cookie"] == b"a=1; b=2"


# Upgrades


def accept(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


class Sockets:
    """A WebSocket server of either version, as far as a proxy can tell: it says hello and then echoes, to the end."""

    def __init__(self, version: int) -> None:
        self.asked: list[dict[bytes, bytes]] = []
        self.ended = 0
        self.upstream = (
            Http2Upstream(self._http2, enable_connect_protocol=1) if version == 2 else ScriptedUpstream(self._http1)
        )

    async def _http1(self, upstream: ScriptedUpstream, wire: Wire) -> None:
        request = await wire.head()
        self.asked.append(request.headers)
        key = request.headers[b"sec-websocket-key"]
        assert len(base64.b64decode(key)) == 16
        await wire.send(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-accept: %s\r\n\r\nhello" % accept(key)
        )
        while data := await wire.transport.receive():
            await wire.send(data)
        self.ended += 1
        await wire.send(b"bye")
        await wire.transport.send_eof()

    async def _http2(self, peer: Http2Peer, stream: PeerStream) -> None:
        self.asked.append(stream.head)
        await peer.send_head(stream, [(b":status", b"200")])
        await peer.send_data(stream, b"hello")
        sent = 0
        while not (stream.over and sent == len(stream.body)):
            await peer.until(lambda sent=sent: len(stream.body) > sent or stream.over)
            piece = bytes(stream.body[sent:])
            sent += len(piece)
            await peer.send_data(stream, piece)
        self.ended += 1
        await peer.send_data(stream, b"bye", end=True)


class Socket:
    """A client of either version after its upgrade."""

    def __init__(self, send: Callable[..., Any], take: Callable[..., Any], end: Callable[..., Any]) -> None:
        self.send, self.take, self.end = send, take, end
        self.headers: dict[bytes, bytes] = {}


@asynccontextmanager
async def upgraded(served: Serving, version: int) -> AsyncIterator[Socket]:
    if version == 1:
        async with served.connect() as wire:
            await wire.send(
                b"GET /ws HTTP/1.1\r\nhost: app\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
                b"sec-websocket-version: 13\r\nsec-websocket-key: %s\r\n\r\n" % KEY
            )
            head = await wire.head()
            assert head.status == 101
            socket = Socket(wire.send, wire.take, wire.transport.send_eof)
            socket.headers = head.headers
            yield socket
        return
    async with http2_connected(served.port()) as client:
        await client.pinged()
        assert client.peer_settings[SettingsFrame.ENABLE_CONNECT_PROTOCOL] == 1
        fields = [
            (b":method", b"CONNECT"),
            (b":protocol", b"websocket"),
            (b":scheme", b"http"),
            (b":path", b"/ws"),
            (b":authority", b"app"),
            (b"sec-websocket-version", b"13"),
        ]
        stream = await client.open(fields, end=False)
        await client.until(lambda: stream.answered)
        assert stream.status == 200
        assert b"sec-websocket-accept" not in stream.head
        at = 0

        async def take(size: int) -> bytes:
            nonlocal at
            await client.until(lambda: len(stream.body) >= at + size)
            at += size
            return bytes(stream.body[at - size : at])

        async def send(data: bytes) -> None:
            await client.send_data(stream, data)

        async def end() -> None:
            await client.send_data(stream, b"", end=True)

        yield Socket(send, take, end)


@pytest.mark.parametrize(("near", "far"), PAIRS)
async def test_a_websocket(near: int, far: int) -> None:
    server = Sockets(far)
    async with gateway(server.upstream) as served:
        async with upgraded(served, near) as socket:
            if near == 1:
                assert socket.headers[b"sec-websocket-accept"] == ACCEPT
                assert socket.headers[b"upgrade"] == b"websocket"
            assert await socket.take(5) == b"hello"
            for _ in range(3):
                await socket.send(b"ping")
                assert await socket.take(4) == b"ping"
            big = bytes(range(256)) * 1000
            async with trio.open_nursery() as nursery:
                nursery.start_soon(socket.send, big)
                assert await socket.take(len(big)) == big
            await socket.end()  # half-closed: the other half goes on
            assert await socket.take(3) == b"bye"
        await until(lambda: served.records)
        [record] = served.records
        assert record.response_code == 101 or (near, record.response_code) == (2, 200)
        assert record.flags == ()
        assert record.bytes_sent >= len(big)
        assert server.ended == 1
        head = server.asked[0]
        if far == 2:
            assert (head[b":method"], head[b":protocol"], head[b":path"]) == (b"CONNECT", b"websocket", b"/ws")
            assert not HOPS & head.keys()
        else:
            assert head[b"upgrade"] == b"websocket"
        await until(lambda: far == 2 or server.upstream.open == 0)


@pytest.mark.parametrize(("near", "far"), PAIRS)
async def test_a_websocket_whose_client_goes(near: int, far: int) -> None:
    server = Sockets(far)
    async with gateway(server.upstream) as served:
        async with upgraded(served, near) as socket:
            assert await socket.take(5) == b"hello"
        await served.settled()
        assert len(served.records) == 1
        if far == 1:
            await until(lambda: server.upstream.open == 0)
        else:
            await until(lambda: server.upstream.seen[0].over)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("near", "far"), PAIRS)
async def test_a_silent_websocket_ends(autojump_clock: trio.testing.MockClock, near: int, far: int) -> None:
    server = Sockets(far)
    async with gateway(server.upstream, idle_timeout=10.0) as served, upgraded(served, near) as socket:
        assert await socket.take(5) == b"hello"
        await trio.sleep(7)
        await socket.send(b"ping")
        assert await socket.take(4) == b"ping"
        started = trio.current_time()
        await until(lambda: served.records, seconds=60)
        assert trio.current_time() - started == pytest.approx(10, abs=3)


async def test_an_upstream_without_extended_connect_is_told_apart() -> None:
    async with gateway(Http2Upstream()) as served, served.connect() as wire:
        await wire.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        answer: Message = await wire.message()
        assert answer.status == 403


async def test_an_upgrade_that_is_declined_is_an_answer() -> None:
    async def decline(peer: Http2Peer, stream: PeerStream) -> None:
        await peer.reply(stream, 404, b"none here")

    upstream = Http2Upstream(decline, enable_connect_protocol=1)
    async with gateway(upstream) as served, http2_connected(served.port()) as client:
        fields = [
            (b":method", b"CONNECT"),
            (b":protocol", b"websocket"),
            (b":scheme", b"http"),
            (b":path", b"/"),
            (b":authority", b"a"),
        ]
        stream = await client.open(fields, end=False)
        await client.answer(stream)
        assert (stream.status, bytes(stream.body)) == (404, b"none here")
        assert stream.reset in (None, NO_ERROR)
        assert upstream.accepted == 1
