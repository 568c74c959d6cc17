"""Shared connections of a cluster: how few are opened, who waits for whom, and when they are closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from agent.codec.headers import Headers
from agent.codec.message import END, End, RequestHead
from agent.exchange.faults import ProxyFault
from agent.upstream.cluster import Cluster
from agent.upstream.http2 import Http2Connection, Http2Lease
from mesh import config
from tests.agent.upstream.cluster_rig import only
from tests.h2_rig import Http2Upstream, http2_connected
from tests.rig import ScriptedUpstream, Serving, Wire, idle_counts, serving, settle, until, web

pytestmark = pytest.mark.usefixtures("engine")


@asynccontextmanager
async def sharing(upstream: ScriptedUpstream | None = None, **fields: Any) -> AsyncIterator[tuple[Serving, Cluster]]:
    """A data plane with one cluster that speaks HTTP/2; it holds nothing when the body is done."""
    upstream = upstream or Http2Upstream()
    fields.setdefault("protocol", "http2")
    with trio.fail_after(100):
        async with upstream.running():
            async with serving(web(upstream.port, **fields)) as served:
                with idle_counts(served.cluster()):
                    yield served, served.cluster()
            await until(lambda: upstream.open == 0)


async def lease(made: Cluster) -> Http2Lease:
    leased = await made.lease(only(made), multiplexed=True)
    assert isinstance(leased, Http2Lease)
    return leased


async def ask(made: Cluster, leased: Http2Lease, path: bytes = b"/") -> bytes:
    """One whole exchange on a lease, which it gives back."""
    done = False
    try:
        await leased.send_request(RequestHead(b"GET", path, Headers([]), authority=b"app"), b"", END)
        await leased.read_head()
        body = b""
        while not isinstance(event := leased.next_event(), End):
            if event is None:
                await leased.fill()
            else:
                body += event
        done = True
        return body
    finally:
        if done:
            made.give(leased, made.clock())
        else:
            made.discard(leased)


def connections(made: Cluster) -> list[Http2Connection]:
    found: list[Http2Connection] = only(made).streams.connections
    return found


class Callers:
    """Tasks that lease, ask and give back; `answers` and `faults` tell how they fared."""

    def __init__(self, made: Cluster, nursery: trio.Nursery) -> None:
        self.made = made
        self.nursery = nursery
        self.answers: list[bytes] = []
        self.faults: list[ProxyFault] = []
        self.scopes: list[trio.CancelScope] = []

    async def join(self, count: int = 1) -> None:
        for _ in range(count):
            self.nursery.start_soon(self._call)
            await settle()

    async def _call(self) -> None:
        with trio.CancelScope() as scope:
            self.scopes.append(scope)
            try:
                self.answers.append(await ask(self.made, await lease(self.made)))
            except ProxyFault as fault:
                self.faults.append(fault)


# Opening


async def test_many_at_once_open_one_connection() -> None:
    upstream = Http2Upstream()
    async with sharing(upstream) as (_, made):
        async with trio.open_nursery() as nursery:
            callers = Callers(made, nursery)
            for _ in range(50):
                nursery.start_soon(callers._call)
        assert len(callers.answers) == 50
        assert (upstream.accepted, made.stats.upstream_cx_total.value) == (1, 1)


@pytest.fixture
def slow_connect(monkeypatch: pytest.MonkeyPatch) -> SlowConnect:
    return SlowConnect(monkeypatch)


class SlowConnect:
    """Connecting waits for `go`; with `fault` it fails then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from agent.upstream import connections as module

        self.go = trio.Event()
        self.fault: ProxyFault | None = None
        self.tries = 0
        self._real = module.open_connection
        monkeypatch.setattr(module, "open_connection", self._open)

    async def _open(self, *args: Any, **how: Any) -> Any:
        self.tries += 1
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return await self._real(*args, **how)


def no_connection() -> ProxyFault:
    return ProxyFault("upstream", "UF", "planted", reason="remote_connection_failure", transport="planted")


async def test_all_who_wait_hear_why_it_failed(slow_connect: SlowConnect) -> None:
    async with sharing() as (_, made):
        async with trio.open_nursery() as nursery:
            callers = Callers(made, nursery)
            await callers.join(5)
            slow_connect.fault = no_connection()
            slow_connect.go.set()
        assert [fault.flag for fault in callers.faults] == ["UF"] * 5
        assert len({id(fault) for fault in callers.faults}) == 5  # each may be worded for its own client
        assert slow_connect.tries == 1
        assert made.stats.upstream_cx_connect_fail.value == 1
        slow_connect.fault = None
        assert await ask(made, await lease(made), b"/after") == b"/after"


async def test_an_opener_that_is_cancelled_hands_over(slow_connect: SlowConnect) -> None:
    async with sharing() as (_, made):
        async with trio.open_nursery() as nursery:
            callers = Callers(made, nursery)
            await callers.join(4)
            callers.scopes[0].cancel()
            await settle()
            assert slow_connect.tries == 2
            slow_connect.go.set()
        assert len(callers.answers) == 3
        assert made.stats.upstream_cx_total.value == 1


async def test_a_cancelled_waiter_leaves_the_others(slow_connect: SlowConnect) -> None:
    async with sharing() as (_, made):
        async with trio.open_nursery() as nursery:
            callers = Callers(made, nursery)
            await callers.join(4)
            callers.scopes[2].cancel()
            await settle()
            slow_connect.go.set()
        assert len(callers.answers) == 3
        assert slow_connect.tries == 1


async def test_an_endpoint_that_goes_while_it_is_connected_to(slow_connect: SlowConnect) -> None:
    upstream = Http2Upstream()
    async with sharing(upstream) as (_, made):
        endpoint = only(made)
        async with trio.open_nursery() as nursery:
            callers = Callers(made, nursery)
            await callers.join(3)
            made.set_endpoints(())
            slow_connect.go.set()
        assert len(callers.answers) == 3
        await until(lambda: upstream.open == 0)
        assert endpoint.cx_active == 0


# Streams and connections at their limits


async def test_one_more_connection_when_streams_run_out() -> None:
    upstream = Http2Upstream(max_concurrent_streams=2)
    async with sharing(upstream) as (_, made):
        first = await lease(made)
        await until(lambda: connections(made)[0].settled)
        leases = [first]
        for _ in range(4):
            leases.append(await lease(made))
            await until(lambda: connections(made)[-1].settled)
        assert [len(each.leased) for each in connections(made)] == [2, 2, 1]
        for each in leases:
            await ask(made, each)
        assert made.stats.upstream_cx_total.value == 3


async def test_at_the_limit_of_connections_streams_wait() -> None:
    upstream = Http2Upstream(max_concurrent_streams=1)
    async with sharing(upstream, breakers={"max_connections": 1}) as (_, made):
        first = await lease(made)
        await until(lambda: connections(made)[0].settled)
        async with trio.open_nursery() as nursery:
            callers = Callers(made, nursery)
            await callers.join(3)
            assert made.limits.pending.held == 3
            await ask(made, first)
        assert len(callers.answers) == 3
        assert upstream.accepted == 1


async def test_more_streams_are_allowed_meanwhile() -> None:
    from hyperframe.frame import SettingsFrame

    upstream = Http2Upstream(max_concurrent_streams=1)
    async with sharing(upstream, breakers={"max_connections": 1}) as (_, made):
        first = await lease(made)
        await until(lambda: connections(made)[0].settled)
        async with trio.open_nursery() as nursery:
            callers = Callers(made, nursery)
            await callers.join(3)
            await upstream.peer.send_frames(SettingsFrame(0, settings={SettingsFrame.MAX_CONCURRENT_STREAMS: 100}))
            await until(lambda: len(callers.answers) == 3)
            await ask(made, first)


async def test_the_queue_overflows() -> None:
    upstream = Http2Upstream(max_concurrent_streams=1)
    async with sharing(upstream, breakers={"max_connections": 1, "max_pending_requests": 1}) as (_, made):
        first = await lease(made)
        await until(lambda: connections(made)[0].settled)
        async with trio.open_nursery() as nursery:
            callers = Callers(made, nursery)
            await callers.join(2)
            assert [fault.flag for fault in callers.faults] == ["UO"]
            await ask(made, first)
        assert len(callers.answers) == 1


async def test_a_cancelled_waiter_passes_its_turn_on() -> None:
    upstream = Http2Upstream(max_concurrent_streams=1)
    async with sharing(upstream, breakers={"max_connections": 1}) as (_, made):
        first = await lease(made)
        await until(lambda: connections(made)[0].settled)
        async with trio.open_nursery() as nursery:
            callers = Callers(made, nursery)
            await callers.join(3)
            made.give(first, made.clock())
            callers.scopes[0].cancel()
        assert len(callers.answers) == 2


async def test_an_idle_shared_connection_makes_way_for_another_endpoint() -> None:
    other = Http2Upstream()
    async with other.running(), sharing(breakers={"max_connections": 1}) as (served, made):
        await ask(made, await lease(made))
        near = only(made)
        made.set_endpoints((near.config, config.Endpoint("127.0.0.1", other.port)))
        far = next(each for each in made.endpoints.values() if each is not near)
        leased = await made.lease(far, multiplexed=True)
        assert isinstance(leased, Http2Lease)
        await ask(made, leased)
        assert not near.streams.connections
        assert served.refused() == {}


# Closing


async def test_a_connection_serves_so_many_requests() -> None:
    upstream = Http2Upstream()
    async with sharing(upstream, connection={"max_requests_per_connection": 3}) as (_, made):
        for _ in range(7):
            await ask(made, await lease(made))
        assert upstream.accepted == 3
        await until(lambda: upstream.open == 1)


async def test_one_request_a_connection() -> None:
    upstream = Http2Upstream()
    async with sharing(upstream, connection={"max_requests_per_connection": 1}) as (_, made):
        for _ in range(3):
            await ask(made, await lease(made))
        await until(lambda: upstream.open == 0)
        assert upstream.accepted == 3


async def test_an_idle_connection_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    upstream = Http2Upstream()
    async with sharing(upstream, connection={"idle_timeout": 10.0}) as (_, made):
        await ask(made, await lease(made))
        await trio.sleep(8)
        await ask(made, await lease(made))
        await trio.sleep(8)
        assert upstream.open == 1
        await trio.sleep(5)
        await until(lambda: upstream.open == 0)
        assert upstream.peer.goaways == [(0, 0)]


async def test_an_old_connection_takes_no_more_and_ends_with_its_last_stream(
    autojump_clock: trio.testing.MockClock,
) -> None:
    upstream = Http2Upstream()
    async with sharing(upstream, connection={"max_connection_duration": 10.0}) as (_, made):
        last = await lease(made)
        await trio.sleep(15)
        assert connections(made)[0].closing
        assert upstream.open == 1
        await ask(made, await lease(made))
        assert upstream.accepted == 2
        await ask(made, last)
        await until(lambda: upstream.open == 1)


async def test_an_endpoint_that_goes_drains() -> None:
    upstream = Http2Upstream()
    async with sharing(upstream) as (_, made):
        endpoint = only(made)
        last = await lease(made)
        made.set_endpoints(())
        assert await ask(made, last, b"/last") == b"/last"
        await until(lambda: upstream.open == 0)
        assert endpoint.cx_active == 0


async def test_other_settings_drain() -> None:
    """Streams under way finish where they are; new ones go by connections made under the new settings."""
    upstream = Http2Upstream()
    async with sharing(upstream) as (served, made):
        last = await lease(made)
        served.apply(web(upstream.port, protocol="http2", connection={"connect_timeout": 3.0}))
        now = served.cluster()
        assert await ask(now, await lease(now)) == b"/"
        assert await ask(made, last, b"/last") == b"/last"
        await until(lambda: upstream.open == 1)


async def test_a_connection_that_speaks_for_one_client_is_not_shared() -> None:
    async def behind_header(upstream: ScriptedUpstream, wire: Wire) -> None:
        assert (await wire._until(b"\r\n")).startswith(b"PROXY TCP4 127.0.0.1 ")
        leftover = bytes(wire._buffer)
        wire.transport.unread(leftover)
        await inner._speak(upstream, wire)

    inner = Http2Upstream()
    upstream = ScriptedUpstream(behind_header)
    async with sharing(upstream, proxy_protocol="v1") as (served, _):
        async with http2_connected(served.port()) as client:
            for _ in range(3):
                assert (await client.ask()).status == 200
            streams = [await client.begin() for _ in range(4)]
            for stream in streams:
                assert (await client.answer(stream)).status == 200
        assert upstream.accepted == 7
        await until(lambda: upstream.open == 0)


async def test_a_cluster_that_goes_lets_streams_finish() -> None:
    upstream = Http2Upstream()
    async with sharing(upstream) as (_, made):
        last, fresh = await lease(made), await lease(made)
        made.close()
        assert await ask(made, last, b"/last") == b"/last"
        assert upstream.open == 1
        made.give(fresh, made.clock())
        await until(lambda: upstream.open == 0)


async def test_a_cluster_that_has_gone_keeps_no_connection() -> None:
    """An exchange that chose it before may still ask."""
    upstream = Http2Upstream()
    async with sharing(upstream) as (_, made):
        made.close()
        await ask(made, await lease(made))
        await until(lambda: upstream.open == 0)


# Which version a cluster speaks


@pytest.mark.parametrize(
    ("protocol", "version", "multiplexed"),
    [
        ("http1", b"2", False),
        ("http2", b"1.1", True),
        ("downstream", b"1.1", False),
        ("downstream", b"2", True),
        ("downstream", b"1.0", False),
    ],
)
async def test_the_version(protocol: str, version: bytes, multiplexed: bool) -> None:
    async with sharing(ScriptedUpstream(), protocol=protocol) as (_, made):
        assert made.multiplexes(version) is multiplexed
