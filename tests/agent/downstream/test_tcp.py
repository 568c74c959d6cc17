"""Relayed connections: which cluster they get, how they end, and what their one record tells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from mesh import config
from tests.ports import unused_port
from tests.rig import (
    ScriptedUpstream,
    Serving,
    Wire,
    cluster,
    endpoint,
    idle_counts,
    mirror,
    serving,
    snapshot,
    tcp_listener,
    until,
)


@asynccontextmanager
async def gateway(upstream: ScriptedUpstream, **chain: Any) -> AsyncIterator[Serving]:
    """A TCP gateway before cluster `app`; nothing is held any more when the body is done."""
    with trio.fail_after(100):
        async with upstream.running():
            given = snapshot(
                tcp_listener(("app", 1), **chain),
                cluster(protocol="tcp", service="app.default.svc.cluster.local"),
                config.ClusterEndpoints("app", (endpoint(upstream.port),)),
            )
            async with serving(given) as served:
                with idle_counts(served.cluster()):
                    yield served
                    await served.settled()


async def only_record(served: Serving) -> Any:
    await until(lambda: served.records)
    await served.settled()
    [record] = served.records
    return record


async def closed(wire: Wire) -> None:
    with trio.fail_after(5):
        try:
            assert await wire.rest() == b""
        except trio.BrokenResourceError:
            pass


async def test_a_whole_conversation() -> None:
    upstream = ScriptedUpstream(mirror)
    async with gateway(upstream) as served:
        async with served.connect() as wire:
            await wire.send(b"hello")
            assert await wire.take(5) == b"hello"
            await wire.transport.send_eof()
            assert await wire.rest() == b""
        record = await only_record(served)
        assert (record.protocol, record.cluster, record.flags) == ("TCP", "app", ())
        assert (record.bytes_received, record.bytes_sent, record.attempts) == (5, 5, 1)
        assert record.upstream_host == f"127.0.0.1:{upstream.port}"
        assert record.upstream_local.startswith("127.0.0.1:")
        assert record.end >= record.start
        assert (served.cluster().endpoints["127.0.0.1", upstream.port].cx_active) == 0
    text = served.registry.exposition().decode()
    assert "istio_tcp_connections_opened_total{" in text
    assert "istio_tcp_connections_closed_total{" in text


@pytest.mark.parametrize(
    ("clusters", "resources", "flag", "details"),
    [
        ((), (), "NR", "route_not_found"),
        ((("gone", 1),), (), "NC", "cluster_not_found"),
        ((("app", 1),), (cluster(),), "UH", "no_healthy_upstream"),
    ],
)
async def test_without_a_destination_the_client_is_cut(clusters: Any, resources: Any, flag: str, details: str) -> None:
    async with serving(snapshot(tcp_listener(*clusters), *resources)) as served:
        async with served.connect() as wire:
            await closed(wire)
        record = await only_record(served)
        assert (record.flags, record.details) == ((flag,), details)


async def test_nobody_listens_upstream() -> None:
    port = unused_port()
    given = snapshot(
        tcp_listener(("app", 1)),
        cluster(outlier=config.OutlierDetection(consecutive_5xx=1, max_ejection_percent=100.0)),
        config.ClusterEndpoints("app", (endpoint(port),)),
    )
    async with serving(given) as served:
        async with served.connect() as wire:
            await closed(wire)
        record = await only_record(served)
        assert (record.flags, record.transport_failure) == (("UF",), "Connection refused")
        app = served.cluster()
        assert app.limits.connections.held == 0
        [bad] = app.endpoints.values()
        assert (bad.rq_error, bad.state) == (1, "ejected")


async def test_more_connections_than_the_cluster_takes() -> None:
    upstream = ScriptedUpstream(mirror)
    async with upstream.running():
        given = snapshot(
            tcp_listener(("app", 1)),
            cluster(breakers={"max_connections": 1}),
            config.ClusterEndpoints("app", (endpoint(upstream.port),)),
        )
        async with serving(given) as served, served.connect() as first:
            await first.send(b"a")
            assert await first.take(1) == b"a"
            async with served.connect() as second:
                await closed(second)
            await until(lambda: served.records)
            assert served.records[0].flags == ("UO",)
            await first.send(b"b")
            assert await first.take(1) == b"b"


@pytest.mark.parametrize(("who", "flag"), [("client", "DC"), ("server", "UC")])
async def test_a_reset_is_told_and_passed_on(who: str, flag: str) -> None:
    async def rude(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.take(1)
        if who == "server":
            wire.transport.reset()
        else:
            await mirror(upstream, wire)

    async with gateway(ScriptedUpstream(rude)) as served:
        async with served.connect() as wire:
            await wire.send(b"x")
            if who == "client":
                await until(lambda: served.cluster().limits.connections.held)
                wire.transport.reset()
            else:
                with pytest.raises(trio.BrokenResourceError):
                    await wire.rest()
        assert (await only_record(served)).flags == (flag,)


async def test_silence_ends_a_relay(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway(ScriptedUpstream(mirror), idle_timeout=20.0) as served:
        async with served.connect() as wire:
            await wire.send(b"x")
            await wire.take(1)
            assert await wire.rest() == b""
        record = await only_record(served)
        assert (record.flags, record.termination_details) == ((), "idle_timeout")


async def test_weights_share_the_connections() -> None:
    def answer(word: bytes) -> Any:
        async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
            await wire.send(word)

        return ScriptedUpstream(script)

    one, two = answer(b"1"), answer(b"2")
    async with one.running(), two.running():
        given = snapshot(
            tcp_listener(("one", 1), ("two", 3), ("never", 0)),
            cluster("one"),
            cluster("two"),
            config.ClusterEndpoints("one", (endpoint(one.port),)),
            config.ClusterEndpoints("two", (endpoint(two.port),)),
        )
        async with serving(given) as served:
            heard = []
            for _ in range(60):
                async with served.connect() as wire:
                    heard.append(await wire.rest())
            assert set(heard) == {b"1", b"2"}
            assert 30 < heard.count(b"2") < 58


async def test_a_cluster_with_no_weight_at_all_still_serves() -> None:
    upstream = ScriptedUpstream(mirror)
    async with upstream.running():
        given = snapshot(
            tcp_listener(("app", 0)), cluster(), config.ClusterEndpoints("app", (endpoint(upstream.port),))
        )
        async with serving(given) as served, served.connect() as wire:
            await wire.send(b"x")
            assert await wire.take(1) == b"x"


async def test_an_upstream_is_told_whose_connection_it_is() -> None:
    async def first_line(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.send(await wire.transport.receive())

    upstream = ScriptedUpstream(first_line)
    async with upstream.running():
        given = snapshot(
            tcp_listener(("app", 1)),
            cluster(protocol="tcp", proxy_protocol="v1"),
            config.ClusterEndpoints("app", (endpoint(upstream.port),)),
        )
        async with serving(given) as served, served.connect() as wire:
            near, far = wire.transport.local, wire.transport.remote
            told = await wire.transport.receive()
    near_port, far_port = near.rpartition(":")[2], far.rpartition(":")[2]
    assert told == f"PROXY TCP4 127.0.0.1 127.0.0.1 {near_port} {far_port}\r\n".encode()
