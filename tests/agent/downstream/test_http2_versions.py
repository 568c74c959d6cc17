"""Exchanges between versions of HTTP: bodies, trailers, heads of all kinds, tunnels, and ends of every sort."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from agent.bootstrap import Settings
from agent.codec.headers import Headers
from agent.codec.http2 import CANCEL, INTERNAL_ERROR, NO_ERROR, Http2Limits
from agent.codec.message import ResponseHead
from agent.downstream import http2 as module
from agent.drain import drain
from mesh import config
from tests.agent.exchange.scripts import HANG, Step, steps
from tests.h2_wire import H2Upstream, H2Wire, h2_client, web2
from tests.rig import ScriptedUpstream, http_listener, idle_counts, routes_to, serving, settle, snapshot, until, web
from tests.rig import cluster as cluster_of


async def test_a_request_from_http2_to_http1_and_back() -> None:
    upstream = ScriptedUpstream()
    async with upstream.running(), serving(web(upstream.port)) as served, h2_client(served.port()) as wire:
        seen = await wire.ask(b"/a?b=1", x_mark="kept")
        assert (seen.status, seen.body) == (200, b"/a?b=1")
        seen = await wire.ask(b"/post", b"x" * 100_000, method=b"POST")
        assert (seen.status, len(seen.body)) == (200, 100_000)
    first = upstream.requests[0]
    assert (first.first, first.headers[b"host"], first.headers[b"x-mark"]) == (b"GET /a?b=1 HTTP/1.1", b"app", b"kept")
    assert served.records[0].protocol == "HTTP/2"


async def test_streams_are_served_at_once_and_share_one_upstream_connection() -> None:
    gate = trio.Event()

    async def wait(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        await gate.wait()
        await wire.answer(number, body=b"%d" % number)

    upstream = H2Upstream(wait)
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        numbers = [await wire.open(b"/%d" % each) for each in range(20)]
        await until(lambda: len(upstream.requests) == 20)
        gate.set()
        answers = [await wire.answered(number) for number in numbers]
        assert {seen.status for seen in answers} == {200}
        await settle()
        assert upstream.accepted == 1
        [endpoint] = served.cluster().endpoints.values()
        assert [len(connection.leased) for connection in endpoint.streams.connections] == [0]
        assert (endpoint.active, served.cluster().limits.requests.held) == (0, 0)


async def test_trailers_come_through_both_ways() -> None:
    async def with_trailers(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        await wire.until(lambda: wire.streams[number].ended)
        trailers = wire.streams[number].trailers
        assert trailers is not None
        await wire.answer(number, body=b"ok", trailers=Headers([(b"x-sum", trailers.index[b"x-count"])]))

    upstream = H2Upstream(with_trailers)
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        number = await wire.open(method=b"POST", end=False)
        wire.codec.send_data(number, b"abc")
        wire.codec.send_end(number, Headers([(b"x-count", b"3")]))
        await wire.flush()
        seen = await wire.answered(number)
        assert seen.trailers is not None
        assert (seen.body, seen.trailers.items) == (b"ok", [(b"x-sum", b"3")])


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
async def test_responses_without_a_body(method: bytes, status: int) -> None:
    answer = b"HTTP/1.1 %d x\r\n%s\r\n" % (status, b"content-length: 5\r\n" if status != 204 else b"")
    upstream = ScriptedUpstream(steps(Step(answer)))
    async with upstream.running(), serving(web(upstream.port)) as served, h2_client(served.port()) as wire:
        seen = await wire.ask(method=method)
        assert (seen.status, seen.body, seen.ended, seen.reset) == (status, b"", True, None)


async def test_interim_heads_come_through() -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\nok"
    upstream = ScriptedUpstream(steps(Step(answer)))
    async with upstream.running(), serving(web(upstream.port)) as served, h2_client(served.port()) as wire:
        seen = await wire.ask()
        assert [head.status for head in seen.heads if isinstance(head, ResponseHead)] == [103, 200]


async def test_an_early_answer_stops_the_upload() -> None:
    async def refuse(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        await wire.answer(number, 413, b"too much")

    upstream = H2Upstream(refuse)
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        number = await wire.open(method=b"POST", end=False)
        await wire.send(number, b"x" * 1000)
        await wire.until(lambda: wire.streams[number].reset is not None)
        seen = wire.streams[number]
        assert (seen.status, seen.body, seen.reset) == (413, b"too much", NO_ERROR)
        assert (await wire.ask()).status == 413


async def test_a_client_that_takes_nothing_stops_the_upstream() -> None:
    sent = 0

    async def endless(upstream: ScriptedUpstream, wire: Any) -> None:
        nonlocal sent
        await wire.message()
        await wire.send(b"HTTP/1.1 200 x\r\ncontent-length: 1000000000\r\n\r\n")
        while True:
            await wire.send(b"x" * 16384)
            sent += 16384

    upstream = ScriptedUpstream(endless)
    async with upstream.running(), serving(web(upstream.port)) as served, h2_client(served.port()) as wire:
        wire.taking = False
        number = await wire.open()
        await wire.until(lambda: len(wire.streams[number].body) >= Http2Limits().stream_window)
        await settle()
        before = sent
        await settle()
        assert sent == before
        [stream] = served.dataplane.exchanges
        assert stream.mux.codec.queued(number) < 256 * 1024  # type: ignore[attr-defined]
        assert before < 24 * 1024 * 1024, "what is beyond are the kernel's buffers"
        wire.taking = True
        wire.codec.consume(number, len(wire.streams[number].body))
        await wire.flush()
        await until(lambda: sent > before)


async def test_a_cancelled_stream_cuts_its_upstream() -> None:
    upstream = ScriptedUpstream(steps(HANG))
    async with upstream.running(), serving(web(upstream.port)) as served, h2_client(served.port()) as wire:
        number = await wire.open()
        await until(lambda: upstream.open == 1)
        await until(lambda: upstream.requests)
        await wire.cancel(number)
        await until(lambda: upstream.open == 0)
        await until(lambda: served.records)
        assert served.records[0].flags == ("DC",)
        with idle_counts(served.cluster()):
            await settle()


async def test_a_vanished_client_cuts_all_its_streams() -> None:
    upstream = ScriptedUpstream(steps(HANG))
    async with upstream.running(), serving(web(upstream.port)) as served:
        async with h2_client(served.port()) as wire:
            for _ in range(5):
                await wire.open()
            await until(lambda: len(upstream.requests) == 5)
        await until(lambda: upstream.open == 0)
        await served.settled()
        assert [record.flags for record in served.records] == [("DC",)] * 5
        assert not served.dataplane.exchanges


async def test_silence_of_the_upstream_and_of_the_client(autojump_clock: trio.testing.MockClock) -> None:
    upstream = ScriptedUpstream(steps(HANG))
    settings = Settings(stream_idle_timeout=2.0)
    async with upstream.running(), serving(web(upstream.port), settings=settings) as served:
        async with h2_client(served.port()) as wire:
            number = await wire.open()
            assert (await wire.answered(number, seconds=60)).status == 504
            number = await wire.open(method=b"POST", end=False)
            await wire.until(lambda: wire.streams[number].over, seconds=60)
            assert wire.streams[number].status == 408
            assert served.refused()["http2", "stream_idle_timeout"] == 2
            assert [record.flags for record in served.records] == [("SI",), ("SI",)]


async def test_a_request_that_lasts_too_long(autojump_clock: trio.testing.MockClock) -> None:
    upstream = ScriptedUpstream()
    settings = Settings(request_timeout=2.0)
    async with upstream.running(), serving(web(upstream.port), settings=settings) as served:
        async with h2_client(served.port()) as wire:
            number = await wire.open(method=b"POST", end=False)
            for _ in range(10):
                await trio.sleep(0.5)
                await wire.send(number, b"x")
            assert (await wire.answered(number)).status == 408
            assert served.refused()["http2", "request_overall_timeout"] == 1


async def test_a_header_block_that_does_not_end(autojump_clock: trio.testing.MockClock) -> None:
    settings = Settings(request_headers_timeout=2.0)
    async with serving(web(1), settings=settings) as served, h2_client(served.port()) as wire:
        await wire.until(lambda: wire.codec.extended_connect)
        await settle()  # our SETTINGS acknowledgement may not come in between
        await wire.transport.send(b"\0\0\x01\x01\x01\0\0\0\x01\x82")  # HEADERS without END_HEADERS
        await wire.until(lambda: wire.closed, seconds=30)
        await served.settled()
        assert served.refused() == {("http2", "request_headers_timeout"): 1}


async def test_an_idle_connection_ends(autojump_clock: trio.testing.MockClock) -> None:
    upstream = ScriptedUpstream()
    listener = http_listener(idle_timeout=3.0)
    async with upstream.running(), serving(web(upstream.port, listener=listener)) as served:
        async with h2_client(served.port()) as wire:
            await wire.ask()
            await wire.until(lambda: wire.closed, seconds=30)
            assert wire.goaway == [(1, NO_ERROR)]
        await served.settled()
        assert served.refused() == {("http2", "idle_timeout"): 1}


async def test_draining_says_goodbye_and_waits(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        await trio.sleep(2)
        await wire.answer(number, body=b"late")

    upstream = H2Upstream(slow)
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        number = await wire.open()
        await settle()
        assert await drain(served.dataplane, 10.0) == 0
        assert wire.streams[number].body == b"late"
        await wire.until(lambda: wire.closed)
        assert wire.goaway[0] == (2**31 - 1, NO_ERROR)


async def test_a_bug_costs_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    serve = module.exchange

    async def fake_exchange(stream: Any, dataplane: Any) -> None:
        if stream.head.path == b"/bug":
            raise ZeroDivisionError("a bug")
        await serve(stream, dataplane)

    upstream = ScriptedUpstream()
    async with upstream.running(), serving(web(upstream.port)) as served, h2_client(served.port()) as wire:
        monkeypatch.setattr(module, "exchange", fake_exchange)
        assert (await wire.ask(b"/bug")).reset == INTERNAL_ERROR
        assert (await wire.ask(b"/fine")).status == 200
        assert served.refused() == {("stream", "internal_error"): 1}
        assert served.log.lines[0][1]["error"] == "ZeroDivisionError('a bug')"


async def test_a_broken_upstream_after_its_head_resets_the_stream() -> None:
    cut = Step(b"HTTP/1.1 200 x\r\ncontent-length: 99\r\n\r\nx", "reset")
    upstream = ScriptedUpstream(steps(cut))
    async with upstream.running(), serving(web(upstream.port)) as served, h2_client(served.port()) as wire:
        seen = await wire.ask()
        assert (seen.status, seen.reset) == (200, INTERNAL_ERROR)
        assert not wire.closed


async def test_no_route_and_no_endpoint() -> None:
    nobody = snapshot(http_listener(), routes_to(), cluster_of(), config.ClusterEndpoints("app", ()))
    async with serving(nobody) as served, h2_client(served.port()) as wire:
        seen = await wire.ask()
        assert (seen.status, seen.header(b"x-mesh-reply")) == (503, b"UH no_healthy_upstream")
        seen = await wire.ask(content_type="application/grpc")
        assert (seen.status, seen.header(b"grpc-status"), seen.body) == (200, b"14", b"")


async def test_a_websocket_by_extended_connect_over_http1_upstream() -> None:
    async def upgrade(upstream: ScriptedUpstream, wire: Any) -> None:
        request = await wire.message()
        upstream.requests.append(request)
        await wire.send(
            b"HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\nhi"
        )
        while data := await wire.transport.receive():
            await wire.send(data)
        await wire.transport.send_eof()

    upstream = ScriptedUpstream(upgrade)
    async with upstream.running(), serving(web(upstream.port)) as served, h2_client(served.port()) as wire:
        number = await wire.open(
            b"/chat", method=b"CONNECT", end=False, upgrade=b"websocket", sec_websocket_version="13"
        )
        await wire.until(lambda: wire.streams[number].body == b"hi")
        await wire.send(number, b"abc")
        await wire.until(lambda: wire.streams[number].body == b"hiabc")
        await wire.send(number, b"", end=True)
        seen = await wire.answered(number)
        assert (seen.status, seen.ended, seen.header(b"sec-websocket-accept")) == (200, True, None)
    [request] = upstream.requests
    assert request.first == b"GET /chat HTTP/1.1"
    assert len(request.headers[b"sec-websocket-key"]) == 24


async def test_a_websocket_from_end_to_end_over_http2() -> None:
    async def accept(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        wire.codec.send_head(number, ResponseHead(200, Headers()), end=False)
        seen = wire.streams[number]
        taken = 0
        while not seen.over:
            if len(seen.body) > taken:
                wire.codec.send_data(number, seen.body[taken:])
                taken = len(seen.body)
            await wire.flush()
            await wire.news.wait()
        wire.codec.send_end(number)
        await wire.flush()

    upstream = H2Upstream(accept)
    async with upstream.running(), serving(web2(upstream.port)) as served, h2_client(served.port()) as wire:
        number = await wire.open(b"/chat", method=b"CONNECT", end=False, upgrade=b"websocket")
        await wire.send(number, b"ping")
        await wire.until(lambda: wire.streams[number].body == b"ping")
        await wire.cancel(number)
        await until(lambda: any(seen.reset == CANCEL for seen in upstream.wires[0].streams.values()))
    assert upstream.requests[0].upgrade == b"websocket"
