"""A living cluster over loopback: leases, what a push changes, who is picked."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from agent.exchange.faults import ProxyFault
from agent.upstream.cluster import Cluster
from mesh import config
from tests.agent.upstream.cluster_rig import ask, exchange, living, only
from tests.rig import (
    LOOPBACK,
    ScriptedUpstream,
    Wire,
    cluster,
    echo,
    endpoint,
    listening,
    make_cluster,
    mesh_identity,
    until,
)

# Leases


async def test_a_connection_serves_again() -> None:
    upstream = ScriptedUpstream()
    async with living(upstream) as made:
        for path in (b"/1", b"/2", b"/3"):
            assert await exchange(made, path) == path
        assert upstream.accepted == 1
        assert only(made).cx_total == made.stats.upstream_cx_total.value == 1
        assert only(made).pool.idle[0].served == 3


async def test_a_connection_that_speaks_for_one_client_does_not_serve_again() -> None:
    headers: list[bytes] = []

    async def read_header(upstream: ScriptedUpstream, wire: Wire) -> None:
        data = await wire.transport.receive()
        end = data.index(b"\r\n") + 2
        headers.append(data[:end])
        wire.transport.unread(data[end:])
        await echo(upstream, wire)

    async with living(ScriptedUpstream(read_header), proxy_protocol="v1") as made:
        for number in (1, 2, 2):
            connection = await made.lease(only(made), (f"192.0.2.{number}:1", "192.0.2.9:80"))
            assert await ask(connection) == b"/"
            made.give(connection, made.clock())
            assert not only(made).pool.idle
    assert [header.split(b" ")[2] for header in headers] == [b"192.0.2.1", b"192.0.2.2", b"192.0.2.2"]


async def test_a_lease_begins_with_nothing_sent() -> None:
    async with living() as made:
        await exchange(made)
        connection = await made.lease(only(made))
        assert not connection.sent
        assert not connection.received
        made.discard(connection)


async def test_the_requests_of_one_connection_are_limited() -> None:
    upstream = ScriptedUpstream()
    async with living(upstream, connection={"max_requests_per_connection": 2}) as made:
        for _ in range(5):
            await exchange(made)
        assert upstream.accepted == 3


async def test_the_life_of_a_connection_is_limited(autojump_clock: trio.testing.MockClock) -> None:
    upstream = ScriptedUpstream()
    async with living(upstream, connection={"max_connection_duration": 3.0}) as made:
        for _ in range(4):
            await exchange(made)
            await trio.sleep(2)
        assert upstream.accepted == 2


async def test_idle_connections_expire(autojump_clock: trio.testing.MockClock) -> None:
    upstream = ScriptedUpstream()
    async with living(upstream, connection={"idle_timeout": 5.0}) as made:
        await exchange(made)
        made.tick(trio.current_time() + 4.9)
        assert len(only(made).pool.idle) == 1
        made.tick(trio.current_time() + 5)
        assert only(made).pool.idle == []
        await until(lambda: upstream.open == 0)


async def test_a_connection_that_the_server_closed_is_not_leased(autojump_clock: trio.testing.MockClock) -> None:
    async def once(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.answer()

    upstream = ScriptedUpstream(once)
    async with living(upstream) as made:
        await exchange(made)
        await trio.sleep(1)
        await exchange(made)
        assert upstream.accepted == 2
        await trio.sleep(1)
        made.tick(trio.current_time())
        assert only(made).pool.idle == []


async def test_a_tls_connection_that_the_server_ended_is_not_leased(autojump_clock: trio.testing.MockClock) -> None:
    async def once(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.answer()
        await wire.transport.send_eof()
        await wire.rest()

    upstream = ScriptedUpstream(once, mesh_identity("server"))
    tls = config.UpstreamTls("istio_mutual")
    async with living(upstream, tls=tls, identity=mesh_identity("client")) as made:
        await exchange(made)
        await trio.sleep(1)
        await exchange(made)
        assert upstream.accepted == 2


async def test_a_server_that_says_close_is_obeyed() -> None:
    async def last(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.answer(extra=b"connection: close\r\n")

    async with living(ScriptedUpstream(last)) as made:
        await exchange(made)
        assert only(made).pool.idle == []


async def test_junk_behind_a_response_is_counted_and_ends_the_connection() -> None:
    async def chatty(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\njunk")
        await wire.rest()

    refused: list[tuple[str, str, int]] = []
    async with living(ScriptedUpstream(chatty), refused=lambda *what: refused.append(what)) as made:
        await exchange(made)
        assert only(made).pool.idle == []
        assert refused == [("upstream_codec", "junk_after_response", 1)]


async def test_a_failed_connect_counts_and_holds_nothing() -> None:
    async with listening() as listener:
        port = listener.port
    async with living() as made:
        made.set_endpoints((endpoint(port),))
        for door in (made.lease, made.open_tcp):
            with pytest.raises(ProxyFault) as failed:
                await door(only(made))
            assert failed.value.flag == "UF"
        assert only(made).cx_connect_fail == made.stats.upstream_cx_connect_fail.value == 2
        assert made.stats.upstream_cx_connect_timeout.value == 0


async def test_a_connect_timeout_is_counted_as_one(autojump_clock: trio.testing.MockClock) -> None:
    async def stall(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.rest()

    tls = config.UpstreamTls("istio_mutual")
    identity = mesh_identity("client")
    async with living(ScriptedUpstream(stall), tls=tls, identity=identity, connection={"connect_timeout": 2.0}) as made:
        with pytest.raises(ProxyFault):
            await made.lease(only(made))
        assert made.stats.upstream_cx_connect_timeout.value == 1


async def test_a_cancelled_connect_holds_nothing() -> None:
    async def stall(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.rest()

    async with living(
        ScriptedUpstream(stall), tls=config.UpstreamTls("istio_mutual"), identity=mesh_identity("client")
    ) as made:
        for door in (made.lease, made.open_tcp):
            with trio.move_on_after(0.02) as scope:
                await door(only(made))
            assert scope.cancelled_caught
        assert made.limits.connections.held == 0


# What a push changes


@pytest.mark.parametrize(
    "change",
    [{"tls": config.UpstreamTls("disable")}, {"connection": {"idle_timeout": 7.0}}],
)
async def test_other_connection_settings_close_what_was_made_before(change: dict[str, Any]) -> None:
    upstream = ScriptedUpstream()
    async with living(upstream) as made:
        leased = await made.lease(only(made))
        await exchange(made)
        made.reconfigure(cluster(**change))
        assert only(made).pool.idle == []
        await ask(leased)
        made.give(leased, made.clock())
        assert only(made).pool.idle == [], "a leased one closes when it comes back"
        await exchange(made)
        assert len(only(made).pool.idle) == 1


async def test_other_settings_keep_connections() -> None:
    async with living() as made:
        await exchange(made)
        made.reconfigure(cluster(lb_policy="random", breakers={"max_requests": 5}))
        assert len(only(made).pool.idle) == 1
        assert made.limits.requests.limit == 5


async def test_endpoints_that_stay_keep_their_state() -> None:
    async with living(ScriptedUpstream(), ScriptedUpstream()) as made:
        stays, goes = made.endpoints.values()
        for each in (stays, goes):
            await exchange(made, to=each)
        leased = await made.lease(goes)
        made.set_endpoints((endpoint(stays.port, weight=5),))
        assert only(made) is stays
        assert (stays.weight, stays.cx_total, len(stays.pool.idle)) == (5, 1, 1)
        assert goes.removed
        await ask(leased)
        made.give(leased, made.clock())
        assert goes.cx_active == 0
        assert made.stats.membership_total.value == 1
        # a request that picked it before the push may still use it, but leaves nothing behind
        await exchange(made, to=goes)
        assert (goes.cx_active, goes.pool.idle) == (0, [])


async def test_an_endpoint_that_learns_mesh_tls_is_connected_anew() -> None:
    async with living() as made:
        await exchange(made)
        made.set_endpoints((endpoint(only(made).port, tls="istio"),))
        assert only(made).pool.idle == []


async def test_a_closed_cluster_pools_nothing() -> None:
    async with living() as made:
        leased = await made.lease(only(made))
        made.close()
        await ask(leased)
        made.give(leased, made.clock())
        await exchange(made)
        assert only(made).cx_active == 0


# Picking


async def test_nobody_to_pick() -> None:
    made = make_cluster(cluster())
    with pytest.raises(ProxyFault) as refused:
        made.pick()
    assert (refused.value.flag, refused.value.status) == ("UH", 503)


async def test_unhealthy_endpoints_are_not_picked() -> None:
    made = make_cluster(cluster())
    made.set_endpoints((endpoint(1, health="unhealthy"), endpoint(2), endpoint(3, health="draining")))
    assert {made.pick().port for _ in range(10)} == {2}
    assert made.stats.membership_healthy.value == 1
    made.set_endpoints((endpoint(1, health="unhealthy"),))
    with pytest.raises(ProxyFault):
        made.pick()


async def test_excluded_endpoints_are_avoided() -> None:
    made = make_cluster(cluster(lb_policy="round_robin"), 1, 2)
    first = made.pick()
    assert {made.pick((first,)).port for _ in range(5)} == {1, 2} - {first.port}


# Passthrough


def passthrough(**fields: Any) -> Cluster:
    return make_cluster(cluster("PassthroughCluster", discovery="original_dst", **fields))


@pytest.mark.parametrize(
    ("authority", "scheme", "key"),
    [
        (b"127.0.0.1:9000", b"http", (LOOPBACK, 9000)),
        (b"127.0.0.1", b"http", (LOOPBACK, 80)),
        (b"127.0.0.1", b"https", (LOOPBACK, 443)),
        (b"[::1]:8080", b"http", ("::1", 8080)),
    ],
)
async def test_the_destination_is_the_authority(authority: bytes, scheme: bytes, key: tuple[str, int]) -> None:
    made = passthrough()
    found = await made.pick_original(authority, scheme)
    assert found.key == key
    assert await made.pick_original(authority, scheme) is found
    made.set_endpoints((endpoint(1),))
    assert list(made.endpoints) == [key], "discovery has no say here"


async def test_a_name_is_resolved() -> None:
    upstream = ScriptedUpstream()
    async with upstream.running():
        made = passthrough()
        found = await made.pick_original(b"localhost:%d" % upstream.port, b"http")
        if found.address == LOOPBACK:
            assert await exchange(made, to=found) == b"/"
        made.close()


@pytest.mark.parametrize(
    "authority", [b"", b"127.0.0.1:0", b"127.0.0.1:65536", b"127.0.0.1:99999999", b"a" * 70, b"a..b"]
)
async def test_a_destination_that_cannot_be(authority: bytes) -> None:
    with pytest.raises(ProxyFault) as refused:
        await passthrough().pick_original(authority, b"http")
    assert refused.value.flag == "UF"


async def test_the_oldest_idle_destination_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.upstream.cluster._MAX_ORIGINAL", 2)
    made = passthrough()
    busy = await made.pick_original(b"127.0.0.1:1", b"http")
    busy.active = 1
    idle = await made.pick_original(b"127.0.0.1:2", b"http")
    await made.pick_original(b"127.0.0.1:3", b"http")
    assert [port for _, port in made.endpoints] == [1, 3]
    assert idle.removed
