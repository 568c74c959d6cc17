"""Exchanges that become byte tunnels: WebSocket upgrades, and CONNECT on the explicit outbound proxy."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from agent.bootstrap import Settings
from mesh import config
from tests.agent.exchange.scripts import HANG, listener, ok, route, steps, to
from tests.rig import (
    LOOPBACK,
    ScriptedUpstream,
    Serving,
    Wire,
    cluster,
    connected,
    endpoint,
    http_listener,
    idle_counts,
    listening,
    mirror,
    serving,
    settle,
    snapshot,
    until,
)

UPGRADE = b"GET /chat HTTP/1.1\r\nhost: app\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\r\n"


async def websocket(upstream: ScriptedUpstream, wire: Wire) -> None:
    """Accept the upgrade, say hello in the same write, then echo until the other side is done."""
    upstream.requests.append(await wire.message())
    await wire.send(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello")
    await mirror(upstream, wire)


def gateway(port: int, timeout: float = 0.0, **fields: Any) -> config.Snapshot:
    return snapshot(
        http_listener(**fields),
        route(to("app", timeout=timeout)),
        cluster(),
        config.ClusterEndpoints("app", (endpoint(port),)),
    )


async def test_a_websocket_echoes_and_half_closes() -> None:
    async with ScriptedUpstream(websocket).running() as upstream, serving(gateway(upstream.port)) as proxy:
        with trio.fail_after(5), idle_counts(proxy.cluster()):
            async with proxy.connect() as wire:
                await wire.send(UPGRADE + b"early")
                answer = await wire.head()
                assert (answer.status, answer.headers[b"upgrade"]) == (101, b"websocket")
                assert answer.headers[b"connection"] == b"upgrade"
                assert await wire.take(10) == b"helloearly"
                await wire.send(b"x" * 100_000)
                assert await wire.take(100_000) == b"x" * 100_000
                await wire.transport.send_eof()
                assert await wire.rest() == b""
            await proxy.settled()
    assert upstream.requests[0].headers[b"upgrade"] == b"websocket"
    record = proxy.records[0]
    assert (record.response_code, record.flags) == (101, ())
    assert record.bytes_received >= 100_005
    assert record.bytes_sent >= 100_010


async def test_a_tunnel_outlives_the_routes_timeout_and_ends_when_idle(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with ScriptedUpstream(websocket).running() as upstream:
        async with serving(gateway(upstream.port, timeout=3.0, idle_timeout=100.0)) as proxy:
            with idle_counts(proxy.cluster()):
                async with proxy.connect() as wire:
                    await wire.send(UPGRADE)
                    await wire.head()
                    assert await wire.take(5) == b"hello"
                    await trio.sleep(50)
                    await wire.send(b"still")
                    assert await wire.take(5) == b"still"
                    start = trio.current_time()
                    assert await wire.rest() == b""
                    assert trio.current_time() - start == pytest.approx(100, abs=5)
                await proxy.settled()


async def test_a_tunnel_has_its_own_idle_timeout(autojump_clock: trio.testing.MockClock) -> None:
    settings = Settings(stream_idle_timeout=3.0, request_timeout=3.0)
    async with ScriptedUpstream(websocket).running() as upstream:
        async with serving(gateway(upstream.port), settings=settings) as proxy, proxy.connect() as wire:
            await wire.send(UPGRADE)
            await wire.head()
            assert await wire.take(5) == b"hello"
            await trio.sleep(50)
            await wire.send(b"still")
            assert await wire.take(5) == b"still"


async def test_a_refused_upgrade_is_an_ordinary_answer() -> None:
    async with ScriptedUpstream(steps(ok(b"no", status=400))).running() as upstream:
        async with serving(gateway(upstream.port)) as proxy, proxy.connect() as wire:
            with trio.fail_after(5):
                await wire.send(UPGRADE)
                answer = await wire.message()
    assert (answer.status, answer.body) == (400, b"no")


async def test_an_upstream_that_hangs_before_it_switches(autojump_clock: trio.testing.MockClock) -> None:
    async with ScriptedUpstream(steps(HANG)).running() as upstream:
        async with serving(gateway(upstream.port, timeout=3.0)) as proxy, proxy.connect() as wire:
            await wire.send(UPGRADE)
            assert (await wire.message()).status == 504


# CONNECT


def outbound(unknown_host: Any, *services: config.Resource) -> config.Snapshot:
    """An app's explicit proxy."""
    return snapshot(
        listener("outbound", route_by_port=True, unknown_host=unknown_host),
        cluster("PassthroughCluster", discovery="original_dst"),
        *services,
    )


async def tunnel(proxy: Serving, authority: bytes) -> None:
    """Open a tunnel, send bytes there and back, half-close."""
    with trio.fail_after(5):
        async with proxy.connect() as wire:
            await wire.send(b"CONNECT %s HTTP/1.1\r\nhost: %s\r\n\r\nearly" % (authority, authority))
            answer = await wire.head()
            assert answer.first == b"HTTP/1.1 200 Connection Established"
            assert await wire.take(5) == b"early"
            await wire.send(b"later")
            assert await wire.take(5) == b"later"
            await wire.transport.send_eof()
            assert await wire.rest() == b""
        await proxy.settled()


async def test_connect_to_an_unknown_host_passes_through() -> None:
    async with ScriptedUpstream(mirror).running() as upstream, serving(outbound("allow_any")) as proxy:
        with idle_counts(proxy.cluster("PassthroughCluster")):
            await tunnel(proxy, b"%s:%d" % (LOOPBACK.encode(), upstream.port))
    record = proxy.records[0]
    assert (record.cluster, record.route, record.response_code) == ("PassthroughCluster", "connect", 200)
    assert record.upstream_host == f"{LOOPBACK}:{upstream.port}"
    assert (record.flags, record.attempts) == ((), 1)


@pytest.mark.parametrize("protocol", ["http1", "http2", "tcp"])
@pytest.mark.parametrize("routed", [True, False])
async def test_connect_to_a_service(routed: bool, protocol: str) -> None:
    """Whatever it speaks: what is in a tunnel is the client's, and no stream of a connection that others use."""
    name = "outbound|8443||shop.example"
    table = config.RouteConfig(
        "8443",
        (config.VirtualHost("shop", ("shop.example",), (config.Route("all", config.RouteMatch(), to("gone", name)),)),),
    )
    async with ScriptedUpstream(mirror).running() as upstream:
        services = [cluster(name, protocol=protocol), config.ClusterEndpoints(name, (endpoint(upstream.port),))]
        async with serving(outbound("registry_only", *services, *([table] if routed else []))) as proxy:
            with idle_counts(proxy.cluster(name)):
                await tunnel(proxy, b"shop.example:8443")
    assert proxy.records[0].cluster == name


async def test_connect_outside_is_refused_when_only_the_registry_may_be_reached() -> None:
    async with serving(outbound("registry_only")) as proxy, proxy.connect() as wire:
        await wire.send(b"CONNECT 127.0.0.1:9 HTTP/1.1\r\nhost: 127.0.0.1:9\r\n\r\n")
        assert (await wire.message()).status == 502
    assert proxy.records[0].flags == ("UH",)


async def test_connect_to_a_closed_port() -> None:
    async with listening() as closed:
        port = closed.port
    async with serving(outbound("allow_any")) as proxy, proxy.connect() as wire:
        with idle_counts(proxy.cluster("PassthroughCluster")):
            await wire.send(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nhost: x\r\n\r\n" % port)
            assert (await wire.message()).status == 503
    assert proxy.records[0].flags == ("UF",)


async def test_a_client_that_leaves_while_its_tunnel_is_being_opened(autojump_clock: trio.testing.MockClock) -> None:
    async with listening() as full:
        full.sock.listen(0)  # the kernel holds one connection, and lets the next wait
        name = "outbound|8443||shop.example"
        services = [
            cluster(name, connection={"connect_timeout": 1000.0}),
            config.ClusterEndpoints(name, (endpoint(full.port),)),
        ]
        async with serving(outbound("registry_only", *services)) as proxy, connected(full.port):
            with trio.fail_after(60), idle_counts(proxy.cluster(name)):
                async with proxy.connect() as wire:
                    await wire.send(b"CONNECT shop.example:8443 HTTP/1.1\r\nhost: x\r\n\r\n")
                    await settle()
                await proxy.settled()
    assert [record.flags for record in proxy.records] == [("DC",)]


# Plain requests on the explicit proxy


async def test_plain_requests_to_unknown_hosts() -> None:
    async with ScriptedUpstream().running() as upstream:
        for policy, status in (("allow_any", 200), ("registry_only", 502), ("reject", 404)):
            async with serving(outbound(policy)) as proxy, proxy.connect() as wire:
                authority = b"127.0.0.1:%d" % upstream.port
                answer = await wire.ask(b"http://" + authority + b"/x", host=authority)
                assert answer.status == status
                await until(lambda proxy=proxy: proxy.records)
    assert [request.path for request in upstream.requests] == [b"/x"]
