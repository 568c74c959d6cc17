"""Deadlines and cancellation over a whole way: gateway, a sidecar's inbound, its outbound, the next sidecar's inbound.

The first app passes on whatever comes, so its sidecar's two listeners meet directly; between proxies that are not one
workload there is mTLS. The last upstream is the test's own and sees how far a client's leaving and a budget travel.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

import pytest
import trio
from trio.testing import MockClock

from agent.codec.http2 import CANCEL
from mesh import config
from tests.h2_rig import Http2Peer, Http2Upstream, PeerStream, http2_connected
from tests.rig import (
    LOOPBACK,
    ScriptedUpstream,
    Serving,
    Wire,
    cluster,
    endpoint,
    idle_counts,
    mesh_identity,
    routes_to,
    serving,
    snapshot,
)

pytestmark = pytest.mark.usefixtures("engine")

Protocol = Literal["http1", "http2"]
HTTP1 = config.DownstreamTls(trust_domains=("cluster.local",))
HTTP2 = config.DownstreamTls(trust_domains=("cluster.local",), alpn=("istio-h2", "istio"))
SOON = 4.0
"""Seconds of the test's clock: every HTTP/1 hop hears of a client that has gone at its sweeper's next look."""


class Chain:
    """`planes` from the client's side on."""

    def __init__(self) -> None:
        self.planes: list[Serving] = []

    @property
    def port(self) -> int:
        return self.planes[0].port()

    async def quiet(self) -> None:
        """Wait until no hop has an exchange under way."""
        with trio.fail_after(SOON):
            while any(side.record for plane in self.planes for side in plane.dataplane.exchanges):  # noqa: ASYNC110
                await trio.sleep(0.01)

    def flags(self) -> list[tuple[str, ...]]:
        """Of the last exchange at each hop."""
        return [plane.records[-1].flags for plane in self.planes]


@asynccontextmanager
async def chain_to(
    port: int,
    protocol: Protocol = "http1",
    *,
    timeouts: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    retries: config.RetryPolicy | None = None,
) -> AsyncIterator[Chain]:
    """The four data planes before `port`; `timeouts` are their routes', `retries` the third one's."""
    made = Chain()
    hops = [  # direction, mTLS from the client's side, mTLS to the next
        ("inbound", True, False),
        ("outbound", False, True),
        ("inbound", True, False),
        ("gateway", False, True),
    ]
    async with AsyncExitStack() as running:
        for index, (direction, terminates, originates) in zip((3, 2, 1, 0), hops, strict=True):
            tls = (HTTP2 if protocol == "http2" else HTTP1) if terminates else None
            served = config.FilterChain("http", "mtls" if tls else "any", tls=tls, http=config.HttpChain("web"))
            given = snapshot(
                config.Listener("web", direction, LOOPBACK, 0, (served,)),  # type: ignore[arg-type]
                routes_to(timeout=timeouts[index], retries=retries if index == 2 else None),
                cluster(protocol=protocol),
                config.ClusterEndpoints("app", (endpoint(port, tls="istio" if originates else "disabled"),)),
            )
            plane = await running.enter_async_context(serving(given, identity=mesh_identity(f"hop{index}")))
            running.enter_context(idle_counts(plane.cluster()))
            running.push_async_callback(plane.settled)
            made.planes.insert(0, plane)
            port = plane.port()
        yield made


class Last:
    """The last upstream over HTTP/1: says when a request is there, and when its connection has been closed."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.there = trio.Event()
        self.closed = trio.Event()
        self.streams: list[PeerStream] = []

    async def over_http1(self, upstream: ScriptedUpstream, wire: Wire) -> None:
        upstream.requests.append(await wire.head())
        await wire.send(self.answer)
        self.there.set()
        try:
            await wire.rest()
        finally:
            self.closed.set()

    async def over_http2(self, peer: Http2Peer, stream: PeerStream) -> None:
        self.streams.append(stream)
        if self.answer:
            await peer.send_head(stream, [(b":status", b"200")])
            await peer.send_data(stream, b"half")
        self.there.set()
        await peer.until(lambda: stream.reset is not None)
        self.closed.set()


HALF = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf"
GET = b"GET /slow HTTP/1.1\r\nhost: app\r\n\r\n"
UPLOAD = b"PUT /slow HTTP/1.1\r\nhost: app\r\ncontent-length: 8\r\n\r\nhalf"


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(("request_", "answer"), [(GET, b""), (GET, HALF), (UPLOAD, b"")])
async def test_a_client_that_leaves_closes_the_last_upstream(
    request_: bytes, answer: bytes, how: str, autojump_clock: MockClock
) -> None:
    last = Last(answer)
    async with ScriptedUpstream(last.over_http1).running() as upstream, chain_to(upstream.port) as chain:
        async with chain.planes[0].connect() as wire:
            await wire.send(request_)
            await last.there.wait()
            if answer:
                await wire.take(len(b"half"))
            assert not last.closed.is_set()
            getattr(wire.transport, how)()
            with trio.fail_after(SOON):
                await last.closed.wait()
        await chain.quiet()
        assert chain.flags() == [("DC",)] * 4
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("answer", [b"", HALF])
@pytest.mark.parametrize("end", [True, False])
async def test_a_stream_that_is_reset_resets_the_last_one_and_no_connection(
    answer: bytes, end: bool, autojump_clock: MockClock
) -> None:
    last = Last(answer)
    upstream = Http2Upstream(last.over_http2)
    async with upstream.running(), chain_to(upstream.port, "http2") as chain:
        async with http2_connected(chain.port) as client:
            stream = await client.begin(method=b"GET" if end else b"POST", end=end)
            await last.there.wait()
            if answer:
                await client.until(lambda: stream.body == b"half")
            await client.send_reset(stream, CANCEL)
            with trio.fail_after(SOON):
                await last.closed.wait()
            await chain.quiet()
            assert [each.reset for each in last.streams] == [CANCEL]
            assert chain.flags() == [("DC",)] * 4
            assert not upstream.peer.ended
            assert [plane.cluster().stats.upstream_cx_active.value for plane in chain.planes] == [1] * 4


async def test_a_connection_that_is_lost_resets_every_stream_at_the_last_upstream(autojump_clock: MockClock) -> None:
    last = Last()
    upstream = Http2Upstream(last.over_http2)
    async with upstream.running(), chain_to(upstream.port, "http2") as chain:
        async with http2_connected(chain.port) as client:
            for _ in range(5):
                await client.begin()
            with trio.fail_after(SOON):
                while len(last.streams) < 5:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            client.transport.reset()
            await upstream.peer.until(lambda: all(stream.reset == CANCEL for stream in last.streams))
        await chain.quiet()
        assert not upstream.peer.ended


async def test_a_client_of_http1_cancels_streams_between_the_proxies(autojump_clock: MockClock) -> None:
    last = Last()
    upstream = Http2Upstream(last.over_http2)
    async with upstream.running(), chain_to(upstream.port, "http2") as chain:
        async with chain.planes[0].connect() as wire:
            await wire.send(GET)
            await last.there.wait()
        with trio.fail_after(SOON):
            await last.closed.wait()
        await chain.quiet()
        assert last.streams[0].reset == CANCEL


# Budgets


@pytest.mark.parametrize("protocol", ["http1", "http2"])
async def test_a_timeout_at_the_gateway_ends_the_whole_way(protocol: Protocol, autojump_clock: MockClock) -> None:
    last = Last()
    made = ScriptedUpstream(last.over_http1) if protocol == "http1" else Http2Upstream(last.over_http2)
    async with made.running() as upstream, chain_to(upstream.port, protocol, timeouts=(2.0, 0, 0, 0)) as chain:
        started = trio.current_time()
        async with chain.planes[0].connect() as wire:
            await wire.send(GET)
            assert (await wire.message()).status == 504
            assert 2.0 <= trio.current_time() - started < 2.5
            with trio.fail_after(SOON):
                await last.closed.wait()
            await chain.quiet()
            assert chain.flags()[0] == ("UT",)


def expected(fields: dict[bytes, bytes]) -> int:
    return int(fields[b"x-envoy-expected-rq-timeout-ms"])


@pytest.mark.parametrize("protocol", ["http1", "http2"])
async def test_the_budget_shrinks_from_hop_to_hop(protocol: Protocol, autojump_clock: MockClock) -> None:
    """The next hop's own timeout counts where it is shorter, the caller's where that is; a try later there is less."""
    told: list[int] = []

    async def slow_refusal_over_http1(upstream: ScriptedUpstream, wire: Wire) -> None:
        while True:
            told.append(expected((await wire.message()).headers))
            await trio.sleep(1)
            await wire.answer(503)

    async def slow_refusal_over_http2(peer: Http2Peer, stream: PeerStream) -> None:
        told.append(expected(stream.head))
        await trio.sleep(1)
        await peer.reply(stream, 503)

    made = ScriptedUpstream(slow_refusal_over_http1) if protocol == "http1" else Http2Upstream(slow_refusal_over_http2)
    retries = config.RetryPolicy(attempts=2, retry_on=("5xx",), backoff_base=0.0, backoff_max=0.0)
    async with made.running() as upstream:
        async with chain_to(upstream.port, protocol, timeouts=(10.0, 8.0, 4.0, 20.0), retries=retries) as chain:
            async with chain.planes[0].connect() as wire:
                assert (await wire.ask()).status == 503
    assert told == sorted(told, reverse=True)
    for milliseconds, bound in zip(told, (4000, 3000, 2000), strict=True):
        assert bound - 250 <= milliseconds <= bound


@pytest.mark.parametrize("protocol", ["http1", "http2"])
async def test_a_hop_without_a_timeout_keeps_its_callers(protocol: Protocol, autojump_clock: MockClock) -> None:
    """Only the app between the two sidecars loses it: a sidecar's outbound believes no app."""
    last = Last()
    made = ScriptedUpstream(last.over_http1) if protocol == "http1" else Http2Upstream(last.over_http2)
    async with made.running() as upstream, chain_to(upstream.port, protocol, timeouts=(0, 0, 3.0, 0)) as chain:
        async with chain.planes[0].connect() as wire:
            await wire.send(GET)
            await last.there.wait()
            headers = upstream.requests[0].headers if protocol == "http1" else last.streams[0].head
            assert 2500 <= expected(headers) <= 3000
            assert (await wire.message()).status == 504
            await chain.quiet()
