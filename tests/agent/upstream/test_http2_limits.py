"""What a connectionPool says of HTTP/2: so many streams at once, and a PING for a silent peer."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.h2_rig import Http2Peer, Http2Upstream, PeerStream, gateway, http2_connected, http2_echo
from tests.rig import ScriptedUpstream, Wire, serving, until, web

pytestmark = pytest.mark.usefixtures("engine")


async def test_the_configured_limit_of_streams() -> None:
    gate = trio.Event()

    async def wait(peer: Http2Peer, stream: PeerStream) -> None:
        await gate.wait()
        await http2_echo(peer, stream)

    upstream = Http2Upstream(wait)
    cluster = {"connection": {"max_concurrent_streams": 2}}
    async with gateway(upstream, cluster=cluster) as served, http2_connected(served.port()) as client:
        streams = [await client.begin() for _ in range(5)]
        await until(lambda: len(upstream.seen) == 5)
        assert upstream.accepted == 3
        gate.set()
        assert {(await client.answer(stream)).status for stream in streams} == {200}


KEEPALIVE = {"http2_keepalive": (5.0, 3.0)}


async def test_a_silent_peer_that_answers_pings_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    async def hang(peer: Http2Peer, stream: PeerStream) -> None:
        await trio.sleep_forever()

    async with gateway(Http2Upstream(hang), cluster={"connection": KEEPALIVE}) as served:
        async with http2_connected(served.port()) as client:
            stream = await client.begin()
            await trio.sleep(60)
            assert not stream.over
        assert served.refused() == {}


async def test_a_peer_that_answers_no_ping_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async def mute(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.rest()

    async with ScriptedUpstream(mute).running() as upstream:
        async with serving(web(upstream.port, protocol="http2", connection=KEEPALIVE)) as served:
            async with http2_connected(served.port()) as client:
                assert (await client.ask()).status == 503
            assert served.refused() == {("upstream_http2", "keepalive_timeout"): 1}
