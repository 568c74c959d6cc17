"""The downstream HTTP/1.1 driver over loopback: keep-alive, pipelining, deadlines, and how a connection ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agent.bootstrap import Settings
from mesh import config
from tests.rig import (
    HungUp,
    ScriptedUpstream,
    Serving,
    Wire,
    http_listener,
    idle_counts,
    serving,
    settle,
    until,
    web,
)

pytestmark = pytest.mark.usefixtures("engine")

BIG = bytes(range(256)) * 4096 * 4
GET = b"GET %s HTTP/1.1\r\nhost: app\r\n\r\n"


@asynccontextmanager
async def gateway(
    upstream: ScriptedUpstream | None = None, *, settings: Settings | None = None, **chain: Any
) -> AsyncIterator[Serving]:
    """A gateway before an upstream; nothing is leased any more when the body is done and clients are gone."""
    upstream = upstream or ScriptedUpstream()
    with trio.fail_after(100):
        async with upstream.running():
            given = web(upstream.port, listener=http_listener(**chain))
            async with serving(given, settings=settings) as served:
                with idle_counts(served.cluster()):
                    yield served
                    await served.settled()


async def closed(wire: Wire) -> bytes:
    """What is left until the proxy closes."""
    with trio.fail_after(50):
        return await wire.rest()


# Connections that go on


async def test_a_connection_is_kept() -> None:
    upstream = ScriptedUpstream()
    async with gateway(upstream) as served, served.connect() as wire:
        for path in (b"/1", b"/2", b"/3"):
            assert (await wire.ask(path)).body == path
        assert upstream.accepted == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with gateway() as served, served.connect() as wire:
        await wire.send(b"".join(GET % b"/%d" % n for n in range(20)))
        assert [(await wire.message()).body for _ in range(20)] == [b"/%d" % n for n in range(20)]


async def test_a_pipelined_head_may_come_in_two_reads() -> None:
    async with gateway() as served, served.connect() as wire:
        await wire.send(GET % b"/1" + b"GET /2 HT")
        assert (await wire.message()).body == b"/1"
        await wire.send(b"TP/1.1\r\nhost: app\r\n\r\n")
        assert (await wire.message()).body == b"/2"


@hypothesis_settings(max_examples=10, deadline=None)
@given(st.lists(st.binary(max_size=30), min_size=1, max_size=4), st.lists(st.integers(1, 400), max_size=8))
def test_cuts_between_reads_change_nothing(bodies: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(b"POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(b), b) for b in bodies)

    async def main() -> None:
        async with gateway() as served, served.connect() as wire:
            left = raw
            for cut in cuts:
                await wire.send(left[:cut])
                left = left[cut:]
                await trio.lowlevel.checkpoint()
            await wire.send(left)
            assert [(await wire.message()).body for _ in bodies] == [body or b"/p" for body in bodies]

    trio.run(main)


async def test_big_bodies_both_ways() -> None:
    async with gateway() as served, served.connect() as wire, trio.open_nursery() as nursery:
        nursery.start_soon(wire.send, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(BIG), BIG))
        assert (await wire.message()).body == BIG
        assert (await wire.ask(b"/next")).body == b"/next"


async def test_a_chunked_body_and_trailers_pass() -> None:
    async with gateway() as served, served.connect() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await settle()
        await wire.send(b"2\r\nde\r\n0\r\n\r\n")
        assert (await wire.message()).body == b"abcde"


async def test_a_client_that_reads_slowly_holds_the_upstream_back() -> None:
    async def pour(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (16 * len(BIG)))
        for _ in range(16):
            await wire.send(BIG)
        poured.set()

    poured = trio.Event()
    async with gateway(ScriptedUpstream(pour)) as served, served.connect() as wire:
        await wire.send(GET % b"/")
        await settle()
        assert not poured.is_set()
        assert len((await wire.message()).body) == 16 * len(BIG)


# Connections that end


async def test_connection_close_is_obeyed() -> None:
    async with gateway() as served, served.connect() as wire:
        answer = await wire.ask(extra=b"connection: close\r\n")
        assert answer.headers[b"connection"] == b"close"
        assert await closed(wire) == b""
    assert served.refused() == {}


async def test_http_1_0_closes() -> None:
    async with gateway() as served, served.connect() as wire:
        await wire.send(b"GET / HTTP/1.0\r\nhost: app\r\n\r\n")
        assert (await wire.message()).status == 200
        assert await closed(wire) == b""


async def test_a_client_that_ends_its_stream_between_requests() -> None:
    async with gateway() as served, served.connect() as wire:
        await wire.ask()
        await wire.transport.send_eof()
        assert await closed(wire) == b""
    assert served.refused() == {}


async def test_a_client_that_ends_its_stream_behind_its_request_is_answered() -> None:
    async with gateway() as served, served.connect() as wire:
        await wire.send(GET % b"/last")
        await wire.transport.send_eof()
        assert (await wire.message()).body == b"/last"
        assert await closed(wire) == b""


async def test_a_client_that_hangs_up_within_a_head_is_counted() -> None:
    async with gateway() as served:
        async with served.connect() as wire:
            await wire.send(b"GET / HTTP/1.1\r\nhos")
            await settle()
            await wire.transport.send_eof()
            assert (await wire.message()).status == 400
            assert await closed(wire) == b""
        await served.settled()
        assert sum(count for (where, _), count in served.refused().items() if where == "http1") == 1
        [record] = served.records
        assert record.flags == ("DPE",)


async def test_a_client_that_hangs_up_within_a_body_is_counted() -> None:
    for length in (100, 1_000_000):  # read whole before it is sent, and streamed
        upstream = ScriptedUpstream()
        async with gateway(upstream) as served:
            async with served.connect() as wire:
                await wire.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\nhalf" % length)
                await settle()
            await served.settled()
            [record] = served.records
            assert (record.flags, record.response_code) == (("DC",), 0)
            await until(lambda upstream=upstream: upstream.open == 0)
            assert upstream.requests == []


async def test_a_client_that_hangs_up_while_it_waits_frees_the_upstream(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def stall(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.rest()

    upstream = ScriptedUpstream(stall)
    async with gateway(upstream) as served:
        async with served.connect() as wire:
            await wire.send(GET % b"/")
            await settle()
            assert upstream.open == 1
        await served.settled()
        await until(lambda: upstream.open == 0)
        [record] = served.records
        assert "DC" in record.flags


async def test_a_client_that_hangs_up_during_the_answer_is_counted() -> None:
    async def pour(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        while True:
            await wire.send(BIG)

    upstream = ScriptedUpstream(pour)
    async with gateway(upstream) as served:
        async with served.connect() as wire:
            await wire.send(GET % b"/")
            await wire.take(100_000)
        await served.settled()
        [record] = served.records
        assert (record.response_code, record.flags) == (200, ("DC",))
        await until(lambda: upstream.open == 0)


async def test_an_answer_cut_short_upstream_is_not_taken_for_a_whole_one() -> None:
    async def cut(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await wait.wait()

    wait = trio.Event()
    async with gateway(ScriptedUpstream(cut)) as served, served.connect() as wire:
        await wire.send(GET % b"/")
        await wire.head()
        await wire.take(4)
        wait.set()
        with pytest.raises((trio.BrokenResourceError, HungUp)):
            await wire.message()


# Bytes that make no request


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nhost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 101 + b"\r\n", 431),
    ],
)
async def test_they_are_refused_counted_and_logged(raw: bytes, status: int) -> None:
    async with gateway() as served:
        async with served.connect() as wire:
            await wire.send(raw + b"x" * 10_000)  # what is unread must not turn the answer into a reset
            answer = await wire.message()
            assert (answer.status, answer.headers[b"connection"]) == (status, b"close")
            await closed(wire)
        await served.settled()
        [((where, _), count)] = served.refused().items()
        assert (where, count) == ("http1", 1)
        [record] = served.records
        assert (record.response_code, record.flags) == (status, ("DPE",))
        assert record.bytes_sent > 0


async def test_garbage_behind_a_good_request_is_refused_after_its_answer() -> None:
    async with gateway() as served, served.connect() as wire:
        await wire.send(GET % b"/good" + b"\0\0\0\0\r\n\r\n")
        assert (await wire.message()).body == b"/good"
        assert (await wire.message()).status == 400


async def test_a_broken_body_ends_the_exchange() -> None:
    async with gateway() as served, served.connect() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        assert (await wire.message()).status == 400
        await closed(wire)


async def test_a_refused_client_that_has_gone_is_only_counted() -> None:
    async with gateway() as served:
        async with served.connect() as wire:
            await wire.send(b"nonsense\r\n\r\n")
            wire.transport.reset()
        await until(lambda: sum(served.refused().values()) == 1)


async def test_dropped_fields_are_counted() -> None:
    settings = Settings(headers_with_underscores_action="drop")
    async with gateway(settings=settings) as served:
        async with served.connect() as wire:
            await wire.ask(extra=b"x_y: z\r\nconnection: close\r\n")
        await served.settled()
        assert [where for where, _ in served.refused()] == ["codec"]


# Answers that come before the request has


async def test_an_early_answer_is_seen_although_the_body_goes_on() -> None:
    async def impatient(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.head()
        await wire.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig")
        await wire.rest()

    async with gateway(ScriptedUpstream(impatient)) as served, served.connect() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 100_000)
        await settle()
        await wire.send(b"x" * 50_000)
        answer = await wire.message()
        assert (answer.status, answer.body) == (413, b"big")
        assert await closed(wire) == b""


async def test_lingering_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway() as served, served.connect() as wire:
        served.apply(config.Snapshot(listeners={"web": http_listener()}))  # no route: 404 at once
        await wire.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nhalf")
        assert (await wire.message()).status == 404
        started = trio.current_time()
        await served.settled()
        assert trio.current_time() - started == pytest.approx(1.0, abs=0.02)


# Deadlines


async def test_a_slow_head_is_answered_408(autojump_clock: trio.testing.MockClock) -> None:
    settings = Settings(request_headers_timeout=5.0)
    async with gateway(settings=settings) as served:
        async with served.connect() as wire:
            await trio.sleep(20)  # silence before the first byte is idleness, not slowness
            started = trio.current_time()
            for byte in b"GET / ":
                await wire.send(bytes([byte]))
                await trio.sleep(0.5)
            answer = await wire.message()
            assert (answer.status, answer.headers[b"connection"]) == (408, b"close")
            assert trio.current_time() - started == pytest.approx(5, abs=0.5)
            await closed(wire)
        await served.settled()
        assert served.refused() == {("http1", "request_headers_timeout"): 1}
        assert [record.response_code for record in served.records] == [408]


async def test_a_slow_pipelined_head_is_slow_too(autojump_clock: trio.testing.MockClock) -> None:
    settings = Settings(request_headers_timeout=5.0)
    async with gateway(settings=settings) as served, served.connect() as wire:
        await wire.send(GET % b"/1" + b"GET /2 HT")
        assert (await wire.message()).body == b"/1"
        assert (await wire.message()).status == 408


async def test_a_fast_head_disarms_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await trio.sleep(30)
        await wire.answer()
        await wire.rest()

    settings = Settings(request_headers_timeout=5.0)
    async with gateway(ScriptedUpstream(slow), settings=settings) as served, served.connect() as wire:
        assert (await wire.ask()).status == 200


@pytest.mark.parametrize("first", [False, True])
async def test_an_idle_connection_is_closed(autojump_clock: trio.testing.MockClock, first: bool) -> None:
    async with gateway(idle_timeout=10.0) as served:
        async with served.connect() as wire:
            if first:
                await trio.sleep(8)
                await wire.ask()
            started = trio.current_time()
            assert await closed(wire) == b""
            assert trio.current_time() - started == pytest.approx(10, abs=0.6)
        assert served.refused() == {("http1", "idle_timeout"): 1}


# Silence within an exchange


SILENT = Settings(stream_idle_timeout=3.0)
PART = b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 100000\r\n\r\npart"


async def hang(upstream: ScriptedUpstream, wire: Wire) -> None:
    await wire.rest()


@pytest.mark.parametrize(("request_", "status"), [(PART, 408), (GET % b"/", 504)])
async def test_silence_before_an_answer(autojump_clock: trio.testing.MockClock, request_: bytes, status: int) -> None:
    async with gateway(ScriptedUpstream(hang), settings=SILENT) as served:
        async with served.connect() as wire:
            started = trio.current_time()
            await wire.send(request_)
            answer = await wire.message()
            assert (answer.status, answer.body) == (status, b"stream timeout")
            assert answer.headers[b"connection"] == b"close"
            assert trio.current_time() - started == pytest.approx(3, abs=0.6)
            await closed(wire)
        await served.settled()
        assert served.refused() == {("http1", "stream_idle_timeout"): 1}
        (record,) = served.records
        assert (record.response_code, record.flags, record.details) == (status, ("SI",), "stream_idle_timeout")


async def test_silence_within_an_answer_is_a_reset(autojump_clock: trio.testing.MockClock) -> None:
    async def stall(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await wire.rest()

    async with gateway(ScriptedUpstream(stall), settings=SILENT) as served:
        async with served.connect() as wire:
            await wire.send(GET % b"/")
            assert (await wire.head()).status == 200
            with pytest.raises(trio.BrokenResourceError):
                await closed(wire)
        await served.settled()
        assert served.records[0].termination_details == "stream_idle_timeout"
        assert served.records[0].flags == ("SI",)


async def test_what_moves_is_not_silent(autojump_clock: trio.testing.MockClock) -> None:
    async def drip(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        for _ in range(5):
            await trio.sleep(2)
            await wire.send(b"x")
        await wire.rest()

    async with gateway(ScriptedUpstream(drip), settings=SILENT) as served, served.connect() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 5\r\n\r\n")
        for _ in range(5):
            await trio.sleep(2)
            await wire.send(b"y")
        assert (await wire.message()).body == b"xxxxx"


async def test_a_request_that_takes_too_long_in_all(autojump_clock: trio.testing.MockClock) -> None:
    async def drip(wire: Wire) -> None:
        while True:
            await trio.sleep(0.2)
            await wire.send(b"x")

    async with gateway(settings=Settings(request_timeout=5.0)) as served:
        async with served.connect() as wire, trio.open_nursery() as nursery:
            await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 100000\r\n\r\n")
            nursery.start_soon(drip, wire)
            assert (await wire.message()).status == 408
            nursery.cancel_scope.cancel()
        await served.settled()
        assert served.refused() == {("http1", "request_overall_timeout"): 1}
        assert [(record.response_code, record.details) for record in served.records] == [
            (408, "request_overall_timeout")
        ]


async def test_an_answer_may_take_longer_than_its_request(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await trio.sleep(30)
        await wire.answer()
        await wire.rest()

    settings = Settings(request_timeout=5.0)
    async with gateway(ScriptedUpstream(slow), settings=settings) as served, served.connect() as wire:
        assert (await wire.ask()).status == 200


async def test_the_chain_without_idle_timeout_takes_the_agents(autojump_clock: trio.testing.MockClock) -> None:
    settings = Settings(connection_idle_timeout=7.0)
    async with gateway(settings=settings, idle_timeout=0.0) as served, served.connect() as wire:
        started = trio.current_time()
        await closed(wire)
        assert trio.current_time() - started == pytest.approx(7, abs=0.6)


async def test_idle_timeouts_may_be_off(autojump_clock: trio.testing.MockClock) -> None:
    settings = Settings(connection_idle_timeout=0.0)
    async with gateway(settings=settings, idle_timeout=0.0) as served, served.connect() as wire:
        await trio.sleep(90)
        assert (await wire.ask()).status == 200


# Tunnels


async def test_an_upgraded_connection_becomes_a_tunnel() -> None:
    async def shout(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.send(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nready.")
        while data := await wire.take(5):
            await wire.send(data.upper())

    async with gateway(ScriptedUpstream(shout)) as served:
        async with served.connect() as wire:
            await wire.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello")
            assert (await wire.head()).status == 101
            assert await wire.take(11) == b"ready.HELLO"
            await wire.send(b"again")
            assert await wire.take(5) == b"AGAIN"
        await served.settled()
