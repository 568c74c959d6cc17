"""Upstream HTTP/2 connections: what their end, resets and goodbyes mean for the exchanges on them."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from agent.codec.headers import Headers
from agent.codec.http2 import CANCEL, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, Http2Limits
from agent.codec.message import ResponseHead
from mesh import config
from tests.h2_wire import H2Upstream, H2Wire, h2_client, h2_echo, web2
from tests.rig import serving, settle, until, web


async def test_http1_requests_share_a_connection() -> None:
    upstream = H2Upstream()
    async with upstream.running(), serving(web2(upstream.port)) as served:
        async with served.connect() as one, served.connect() as two:
            assert (await one.ask(b"/one")).body == b"/one"
            assert (await two.ask(b"/two")).body == b"/two"
        assert upstream.accepted == 1
        head = upstream.requests[0]
        assert (head.authority, head.path) == (b"app", b"/one")
        assert head.headers.get(b"host") is None
        assert served.records[0].protocol == "HTTP/1.1"


@pytest.mark.parametrize(
    ("code", "status", "flag", "reply"),
    [
        (INTERNAL_ERROR, 503, "UR", b"UR upstream_reset_before_response_started{remote_reset}"),
        (REFUSED_STREAM, 503, "UR", b"UR upstream_reset_before_response_started{remote_refused_stream_reset}"),
    ],
)
async def test_a_stream_that_the_upstream_resets(code: int, status: int, flag: str, reply: bytes) -> None:
    async def reset(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        wire.codec.reset(number, code)
        await wire.flush()

    upstream = H2Upstream(reset)
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        seen = await wire.ask()
        assert (seen.status, seen.header(b"x-mesh-reply")) == (status, reply)
        assert served.records[0].flags == (flag,)
        assert upstream.accepted == 1
        assert not upstream.wires[0].closed, "its neighbours go on"


async def test_a_goaway_lets_streams_finish_and_sends_new_ones_elsewhere() -> None:
    async def once(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        if upstream.accepted == 1 and number == 1:
            wire.codec.goaway()
            await wire.flush()
            await until(lambda: upstream.accepted == 2)
        await h2_echo(upstream, wire, number)

    upstream = H2Upstream(once)
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        first = await wire.open(b"/first")
        [endpoint] = served.cluster().endpoints.values()
        await until(lambda: endpoint.streams.connections and endpoint.streams.connections[0].closing)
        assert (await wire.ask(b"/second")).body == b"/second"
        assert (await wire.answered(first)).body == b"/first"
        assert upstream.accepted == 2
        await until(lambda: len(endpoint.streams.connections) == 1)


async def test_a_connection_that_dies_under_a_request() -> None:
    async def die(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        wire.transport.close()

    upstream = H2Upstream(die)
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        seen = await wire.ask(method=b"POST")
        assert (seen.status, served.records[0].flags) == (503, ("UC",))
        await settle()
        assert served.cluster().limits.connections.held == 0


async def test_a_response_that_is_none() -> None:
    async def odd(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        wire.codec.send_head(number, ResponseHead(200, Headers([(b"content-length", b"5")])), end=False)
        wire.codec.send_data(number, b"too long a body", end=True)
        await wire.flush()

    upstream = H2Upstream(odd)
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        seen = await wire.ask()
        assert (seen.status, seen.body, seen.reset) == (200, b"", INTERNAL_ERROR)
        assert served.records[0].flags == ("UPE",)


async def test_route_timeouts_reset_the_upstreams_stream(autojump_clock: trio.testing.MockClock) -> None:
    async def hang(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        await trio.sleep_forever()

    upstream = H2Upstream(hang)
    snapshot = web2(upstream.port)
    async with upstream.running(), serving(timed(web2(upstream.port))) as served, h2_client(served.port()) as wire:
        number = await wire.open()
        assert (await wire.answered(number, seconds=60)).status == 504
        await until(lambda: upstream.wires[0].streams[1].reset == CANCEL)
        assert served.records[0].flags == ("UT",)
    assert snapshot.clusters["app"].protocol == "http2"


def timed(snapshot: config.Snapshot) -> config.Snapshot:
    """The same with a timeout of two seconds."""
    [table] = snapshot.routes.values()
    [host] = table.virtual_hosts
    [route] = host.routes
    action = config.RouteAction((config.WeightedCluster("app"),), timeout=2.0)
    made = config.Route(route.name, route.match, action)
    snapshot.routes["web"] = config.RouteConfig("web", (config.VirtualHost("any", ("*",), (made,)),))
    return snapshot


async def test_an_idle_connection_is_closed_with_a_goodbye(autojump_clock: trio.testing.MockClock) -> None:
    upstream = H2Upstream()
    settings = {"idle_timeout": 5.0}
    async with upstream.running(), serving(web2(upstream.port, connection=settings)) as served:
        async with h2_client(served.port()) as wire:
            await wire.ask()
            await until(lambda: upstream.wires[0].closed, seconds=30)
            assert upstream.wires[0].goaway[0][1] == NO_ERROR
            assert (await wire.ask()).status == 200
        assert upstream.accepted == 2


async def test_a_flood_by_the_upstream_costs_its_connection() -> None:
    async def flood(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        await wire.transport.send(b"\0\0\x08\x06\0\0\0\0\0........" * 3000)

    upstream = H2Upstream(flood)
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        assert (await wire.ask()).status == 502
        await until(lambda: ("upstream_http2", "control_flood") in served.refused())


async def test_an_upload_waits_for_the_upstreams_window() -> None:
    async def reluctant(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        seen = wire.streams[number]
        wire.taking = False
        await wire.until(lambda: len(seen.body) >= 65536)
        wire.taking = True
        wire.codec.consume(number, len(seen.body))
        await wire.flush()
        await wire.until(lambda: seen.ended)
        await wire.answer(number, body=b"%d" % len(seen.body))

    upstream = H2Upstream(reluctant, Http2Limits(stream_window=65536))
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        number = await wire.open(method=b"POST", end=False)
        wire.codec.send_data(number, b"x" * 1_000_000, end=True)
        await wire.flush()
        assert (await wire.answered(number)).body == b"1000000"


async def test_each_request_in_the_version_that_it_came_by() -> None:
    two = H2Upstream()
    async with two.running(), serving(web(two.port, protocol="downstream")) as served:
        async with h2_client(served.port()) as wire:
            assert (await wire.ask(b"/two")).body == b"/two"
        cluster = served.cluster()
        assert (cluster.multiplexes(b"2"), cluster.multiplexes(b"1.1")) == (True, False)
