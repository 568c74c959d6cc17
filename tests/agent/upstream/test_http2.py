"""An upstream HTTP/2 connection behind a gateway: streams that share it, and every way in which one may fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from hyperframe import frame as h2

from agent.codec.http2 import CANCEL, ENHANCE_YOUR_CALM, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM
from mesh import config
from tests.h2_rig import Http2Peer, Http2Upstream, PeerStream, gateway, http2_connected, http2_echo
from tests.rig import Serving, http_listener, idle_counts, routes_to, serving, settle, snapshot, until
from tests.rig import cluster as make_cluster
from tests.rig import endpoint as make_endpoint

pytestmark = pytest.mark.usefixtures("engine")

Failure = Callable[[Http2Peer, PeerStream], Awaitable[None]]


async def refuse(peer: Http2Peer, stream: PeerStream) -> None:
    await peer.send_reset(stream, REFUSED_STREAM)


async def reset(peer: Http2Peer, stream: PeerStream) -> None:
    await peer.send_reset(stream, INTERNAL_ERROR)


async def die(peer: Http2Peer, stream: PeerStream) -> None:
    peer.transport.close()


async def go_away(peer: Http2Peer, stream: PeerStream) -> None:
    await peer.send_goaway(stream.number - 2 if stream.number > 1 else 0)


async def blunder(peer: Http2Peer, stream: PeerStream) -> None:
    await peer.send_frames(h2.DataFrame(stream.number, b"no head"))


async def babble(peer: Http2Peer, stream: PeerStream) -> None:
    await peer.send_raw(b"HTTP/1.1 200 OK\r\n\r\n")


def then(first: Failure, rest: Failure = http2_echo) -> Failure:
    """`first` for the first stream, `rest` for all others."""
    seen: list[PeerStream] = []

    async def each(peer: Http2Peer, stream: PeerStream) -> None:
        seen.append(stream)
        await (first if len(seen) == 1 else rest)(peer, stream)

    return each


async def ask(served: Serving, method: bytes = b"GET", body: bytes = b"") -> PeerStream:
    async with http2_connected(served.port()) as client:
        return await client.ask(b"/", body, method=method)


# Sharing


async def test_streams_of_many_clients_share_a_connection() -> None:
    upstream = Http2Upstream()
    async with gateway(upstream) as served:
        async with served.connect() as wire, http2_connected(served.port()) as client:
            assert (await wire.ask(b"/1")).body == b"/1"
            assert bytes((await client.ask(b"/2")).body) == b"/2"
        assert upstream.accepted == 1
        assert [stream.number for stream in upstream.seen] == [1, 3]


async def test_an_answer_that_is_slow_holds_up_nobody() -> None:
    slow = trio.Event()

    async def script(peer: Http2Peer, stream: PeerStream) -> None:
        if stream.head[b":path"] == b"/slow":
            await slow.wait()
        await http2_echo(peer, stream)

    async with gateway(Http2Upstream(script)) as served, http2_connected(served.port()) as client:
        first = await client.begin(b"/slow")
        assert (await client.ask(b"/quick")).status == 200
        assert not first.over
        slow.set()
        assert bytes((await client.answer(first)).body) == b"/slow"


@pytest.mark.parametrize("policy", ["round_robin", "least_request"])
async def test_each_stream_is_balanced(policy: str) -> None:
    ups = [Http2Upstream(), Http2Upstream()]
    async with ups[0].running(), ups[1].running():
        given = snapshot(
            http_listener(),
            routes_to(),
            make_cluster(protocol="http2", lb_policy=policy),
            config.ClusterEndpoints("app", tuple(make_endpoint(each.port) for each in ups)),
        )
        async with serving(given) as served:
            async with http2_connected(served.port()) as client:
                for _ in range(40):
                    assert (await client.ask()).status == 200
            assert [each.accepted for each in ups] == [1, 1]
            counts = sorted(len(each.seen) for each in ups)
            assert sum(counts) == 40
            assert counts[0] == 20 if policy == "round_robin" else counts[0] > 5


async def test_the_request_as_the_upstream_sees_it() -> None:
    upstream = Http2Upstream()
    async with gateway(upstream, use_remote_address=True) as served:
        async with served.connect() as wire:
            await wire.ask(b"/a?b", host=b"Shop:80", extra=b"x-one: 1\r\nconnection: x-hop\r\nx-hop: 1\r\n")
        head = upstream.seen[0].head
        assert (head[b":authority"], head[b":path"], head[b":method"]) == (b"Shop:80", b"/a?b", b"GET")
        assert head[b"x-one"] == b"1"
        assert head[b"x-forwarded-proto"] == b"http"
        assert b"x-forwarded-for" in head
        assert not {b"host", b"connection", b"x-hop", b"transfer-encoding"} & head.keys()


# Failures before an answer


@pytest.mark.parametrize(
    ("failure", "status", "flag"),
    [
        (refuse, 503, "UR"),
        (reset, 503, "UR"),
        (die, 503, "UC"),
        (go_away, 503, "UR"),
        (blunder, 502, "UPE"),
        (babble, 502, "UPE"),
    ],
)
async def test_a_failure_is_told_and_the_next_request_is_well(failure: Failure, status: int, flag: str) -> None:
    async with gateway(Http2Upstream(then(failure))) as served:
        answer = await ask(served, b"POST", b"x")
        assert answer.status == status
        assert b"reset reason" in answer.body
        [record] = served.records
        assert (record.flags, record.attempts) == ((flag,), 1)
        assert (await ask(served)).status == 200


@pytest.mark.parametrize(
    ("failure", "method", "retried"),
    [
        (refuse, b"POST", True),
        (go_away, b"POST", True),
        (reset, b"POST", False),
        (die, b"POST", False),
    ],
)
async def test_only_what_was_not_touched_is_repeated(failure: Failure, method: bytes, retried: bool) -> None:
    """By a policy for refused streams, a request that changes things included."""
    upstream = Http2Upstream(then(failure))
    async with upstream.running():
        retry = config.RetryPolicy(1, retry_on=("refused-stream",))
        given = snapshot(
            http_listener(),
            routes_to(retries=retry),
            make_cluster(protocol="http2"),
            config.ClusterEndpoints("app", (make_endpoint(upstream.port),)),
        )
        async with serving(given) as served, http2_connected(served.port()) as client:
            answer = await client.ask(b"/", b"body", method=method)
            assert answer.status == (200 if retried else 503)
            assert len(upstream.seen) == (2 if retried else 1)


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_connection_that_is_parted_with_in_use_is_healed(method: bytes) -> None:
    """GOAWAY for a stream on a connection that had served: nobody touched it, so it goes again without a policy."""
    upstream = Http2Upstream()
    async with gateway(upstream) as served:
        assert (await ask(served)).status == 200
        upstream.each = then(go_away)
        assert (await ask(served, method, b"x" if method == b"POST" else b"")).status == 200
        assert upstream.accepted == 2
        assert [record.attempts for record in served.records] == [1, 1]


async def test_streams_below_a_goaway_finish_and_new_ones_go_elsewhere() -> None:
    let = trio.Event()

    async def script(peer: Http2Peer, stream: PeerStream) -> None:
        if stream.head[b":path"] == b"/first":
            await peer.send_goaway(stream.number)
            await let.wait()
        await http2_echo(peer, stream)

    upstream = Http2Upstream(script)
    async with gateway(upstream) as served, http2_connected(served.port()) as client:
        first = await client.begin(b"/first")
        await until(lambda: upstream.seen)
        [shared] = next(iter(served.cluster().endpoints.values())).streams.connections
        await until(lambda: shared.closing)
        assert bytes((await client.ask(b"/second")).body) == b"/second"
        assert upstream.accepted == 2
        let.set()
        assert bytes((await client.answer(first)).body) == b"/first"
        await until(lambda: upstream.open == 1)


async def test_a_shutdown_notice_is_no_failure() -> None:
    async def script(peer: Http2Peer, stream: PeerStream) -> None:
        await peer.send_goaway(2**31 - 1)
        await http2_echo(peer, stream)

    upstream = Http2Upstream(script)
    async with gateway(upstream) as served:
        for _ in range(3):
            assert (await ask(served)).status == 200
            await until(lambda: upstream.open == 0)
        assert upstream.accepted == 3


async def test_a_connection_that_dies_takes_all_its_streams() -> None:
    upstream = Http2Upstream(lambda peer, stream: peer.until(lambda: False))
    async with gateway(upstream) as served, http2_connected(served.port()) as client:
        streams = [await client.begin(method=b"POST") for _ in range(10)]
        await until(lambda: len(upstream.seen) == 10)
        upstream.peer.transport.reset()
        for stream in streams:
            assert (await client.answer(stream)).status == 503
        assert [record.flags for record in served.records] == [("UC",)] * 10


# Failures within an answer


async def begin(peer: Http2Peer, stream: PeerStream) -> None:
    await peer.send_head(stream, [(b":status", b"200"), (b"content-length", b"1000")])
    await peer.send_data(stream, b"half")


def after_begun(failure: Failure) -> Failure:
    async def script(peer: Http2Peer, stream: PeerStream) -> None:
        await begin(peer, stream)
        await failure(peer, stream)

    return script


async def break_off(peer: Http2Peer, stream: PeerStream) -> None:
    await peer.send_data(stream, b"", end=True)


@pytest.mark.parametrize(
    ("failure", "flag"), [(reset, "UR"), (refuse, "UR"), (die, "UC"), (break_off, "UPE"), (babble, "UPE")]
)
async def test_an_answer_cut_short_is_not_taken_for_a_whole_one(failure: Failure, flag: str) -> None:
    seen = trio.Event()

    async def script(peer: Http2Peer, stream: PeerStream) -> None:
        await begin(peer, stream)
        await seen.wait()
        await failure(peer, stream)

    async with gateway(Http2Upstream(then(script))) as served:
        async with http2_connected(served.port()) as client:
            answer = await client.begin()
            await client.until(lambda: answer.body == b"half")
            seen.set()
            await client.answer(answer)
            assert (answer.status, answer.ended, answer.reset) == (200, False, INTERNAL_ERROR)
        await until(lambda: served.records)
        [record] = served.records
        assert record.flags == (flag,)
        assert (await ask(served)).status == 200
        async with served.connect() as wire:
            assert (await wire.ask(b"/h1")).body == b"/h1"


async def test_an_answer_cut_short_resets_an_http1_client() -> None:
    async with gateway(Http2Upstream(after_begun(reset))) as served, served.connect() as wire:
        await wire.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await wire.head()).status == 200
        with pytest.raises(trio.BrokenResourceError):
            await wire.rest()


async def test_a_reset_with_no_error_after_the_end_is_fine() -> None:
    """RFC 9113 8.1: an answer that came early may be followed by it."""

    async def early(peer: Http2Peer, stream: PeerStream) -> None:
        await peer.reply(stream, 413, b"big")
        await peer.send_reset(stream, NO_ERROR)

    async with gateway(Http2Upstream(early)) as served, http2_connected(served.port()) as client:
        stream = await client.begin(method=b"POST", end=False)
        await client.send_data(stream, b"x" * 1000)
        await client.until(lambda: stream.reset is not None)
        assert (stream.status, bytes(stream.body), stream.ended, stream.reset) == (413, b"big", True, NO_ERROR)
        assert [record.flags for record in served.records] == [()]


async def test_the_rest_of_an_upload_that_is_not_wanted_is_not_sent() -> None:
    async def early(peer: Http2Peer, stream: PeerStream) -> None:
        await peer.reply(stream, 413, b"big")

    upstream = Http2Upstream(early, hold=True)
    async with gateway(upstream) as served, served.connect() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 100_000)
        answer = await wire.message()
        assert (answer.status, answer.body) == (413, b"big")
        await until(lambda: upstream.seen[0].reset is not None)
        assert upstream.seen[0].reset in (NO_ERROR, CANCEL)
        assert not upstream.seen[0].ended


# Timeouts


async def never(peer: Http2Peer, stream: PeerStream) -> None:
    await peer.until(lambda: stream.reset is not None)


def routed(port: int, **action: Any) -> config.Snapshot:
    return snapshot(
        http_listener(),
        routes_to(**action),
        make_cluster(protocol="http2"),
        config.ClusterEndpoints("app", (make_endpoint(port),)),
    )


async def test_a_route_timeout_resets_the_stream(autojump_clock: trio.testing.MockClock) -> None:
    upstream = Http2Upstream(never)
    async with upstream.running(), serving(routed(upstream.port, timeout=5.0)) as served:
        with idle_counts(served.cluster()):
            answer = await ask(served)
            assert (answer.status, bytes(answer.body)) == (504, b"upstream request timeout")
            await until(lambda: upstream.seen[0].reset == CANCEL)
        assert served.records[0].flags == ("UT",)
        assert upstream.open == 1


async def test_a_timeout_of_one_try(autojump_clock: trio.testing.MockClock) -> None:
    upstream = Http2Upstream(then(never))
    retry = config.RetryPolicy(1, retry_on=("5xx",), per_try_timeout=2.0)
    async with upstream.running(), serving(routed(upstream.port, retries=retry)) as served:
        with idle_counts(served.cluster()):
            assert (await ask(served)).status == 200
            await until(lambda: upstream.seen[0].reset == CANCEL)
        assert served.records[0].attempts == 2
        assert upstream.accepted == 1


async def test_a_timeout_within_an_answer(autojump_clock: trio.testing.MockClock) -> None:
    upstream = Http2Upstream(after_begun(never))
    async with upstream.running(), serving(routed(upstream.port, timeout=5.0)) as served:
        answer = await ask(served)
        assert (answer.status, answer.ended, answer.reset) == (200, False, INTERNAL_ERROR)
        await until(lambda: upstream.seen[0].reset == CANCEL)


# Floods


async def test_an_upstream_that_floods_is_left() -> None:
    async def flood(peer: Http2Peer, stream: PeerStream) -> None:
        while True:
            await peer.send_raw(h2.PingFrame(0, b"flooding").serialize() * 1000)

    async with gateway(Http2Upstream(then(flood))) as served:
        answer = await ask(served, b"POST", b"x")
        assert answer.status in (502, 503)
        refused = [reason for where, reason in served.refused() if where == "upstream_http2"]
        assert len(refused) == 1
        assert (await ask(served)).status == 200


async def test_what_comes_for_a_stream_that_was_cut_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    late = trio.Event()

    async def deaf(peer: Http2Peer, stream: PeerStream) -> None:
        await late.wait()
        await peer.reply(stream, body=b"late")

    upstream = Http2Upstream(then(deaf))
    async with upstream.running(), serving(routed(upstream.port, timeout=1.0)) as served:
        assert (await ask(served)).status == 504
        late.set()
        await settle()
        assert (await ask(served)).status == 200
        assert upstream.accepted == 1
        assert ENHANCE_YOUR_CALM not in [code for _, code in upstream.peer.goaways]
