"""The downstream HTTP/2 driver over loopback: streams side by side, deadlines, and how streams and connections end."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from hyperframe import frame as h2

from agent.bootstrap import Settings
from agent.codec.http2 import CANCEL, INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM
from agent.codec.message import RequestHead
from agent.drain import drain
from agent.plan import Plan
from mesh import config
from tests.h2_rig import Http2Peer, Http2Upstream, PeerStream, gateway, http2_connected
from tests.rig import HungUp, ScriptedUpstream, Serving, Wire, http_listener, settle, until

pytestmark = pytest.mark.usefixtures("engine")

BIG = bytes(range(256)) * 4096


def client_of(served: Serving, **how: Any) -> Any:
    return http2_connected(served.port(), **how)


async def hang(upstream: ScriptedUpstream, wire: Wire) -> None:
    await wire.rest()


class Held:
    """An HTTP/1 upstream that answers a path once `let` says so; `asked` are the paths that have come."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.gates: dict[bytes, trio.Event] = {}

    def let(self, path: bytes) -> None:
        self._gate(path).set()

    def _gate(self, path: bytes) -> trio.Event:
        return self.gates.setdefault(path, trio.Event())

    async def script(self, upstream: ScriptedUpstream, wire: Wire) -> None:
        while True:
            request = await wire.message()
            self.asked.append(request.path)
            await self._gate(request.path).wait()
            await wire.answer(body=request.path)


# Streams


async def test_many_requests_on_one_connection() -> None:
    async with gateway() as served, client_of(served) as client:
        streams = [await client.begin(b"/%d" % n) for n in range(50)]
        for n, stream in enumerate(streams):
            assert bytes((await client.answer(stream)).body) == b"/%d" % n
    assert served.refused() == {}


async def test_answers_leave_in_the_order_in_which_they_come() -> None:
    held = Held()
    async with gateway(ScriptedUpstream(held.script)) as served, client_of(served) as client:
        first, second = await client.begin(b"/1"), await client.begin(b"/2")
        held.let(b"/2")
        await client.answer(second)
        assert not first.over
        held.let(b"/1")
        assert (await client.answer(first)).status == 200


async def test_a_record_says_http2_and_counts_bytes() -> None:
    async with gateway() as served:
        async with client_of(served) as client:
            await client.ask(b"/p", b"hello", method=b"POST")
        await served.settled()
        [record] = served.records
        assert (record.protocol, record.method, record.path, record.authority) == ("HTTP/2", b"POST", b"/p", b"app")
        assert record.bytes_received > 5
        assert record.bytes_sent >= 5


async def test_big_bodies_both_ways_side_by_side() -> None:
    async with gateway() as served, client_of(served) as client, trio.open_nursery() as nursery:
        done = []

        async def one() -> None:
            done.append(bytes((await client.ask(b"/", BIG, method=b"POST")).body) == BIG)

        for _ in range(4):
            nursery.start_soon(one)
    assert done == [True] * 4


async def test_local_replies() -> None:
    async with gateway() as served:
        served.apply(config.Snapshot(listeners={"web": http_listener()}))  # no route
        async with client_of(served) as client:
            answer = await client.ask(b"/")
            assert answer.status == 404
            assert b"connection" not in answer.head
            assert b"transfer-encoding" not in answer.head
            assert (await client.ask(b"/again")).status == 404


async def test_a_stream_beyond_the_limit_is_refused_and_its_neighbours_are_served() -> None:
    held = Held()
    settings = Settings(max_concurrent_streams=3)
    async with gateway(ScriptedUpstream(held.script), settings=settings) as served:
        async with client_of(served) as client:
            await client.pinged()
            assert client.peer_settings[h2.SettingsFrame.MAX_CONCURRENT_STREAMS] == 3
            streams = [await client.begin(b"/%d" % n) for n in range(3)]
            for n in range(3):
                held.let(b"/%d" % n)
                assert (await client.answer(streams[n])).status == 200
            held.let(b"/again")
            assert (await client.ask(b"/again")).status == 200
            streams = [await client.begin(b"/%d" % n) for n in range(10, 14)]
            assert (await client.answer(streams[3])).reset == REFUSED_STREAM
            for n in range(3):
                held.let(b"/%d" % (10 + n))
                assert (await client.answer(streams[n])).status == 200
            assert client.goaways == []
        await served.settled()
        assert served.refused()["codec", "too_many_streams"] == 1


async def test_a_bug_in_one_exchange_resets_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway() as served:

        def find_route(plan: Plan, chain: config.HttpChain, head: RequestHead) -> Any:
            if head.path == b"/bug":
                raise RuntimeError("planted")
            return found(plan, chain, head)

        found = Plan.find_route
        monkeypatch.setattr(Plan, "find_route", find_route)
        async with client_of(served) as client:
            assert (await client.ask(b"/bug")).reset == INTERNAL_ERROR
            assert (await client.ask(b"/well")).status == 200
        assert served.refused() == {("stream", "internal_error"): 1}
        assert [event for event, _ in served.log.lines].count("exchange failed") == 1


# Answers that come before the request has


async def test_the_rest_of_an_upload_is_called_off() -> None:
    async def impatient(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.head()
        await wire.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig")
        await wire.rest()

    async with gateway(ScriptedUpstream(impatient)) as served, client_of(served) as client:
        stream = await client.begin(method=b"POST", end=False)
        await client.send_data(stream, b"x" * 50_000)
        await client.until(lambda: stream.reset is not None)
        assert (stream.status, bytes(stream.body), stream.ended, stream.reset) == (413, b"big", True, NO_ERROR)
        await client.pinged()  # and nobody minds


async def test_an_upload_to_nowhere_is_called_off() -> None:
    async with gateway() as served:
        served.apply(config.Snapshot(listeners={"web": http_listener()}))
        async with client_of(served) as client:
            for _ in range(30):  # twice the connection's window, which what nobody reads must not use up
                stream = await client.begin(method=b"POST", end=False)
                await client.send_data(stream, b"x" * 65_000)
                await client.until(lambda stream=stream: stream.reset is not None)
                assert (stream.status, stream.reset) == (404, NO_ERROR)


# Clients that go


@pytest.mark.parametrize("http2", [False, True])
async def test_a_client_that_cancels_while_it_waits_frees_the_upstream(http2: bool) -> None:
    async def never(peer: Http2Peer, stream: PeerStream) -> None:
        await peer.until(lambda: stream.reset is not None)

    upstream = Http2Upstream(never) if http2 else ScriptedUpstream(hang)
    async with gateway(upstream) as served, client_of(served) as client:
        stream = await client.begin()
        await until(lambda: served.cluster().limits.requests.held == 1)
        await until(lambda: upstream.seen if isinstance(upstream, Http2Upstream) else upstream.open)
        await client.send_reset(stream, CANCEL)
        await until(lambda: served.records)
        [record] = served.records
        assert record.flags == ("DC",)
        if isinstance(upstream, Http2Upstream):
            await until(lambda: upstream.seen[0].reset == CANCEL)
            assert upstream.open == 1  # the connection goes on
        else:
            await until(lambda: upstream.open == 0)


async def test_a_client_that_cancels_an_upload() -> None:
    async def take(peer: Http2Peer, stream: PeerStream) -> None:
        await peer.until(lambda: stream.over)

    upstream = Http2Upstream(take)
    async with gateway(upstream) as served, client_of(served) as client:
        stream = await client.begin(method=b"POST", end=False)
        await client.send_data(stream, b"half")
        await until(lambda: upstream.seen and upstream.seen[0].body == b"half")
        await client.send_reset(stream, CANCEL)
        await until(lambda: upstream.seen[0].reset is not None)
        assert upstream.seen[0].reset == CANCEL
        await until(lambda: served.records)
        assert served.records[0].flags == ("DC",)


async def test_a_client_that_cancels_a_download() -> None:
    async def pour(peer: Http2Peer, stream: PeerStream) -> None:
        await peer.send_head(stream, [(b":status", b"200")])
        while stream.reset is None:
            await peer.send_data(stream, BIG)

    upstream = Http2Upstream(pour)
    async with gateway(upstream) as served, client_of(served, hold=True) as client:
        stream = await client.begin()
        await client.until(lambda: stream.body)
        await client.send_reset(stream, CANCEL)
        await until(lambda: upstream.seen[0].reset is not None)
        assert upstream.seen[0].reset == CANCEL
        await until(lambda: served.records)
        assert (served.records[0].response_code, served.records[0].flags) == (200, ("DC",))


async def test_a_client_that_cancels_in_the_same_read_as_it_asks() -> None:
    async with gateway() as served, client_of(served) as client:
        fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"app")]
        frames = [client.headers(1, fields, end=True), h2.RstStreamFrame(1, CANCEL)]
        await client.send_frames(*frames)
        await client.pinged()
        await until(lambda: not served.dataplane.exchanges)
        client._next = 3
        assert (await client.ask(b"/next")).status == 200


@pytest.mark.parametrize("http2", [False, True])
async def test_a_client_that_vanishes_with_many_streams(http2: bool) -> None:
    async def never(peer: Http2Peer, stream: PeerStream) -> None:
        await peer.until(lambda: stream.reset is not None)

    upstream = Http2Upstream(never) if http2 else ScriptedUpstream(hang)
    async with gateway(upstream) as served:
        async with client_of(served) as client:
            for _ in range(40):
                await client.begin()
            await until(lambda: served.cluster().limits.requests.held == 40)
        await served.settled()
        assert [record.flags for record in served.records] == [("DC",)] * 40
        assert not served.dataplane.exchanges
        if isinstance(upstream, Http2Upstream):
            await until(lambda: all(stream.reset == CANCEL for stream in upstream.seen))
        else:
            await until(lambda: upstream.open == 0)


async def test_a_client_that_resets_its_connection() -> None:
    async with gateway(ScriptedUpstream(hang)) as served:
        async with client_of(served) as client:
            await client.begin()
            await until(lambda: served.cluster().limits.requests.held == 1)
            client.transport.reset()
        await served.settled()
        assert [record.flags for record in served.records] == [("DC",)]


async def test_a_client_that_breaks_the_protocol() -> None:
    async with gateway(ScriptedUpstream(hang)) as served:
        async with client_of(served) as client:
            await client.begin()
            await until(lambda: served.cluster().limits.requests.held == 1)
            await client.send_frames(h2.DataFrame(99, b"x"))
            await client.closed()
            assert client.goaways[-1][1] != NO_ERROR
        await served.settled()
        assert sum(count for (where, _), count in served.refused().items() if where == "http2") == 1
        assert [record.flags for record in served.records] == [("DC",)]


async def test_a_bad_head_costs_one_stream() -> None:
    async with gateway() as served, client_of(served) as client:
        bad = await client.open([(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b"Bad", b"x")])
        await client.until(lambda: bad.over)
        assert bad.reset == PROTOCOL_ERROR or bad.status == 400
        assert (await client.ask(b"/next")).status == 200


# Deadlines


async def test_an_idle_connection_is_told_and_closed(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway(idle_timeout=10.0) as served:
        async with client_of(served) as client:
            await client.ask()
            started = trio.current_time()
            await client.closed()
            assert trio.current_time() - started == pytest.approx(10, abs=1.2)
            assert client.goaways[-1] == (1, NO_ERROR)
        await served.settled()
        assert served.refused() == {("http2", "idle_timeout"): 1}


async def test_a_connection_with_a_stream_is_not_idle(autojump_clock: trio.testing.MockClock) -> None:
    held = Held()
    async with gateway(ScriptedUpstream(held.script), idle_timeout=10.0) as served:
        async with client_of(served) as client:
            stream = await client.begin(b"/slow")
            await trio.sleep(20)
            held.let(b"/quick")
            await client.ask(b"/quick")
            await trio.sleep(20)
            held.let(b"/slow")
            assert (await client.answer(stream)).status == 200


async def test_an_unfinished_header_block(autojump_clock: trio.testing.MockClock) -> None:
    settings = Settings(request_headers_timeout=5.0)
    async with gateway(settings=settings) as served:
        async with client_of(served) as client:
            await trio.sleep(20)
            started = trio.current_time()
            frame = client.headers(1, [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")], end=True)
            frame.flags.discard("END_HEADERS")
            await client.send_frames(frame)
            await client.closed()
            assert trio.current_time() - started == pytest.approx(5, abs=1.2)
        await served.settled()
        assert served.refused() == {("http2", "request_headers_timeout"): 1}


async def test_a_header_block_that_ends_disarms_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    settings = Settings(request_headers_timeout=5.0)
    async with gateway(settings=settings) as served, client_of(served) as client:
        fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/late"), (b":authority", b"app")]
        await client.pinged()  # nothing may come between the frames of a block, an ACK least of all
        whole = client.headers(1, fields, end=True)
        first = h2.HeadersFrame(1, whole.data[:3], flags=["END_STREAM"])
        await client.send_frames(first)
        await trio.sleep(3)
        stream = client._stream(1)
        await client.send_frames(h2.ContinuationFrame(1, whole.data[3:], flags=["END_HEADERS"]))
        assert bytes((await client.answer(stream)).body) == b"/late"
        await trio.sleep(20)
        client._next = 3
        assert (await client.ask(b"/next")).status == 200


@pytest.mark.parametrize("complete", [False, True])
async def test_silence_before_an_answer(autojump_clock: trio.testing.MockClock, complete: bool) -> None:
    status = 504 if complete else 408
    async with gateway(ScriptedUpstream(hang), settings=Settings(stream_idle_timeout=3.0)) as served:
        async with client_of(served) as client:
            started = trio.current_time()
            stream = await client.begin(method=b"POST", end=complete)
            await client.answer(stream)
            assert (stream.status, bytes(stream.body)) == (status, b"stream timeout")
            assert trio.current_time() - started == pytest.approx(3, abs=0.6)
            await client.pinged()  # the connection goes on
        await served.settled()
        assert served.refused() == {("http2", "stream_idle_timeout"): 1}
        (record,) = served.records
        assert (record.response_code, record.flags, record.details) == (status, ("SI",), "stream_idle_timeout")


async def test_silence_within_an_answer_is_a_reset(autojump_clock: trio.testing.MockClock) -> None:
    async def stall(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await wire.rest()

    async with gateway(ScriptedUpstream(stall), settings=Settings(stream_idle_timeout=3.0)) as served:
        async with client_of(served) as client:
            stream = await client.ask()
            assert (stream.status, bytes(stream.body), stream.ended) == (200, b"half", False)
            assert stream.reset == INTERNAL_ERROR
            await client.pinged()
        await served.settled()
        assert served.records[0].termination_details == "stream_idle_timeout"
        assert served.records[0].flags == ("SI",)


async def test_a_request_that_takes_too_long_in_all(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway(settings=Settings(request_timeout=5.0)) as served, client_of(served) as client:
        stream = await client.begin(method=b"POST", end=False)
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                while True:
                    await trio.sleep(0.2)
                    await client.send_data(stream, b"x")

            nursery.start_soon(drip)
            await client.answer(stream)
            nursery.cancel_scope.cancel()
        assert stream.status == 408
        await until(lambda: served.records)
        assert served.refused() == {("http2", "request_overall_timeout"): 1}


@pytest.mark.parametrize(("size", "code"), [(75_000, CANCEL), (200_000, INTERNAL_ERROR)])
async def test_an_answer_that_the_client_does_not_take(
    autojump_clock: trio.testing.MockClock, size: int, code: int
) -> None:
    """Its end waits for the client's window, after the exchange or within it: not for ever."""

    async def big(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.answer(body=b"x" * size)
        await wire.rest()

    settings = Settings(stream_idle_timeout=3.0)
    async with gateway(ScriptedUpstream(big), settings=settings) as served, client_of(served, hold=True) as client:
        stream = await client.begin()
        await client.answer(stream)
        assert (stream.reset, stream.ended, len(stream.body)) == (code, False, 65535)
        assert served.refused() == {("http2", "stream_idle_timeout"): 1}


async def test_a_client_that_vanishes_with_the_end_of_an_answer_untaken() -> None:
    """The exchange is over by then: its stream is forgotten with the connection."""

    async def big(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.answer(body=b"x" * 75_000)
        await wire.rest()

    async with gateway(ScriptedUpstream(big)) as served:
        async with client_of(served, hold=True) as client:
            stream = await client.begin()
            await client.until(lambda: len(stream.body) == 65535)
            await until(lambda: served.records)
            assert served.dataplane.exchanges
        await served.settled()
        assert not served.dataplane.exchanges


# Draining


async def test_a_drain_is_announced_and_lets_streams_finish(autojump_clock: trio.testing.MockClock) -> None:
    held = Held()
    async with gateway(ScriptedUpstream(held.script)) as served, client_of(served) as client:
        stream = await client.begin(b"/last")
        await until(lambda: held.asked)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain, served.dataplane, 30.0)
            await client.until(lambda: client.goaways)
            assert client.goaways[0] == (2**31 - 1, NO_ERROR)
            held.let(b"/raced")
            raced = await client.ask(b"/raced")  # was on its way
            assert raced.status == 200
            held.let(b"/last")
            assert (await client.answer(stream)).status == 200
            await client.closed()
            assert client.goaways[-1] == (raced.number, NO_ERROR)


async def test_a_drain_closes_what_is_idle(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway() as served, client_of(served) as client:
        await client.ask()
        assert await drain(served.dataplane, 30.0) == 0
        await client.closed()
        assert [last for last, _ in client.goaways] == [2**31 - 1, 1]


async def test_a_drain_that_takes_too_long_cuts(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway(ScriptedUpstream(hang)) as served, client_of(served) as client:
        await client.begin()
        await until(lambda: served.cluster().limits.requests.held == 1)
        assert await drain(served.dataplane, 5.0) == 1


async def test_hanging_up_is_not_an_error() -> None:
    async with gateway() as served:
        async with client_of(served) as client:
            await client.ask()
            await client.send_goaway(0)
            await client.transport.send_eof()
            with pytest.raises(HungUp):
                await client.until(lambda: False)
        await served.settled()
        assert served.refused() == {}
        await settle()
