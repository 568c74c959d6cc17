"""Which version of HTTP a client speaks: what ALPN says, else its first bytes, however they are cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hyperframe import frame as h2

from agent.bootstrap import Settings
from agent.drain import drain
from mesh import config
from tests.h2_rig import PREFACE, Http2Peer, gateway, http2_connected
from tests.rig import LOOPBACK, ScriptedUpstream, Serving, mesh_identity, serving, settle, web

pytestmark = pytest.mark.usefixtures("engine")

HTTP1 = b"GET /one HTTP/1.1\r\nhost: app\r\n\r\n"


async def test_either_version_on_one_port() -> None:
    async with gateway() as served:
        async with served.connect() as wire:
            assert (await wire.ask(b"/1")).body == b"/1"
        async with http2_connected(served.port()) as client:
            assert (await client.ask(b"/2")).body == b"/2"
        await served.settled()
        assert [record.protocol for record in served.records] == ["HTTP/1.1", "HTTP/2"]


async def test_a_preface_byte_by_byte() -> None:
    async with gateway() as served, served.connect() as wire:
        for byte in PREFACE:
            await wire.send(bytes([byte]))
            await settle()
        peer = Http2Peer(wire.transport, client=True)
        await wire.send(h2.SettingsFrame(0).serialize())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.run)
            assert (await peer.ask(b"/bytes")).body == b"/bytes"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("cut", [1, 3, 4, 15, 16])
async def test_a_preface_in_two_pieces(cut: int) -> None:
    async with gateway() as served, served.connect() as wire:
        await wire.send(PREFACE[:cut])
        await settle()
        peer = Http2Peer(wire.transport, client=True)
        await wire.send(PREFACE[cut:] + h2.SettingsFrame(0).serialize())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.run)
            assert (await peer.ask(b"/cut")).body == b"/cut"
            nursery.cancel_scope.cancel()


async def test_http1_byte_by_byte() -> None:
    async with gateway() as served, served.connect() as wire:
        for byte in HTTP1:
            await wire.send(bytes([byte]))
            await trio.lowlevel.checkpoint()
        assert (await wire.message()).body == b"/one"


async def test_a_method_that_begins_as_the_preface_does() -> None:
    async with gateway() as served, served.connect() as wire:
        await wire.send(b"P")
        await settle()
        await wire.send(b"RI /pri HTTP/1.1\r\nhost: app\r\n\r\n")
        assert (await wire.message()).body == b"/pri"


async def test_half_a_preface_and_the_end() -> None:
    async with gateway() as served:
        async with served.connect() as wire:
            await wire.send(PREFACE[:10])
            await wire.transport.send_eof()
            await wire.rest()
        await served.settled()
        [((where, _), count)] = served.refused().items()
        assert (where, count) == ("http1", 1)


async def test_a_preface_that_goes_wrong_is_refused() -> None:
    async with gateway() as served:
        async with served.connect() as wire:
            await wire.send(PREFACE[:18] + b"nonsense")
            await wire.rest()
        await served.settled()
        assert [where for where, _ in served.refused() if where != "codec"] == ["http2"]


async def test_silence_at_the_start(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway(idle_timeout=10.0) as served:
        async with served.connect() as wire:
            started = trio.current_time()
            assert await wire.rest() == b""
            assert trio.current_time() - started == pytest.approx(10, abs=1.2)
        await served.settled()
        assert served.refused() == {("http1", "idle_timeout"): 1}


async def test_silence_within_the_preface(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway(settings=Settings(request_headers_timeout=5.0)) as served:
        async with served.connect() as wire:
            started = trio.current_time()
            await wire.send(PREFACE[:8])
            answer = await wire.message()
            assert answer.status == 408
            assert trio.current_time() - started == pytest.approx(5, abs=6)
        await served.settled()
        assert served.refused() == {("http1", "request_headers_timeout"): 1}


async def test_a_client_that_leaves_without_a_word() -> None:
    async with gateway() as served:
        async with served.connect():
            await settle()
        await served.settled()
        assert served.refused() == {}


async def test_a_drain_closes_a_connection_that_has_said_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway() as served, served.connect() as wire:
        await settle()
        assert await drain(served.dataplane, 30.0) == 0
        assert await wire.rest() == b""


async def test_a_drain_does_not_cut_a_preface_short(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway() as served, served.connect() as wire:
        await wire.send(PREFACE[:10])
        await settle()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain, served.dataplane, 30.0)
            await trio.sleep(0.4)
            peer = Http2Peer(wire.transport, client=True)
            fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/late"), (b":authority", b"app")]
            await wire.send(PREFACE[10:] + h2.SettingsFrame(0).serialize())
            nursery.start_soon(peer.run)
            stream = await peer.open(fields)
            assert (await peer.answer(stream)).body == b"/late"
            await peer.closed()


# ALPN


def mesh_listener() -> config.Listener:
    """An HTTP listener under mesh TLS that takes either version."""
    tls = config.DownstreamTls(alpn=("istio-h2", "h2", "istio-http/1.1", "http/1.1"))
    chain = config.FilterChain("http", tls=tls, http=config.HttpChain("web"))
    return config.Listener("web", "gateway", LOOPBACK, 0, (chain,))


@asynccontextmanager
async def under_tls() -> AsyncIterator[Serving]:
    with trio.fail_after(60):
        async with ScriptedUpstream().running() as upstream:
            given = web(upstream.port, listener=mesh_listener())
            async with serving(given, identity=mesh_identity("server")) as served:
                yield served


@pytest.mark.parametrize("name", ["h2", "istio-h2"])
async def test_alpn_says_http2(name: str) -> None:
    identity = mesh_identity("client", alpn=(name, "http/1.1"))
    async with under_tls() as served, http2_connected(served.port(), identity) as client:
        assert (await client.ask(b"/tls")).body == b"/tls"


async def test_alpn_says_http2_and_the_client_does_not_speak_it() -> None:
    async with under_tls() as served:
        async with served.connect(mesh_identity("client", alpn=("h2",))) as wire:
            await wire.send(HTTP1)
            assert b"HTTP/1.1" not in await wire.rest()
        await served.settled()
        assert served.refused()["http2", "bad_preface"] == 1


@pytest.mark.parametrize("alpn", [("http/1.1",), ("istio-http/1.1", "istio")])
async def test_alpn_says_http1(alpn: tuple[str, ...]) -> None:
    async with under_tls() as served, served.connect(mesh_identity("client", alpn=alpn)) as wire:
        assert (await wire.ask(b"/tls")).body == b"/tls"
