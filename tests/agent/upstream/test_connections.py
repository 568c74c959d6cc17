"""Shared connections of a cluster: opened once for many, within limits, drained, and never shared where it is wrong."""

from __future__ import annotations

import msgspec
import trio
import trio.testing

from agent.codec.http2 import Http2Limits
from mesh import config
from tests.h2_wire import H2Upstream, H2Wire, h2_client, h2_echo, web2
from tests.rig import connected, serving, settle, until


async def test_one_connection_is_opened_for_all_who_wait() -> None:
    upstream = H2Upstream()
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        numbers = [await wire.open(b"/%d" % each) for each in range(50)]
        assert {(await wire.answered(number)).status for number in numbers} == {200}
        assert upstream.accepted == 1
        assert served.cluster().stats.upstream_cx_total.value == 1


async def test_all_who_wait_hear_that_it_cannot_be_opened() -> None:
    async with serving(web2(1)) as served, h2_client(served.port()) as wire:
        numbers = [await wire.open() for _ in range(5)]
        assert {(await wire.answered(number)).status for number in numbers} == {503}
        assert {record.flags for record in served.records} == {("UF",)}
        assert served.cluster().limits.connections.held == 0


async def test_more_streams_than_the_peer_allows_need_more_connections() -> None:
    gate = trio.Event()

    async def wait(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        await gate.wait()
        await h2_echo(upstream, wire, number)

    upstream = H2Upstream(wait, Http2Limits(max_concurrent_streams=2))
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        [endpoint] = served.cluster().endpoints.values()
        numbers: list[int] = []
        for count in range(1, 6):
            numbers.append(await wire.open())
            await until(lambda: len(upstream.requests) == len(numbers))
            await until(lambda: all(each.codec.max_streams == 2 for each in endpoint.streams.connections))
            assert count == len(numbers)
        assert upstream.accepted == 3
        gate.set()
        assert {(await wire.answered(number)).status for number in numbers} == {200}


async def test_at_the_limit_of_connections_streams_wait_for_a_place() -> None:
    gate = trio.Event()

    async def wait(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        await gate.wait()
        await h2_echo(upstream, wire, number)

    upstream = H2Upstream(wait, Http2Limits(max_concurrent_streams=2))
    limits = {"max_connections": 1, "max_pending_requests": 2}
    async with upstream.running(), serving(web2(upstream.port, breakers=limits)) as served:
        async with h2_client(served.port()) as wire:
            cluster = served.cluster()
            numbers = [await wire.open()]
            [endpoint] = cluster.endpoints.values()
            await until(lambda: endpoint.streams.connections and endpoint.streams.connections[0].codec.max_streams == 2)
            numbers += [await wire.open() for _ in range(3)]
            await until(lambda: cluster.limits.pending.held == 2)
            refused = await wire.ask()
            assert (refused.status, refused.header(b"x-envoy-overloaded")) == (503, b"true")
            gate.set()
            assert {(await wire.answered(number)).status for number in numbers} == {200}
            assert upstream.accepted == 1
            assert cluster.limits.pending.held == 0


async def test_a_cancelled_opener_hands_over() -> None:
    upstream = H2Upstream()
    async with upstream.running(), serving(web2(upstream.port)) as served:
        cluster = served.cluster()
        [endpoint] = cluster.endpoints.values()
        leased = []

        async def lease() -> None:
            leased.append(await cluster.lease(endpoint, multiplexed=True))

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                scope.cancel()
                await cluster.lease(endpoint, multiplexed=True)
            for _ in range(3):
                nursery.start_soon(lease)
        assert len(leased) == 3
        assert cluster.limits.connections.held == 1
        for each in leased:
            cluster.discard(each)


async def test_a_connection_serves_so_many_requests_and_no_more() -> None:
    upstream = H2Upstream()
    settings = {"max_requests_per_connection": 2}
    async with upstream.running(), serving(web2(upstream.port, connection=settings)) as served:
        async with h2_client(served.port()) as wire:
            for _ in range(5):
                assert (await wire.ask()).status == 200
        assert upstream.accepted == 3
        await until(lambda: [each.closed for each in upstream.wires] == [True, True, False])


async def test_new_settings_drain_what_was_opened_under_old_ones() -> None:
    upstream = H2Upstream()
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        before = served.dataplane.plan.snapshot
        await wire.ask()
        changed = msgspec.structs.replace(
            before.clusters["app"], connection=config.ConnectionSettings(connect_timeout=3.0)
        )
        served.apply(msgspec.structs.replace(before, clusters={"app": changed}))
        await until(lambda: upstream.wires[0].closed)
        assert (await wire.ask()).status == 200
        assert upstream.accepted == 2


async def test_a_connection_that_speaks_for_one_client_is_not_shared() -> None:
    seen: list[bytes] = []
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]

        async def serve(stream: trio.SocketStream) -> None:
            seen.append(await stream.receive_some(4096))

        nursery.start_soon(trio.serve_listeners, serve, listeners)
        async with serving(web2(port, proxy_protocol="v1")) as served:
            for _ in range(2):
                async with connected(served.port()) as wire:
                    assert (await wire.ask()).status == 503
            assert len(seen) == 2
            assert all(data.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ") for data in seen)
            await settle()
            assert served.cluster().limits.connections.held == 0
        nursery.cancel_scope.cancel()


async def test_the_configured_limit_of_streams() -> None:
    gate = trio.Event()

    async def wait(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        await gate.wait()
        await h2_echo(upstream, wire, number)

    upstream = H2Upstream(wait)
    settings = {"max_concurrent_streams": 2}
    async with upstream.running(), serving(web2(upstream.port, connection=settings)) as served:
        async with h2_client(served.port()) as wire:
            numbers = [await wire.open() for _ in range(5)]
            await until(lambda: len(upstream.requests) == 5)
            assert upstream.accepted == 3
            gate.set()
            assert {(await wire.answered(number)).status for number in numbers} == {200}


async def test_a_silent_peer_is_asked_and_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async def hang(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        await trio.sleep_forever()

    settings = {"http2_keepalive": (5.0, 3.0)}
    upstream = H2Upstream(hang)
    async with upstream.running(), serving(web2(upstream.port, connection=settings)) as served:
        async with h2_client(served.port()) as wire:
            number = await wire.open()
            await trio.sleep(60)
            assert not wire.streams[number].over, "it answers its pings"
        assert served.refused() == {}
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:

        async def never(stream: trio.SocketStream) -> None:
            while await stream.receive_some(4096):
                pass

        nursery.start_soon(trio.serve_listeners, never, listeners)
        async with serving(web2(port, connection=settings)) as served, h2_client(served.port()) as wire:
            number = await wire.open()
            assert (await wire.answered(number, seconds=60)).status == 503
            assert served.refused() == {("upstream_http2", "keepalive_timeout"): 1}
        nursery.cancel_scope.cancel()
