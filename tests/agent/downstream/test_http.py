"""Which version of HTTP a connection speaks: told by ALPN, or by its first bytes, however they come."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from agent.bootstrap import Settings
from agent.drain import drain
from tests.h2_wire import h2_client
from tests.rig import ScriptedUpstream, http_listener, serving, settle, web

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


async def test_both_versions_on_one_port() -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), serving(web(upstream.port)) as served:
        async with served.connect() as one, h2_client(served.port()) as two:
            assert (await one.ask(b"/one")).body == b"/one"
            assert (await two.ask(b"/two")).body == b"/two"
            assert (await one.ask(b"/three")).body == b"/three"


async def test_a_preface_byte_by_byte() -> None:
    async with serving(web(1)) as served, served.connect() as wire:
        for at in range(len(_PREFACE)):
            await wire.send(_PREFACE[at : at + 1])
            await settle()
        assert (await wire.take(9))[3] == 4, "SETTINGS come first"


async def test_what_only_begins_like_a_preface() -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), serving(web(upstream.port)) as served, served.connect() as wire:
        for piece in (b"P", b"RI", b" /a HTTP/1.1\r\nhost: app\r\n\r\n"):
            await wire.send(piece)
            await settle()
        assert (await wire.message()).body == b"/a"
        assert upstream.requests[0].first == b"PRI /a HTTP/1.1"


async def test_a_client_that_hangs_up_unheard() -> None:
    async with serving(web(1)) as served:
        async with served.connect():
            await settle()
        await served.settled()
        assert served.refused() == {}
        assert served.records == []


async def test_a_silent_client(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(web(1, listener=http_listener(idle_timeout=5.0))) as served, served.connect() as wire:
        started = trio.current_time()
        assert await wire.rest() == b""
        assert 4.9 <= trio.current_time() - started <= 5.5
        assert served.refused() == {("http1", "idle_timeout"): 1}


@pytest.mark.parametrize("sent", [b"P", b"PRI * HT"])
async def test_a_client_that_stops_within_the_preface(sent: bytes, autojump_clock: trio.testing.MockClock) -> None:
    settings = Settings(request_headers_timeout=2.0)
    async with serving(web(1), settings=settings) as served, served.connect() as wire:
        await wire.send(sent)
        assert (await wire.message()).status == 408
        assert served.refused() == {("http1", "request_headers_timeout"): 1}


async def test_draining_closes_those_that_have_not_spoken(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(web(1)) as served, served.connect() as wire:
        await settle()
        assert await drain(served.dataplane, 5.0) == 0
        assert await wire.rest() == b""
