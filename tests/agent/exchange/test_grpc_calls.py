"""gRPC calls through a proxy, over HTTP/1 where it makes no difference: deadlines, statuses, the proxy's answers."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from agent.codec.http2 import CANCEL
from mesh import config
from mesh.config import DirectResponse, Fault, FaultAbort, FaultDelay, Redirect
from tests.agent.exchange.scripts import HANG, Step, listener, ok, route, steps, to
from tests.h2_rig import Http2Peer, Http2Upstream, PeerStream, http2_connected
from tests.rig import (
    Message,
    ScriptedUpstream,
    Serving,
    Wire,
    cluster,
    endpoint,
    http_listener,
    idle_counts,
    mesh_identity,
    serving,
    snapshot,
    until,
)

pytestmark = pytest.mark.usefixtures("engine")

GRPC = b"content-type: application/grpc\r\n"
CALL = ((b"content-type", b"application/grpc"),)
TIMED = (*CALL, (b"grpc-timeout", b"3S"))
EXPECTED = b"x-envoy-expected-rq-timeout-ms"
TRAILERS = b"HTTP/1.1 200 x\r\n" + GRPC + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\ngrpc-status: %s\r\n\r\n"


def to_app(*ports: int, action: Any = None, front: config.Listener | None = None, **fields: Any) -> config.Snapshot:
    """One route to cluster `app`."""
    return snapshot(
        front or http_listener(),
        route(action or to("app"), **fields),
        cluster(),
        config.ClusterEndpoints("app", tuple(endpoint(port) for port in ports)),
    )


async def call(proxy: Serving, *fields: bytes, identity: Any = None) -> Message:
    """One call on a connection of its own, after which nothing is held."""
    extra = b"".join(field + b"\r\n" for field in fields)
    with trio.fail_after(60), idle_counts(proxy.cluster()):
        async with proxy.connect(identity) as wire:
            await wire.send(b"POST /pkg.Service/Do HTTP/1.1\r\nhost: app\r\ncontent-length: 4\r\n" + GRPC + extra)
            await wire.send(b"\r\nbody")
            answer = await wire.message()
        await proxy.settled()
    return answer


def status_of(answer: Message) -> tuple[int, bytes, bytes | None]:
    """HTTP status, grpc-status, grpc-message; there is never a body."""
    assert answer.body == b""
    return answer.status, answer.headers[b"grpc-status"], answer.headers.get(b"grpc-message")


# Deadlines


async def test_a_call_past_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with ScriptedUpstream(steps(HANG)).running() as upstream, serving(to_app(upstream.port)) as proxy:
        answer = await call(proxy, b"grpc-timeout: 3S")
        await until(lambda: not upstream.open)
        assert proxy.cluster().stats.upstream_rq_timeout.value == 1
    assert status_of(answer) == (200, b"4", b"downstream duration timeout")
    assert answer.headers[b"content-type"] == b"application/grpc"
    record = proxy.records[0]
    assert (record.flags, record.details, record.grpc_status) == (("DT",), "max_duration_timeout", "4")
    assert record.end - record.start == pytest.approx(3.0)


async def test_a_deadline_counts_while_the_body_still_comes(autojump_clock: trio.testing.MockClock) -> None:
    async with ScriptedUpstream(steps(HANG)).running() as upstream, serving(to_app(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            chunked = b"transfer-encoding: chunked\r\n" + GRPC + b"grpc-timeout: 3S\r\n\r\n"
            await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\n" + chunked)
            assert status_of(await wire.message())[1] == b"4"
    record = proxy.records[0]
    assert record.end - record.start == pytest.approx(3.0)


async def test_a_deadline_that_passes_in_the_answer_cuts_it(autojump_clock: trio.testing.MockClock) -> None:
    half = Step(b"HTTP/1.1 200 x\r\n" + GRPC + b"content-length: 9\r\n\r\nhalf", "hang")
    async with ScriptedUpstream(steps(half)).running() as upstream, serving(to_app(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            await wire.send(b"GET / HTTP/1.1\r\nhost: app\r\n" + GRPC + b"grpc-timeout: 3S\r\n\r\n")
            with pytest.raises(trio.BrokenResourceError):
                await wire.rest()
        await proxy.settled()
    record = proxy.records[0]
    assert (record.flags, record.termination_details) == (("DT",), "max_duration_timeout")
    assert record.end - record.start == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("stated", "route_timeout", "seconds", "status"),
    [
        (b"9S", 3.0, 3.0, b"4"),  # the route's timeout is the most that a client may ask for
        (b"3S", 9.0, 3.0, b"4"),
        (None, 3.0, 3.0, b"14"),  # a client that states none is told of a timeout like of any 504
        (b"3s", 5.0, 5.0, b"14"),
    ],
)
async def test_the_smaller_of_deadline_and_route_timeout(
    stated: bytes | None, route_timeout: float, seconds: float, status: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with ScriptedUpstream(steps(HANG)).running() as upstream:
        async with serving(to_app(upstream.port, action=to("app", timeout=route_timeout))) as proxy:
            answer = await call(proxy, *(() if stated is None else (b"grpc-timeout: " + stated,)))
            assert proxy.refused().get(("grpc", "bad_timeout"), 0) == (stated == b"3s")
    assert status_of(answer)[1] == status
    assert proxy.records[0].end - proxy.records[0].start == pytest.approx(seconds)


async def test_a_malformed_timeout_alone_is_no_deadline() -> None:
    async with ScriptedUpstream().running() as upstream, serving(to_app(upstream.port)) as proxy:
        assert (await call(proxy, b"grpc-timeout: 1x")).status == 200
        assert proxy.refused()[("grpc", "bad_timeout")] == 1
    assert upstream.requests[0].headers[b"grpc-timeout"] == b"1x"
    assert EXPECTED not in upstream.requests[0].headers


async def test_every_try_passes_on_what_is_left(autojump_clock: trio.testing.MockClock) -> None:
    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        while True:
            upstream.requests.append(await wire.message())
            await trio.sleep(1.0)
            await wire.answer(200, extra=GRPC + b"grpc-status: 14\r\n")

    retries = config.RetryPolicy(attempts=2, retry_on=("unavailable",), backoff_base=1e-9)
    async with ScriptedUpstream(script).running() as upstream:
        async with serving(to_app(upstream.port, action=to("app", retries=retries))) as proxy:
            answer = await call(proxy, b"grpc-timeout: 10S")
    assert status_of(answer)[1] == b"14"
    told = [(each.headers[b"grpc-timeout"], each.headers[EXPECTED]) for each in upstream.requests]
    left = [int(value[:-1]) for value, _ in told]
    assert left == pytest.approx([10_000, 9_000, 8_000], abs=50)
    assert [expected + b"m" for _, expected in told] == [stated for stated, _ in told]
    assert (proxy.records[0].flags, proxy.records[0].attempts) == (("URX",), 3)


async def test_the_timeout_of_one_try_is_passed_on_when_it_is_shorter() -> None:
    retries = config.RetryPolicy(per_try_timeout=2.0)
    async with ScriptedUpstream().running() as upstream:
        async with serving(to_app(upstream.port, action=to("app", timeout=9.0, retries=retries))) as proxy:
            await call(proxy)
    sent = upstream.requests[0].headers
    assert (sent[b"grpc-timeout"], sent[EXPECTED]) == (b"2000m", b"2000")


async def test_a_deadline_that_passes_before_the_first_try(autojump_clock: trio.testing.MockClock) -> None:
    delayed = Fault(delay=FaultDelay(5.0, 100.0))
    async with ScriptedUpstream().running() as upstream, serving(to_app(upstream.port, fault=delayed)) as proxy:
        answer = await call(proxy, b"grpc-timeout: 3S")
    assert status_of(answer)[1] == b"4"
    assert not upstream.requests
    assert proxy.records[0].flags == ("DI", "DT")


@pytest.mark.parametrize("peer", [True, False])
async def test_the_budget_of_a_mesh_peer_bounds_the_time(peer: bool, autojump_clock: trio.testing.MockClock) -> None:
    """Anybody else may say what he likes."""
    front = listener("inbound", tls=peer, route_config="web")
    identity = mesh_identity("caller") if peer else None
    given = to_app(0, action=to("app", timeout=9.0), front=front)
    async with ScriptedUpstream(steps(HANG)).running() as upstream:
        given.endpoints["app"] = config.ClusterEndpoints("app", (endpoint(upstream.port),))
        async with serving(given, identity=mesh_identity("own")) as proxy, proxy.connect(identity) as wire:
            answer = await wire.ask(extra=EXPECTED + b": 4000\r\n")
    assert (answer.status, answer.body) == (504, b"upstream request timeout")
    record = proxy.records[0]
    assert record.end - record.start == pytest.approx(4.0 if peer else 9.0)
    assert upstream.requests[0].headers[EXPECTED] == (b"4000" if peer else b"9000")


# Answers that had begun


def begun(size: int, then: str) -> Step:
    """A head and so much of a body, and what comes then."""
    return Step(b"HTTP/1.1 200 x\r\n" + GRPC + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % size + b"x" * size, then)


async def test_a_deadline_that_passes_in_an_answer_is_its_status(autojump_clock: trio.testing.MockClock) -> None:
    async with ScriptedUpstream(steps(begun(9, "hang"))).running() as upstream:
        async with serving(to_app(upstream.port)) as proxy, http2_connected(proxy.port()) as client:
            call = await client.ask(method=b"POST", extra=TIMED)
            await until(lambda: proxy.records and not upstream.open)
    assert (call.status, bytes(call.body)) == (200, b"x" * 9)
    assert call.reset is None
    assert call.trailers == {b"grpc-status": b"4", b"grpc-message": b"downstream duration timeout"}
    record = proxy.records[0]
    assert (record.flags, record.termination_details, record.grpc_status) == (("DT",), "max_duration_timeout", "4")
    assert record.end - record.start == pytest.approx(3.0)


async def test_an_upstream_that_fails_in_an_answer_is_its_status() -> None:
    async with ScriptedUpstream(steps(begun(9, "reset"))).running() as upstream:
        async with serving(to_app(upstream.port)) as proxy, http2_connected(proxy.port()) as client:
            call = await client.ask(method=b"POST", extra=CALL)
            await until(lambda: proxy.records)
    assert call.trailers is not None
    assert call.trailers[b"grpc-status"] == b"14"
    assert call.trailers[b"grpc-message"].endswith(b"reset after headers. reset reason: connection termination")
    assert proxy.records[0].termination_details.startswith("upstream_reset_after_response_started{")


async def test_a_client_that_takes_nothing_is_reset_at_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """Trailers would wait behind what it does not take."""
    async with ScriptedUpstream(steps(begun(1_000_000, "hang"))).running() as upstream:
        async with serving(to_app(upstream.port)) as proxy:
            async with http2_connected(proxy.port(), hold=True) as client:
                call = await client.ask(method=b"POST", extra=TIMED)
                await until(lambda: proxy.records and not upstream.open)
    assert call.trailers is None
    assert call.reset is not None
    assert proxy.records[0].flags == ("DT",)


@pytest.mark.parametrize("fails", [True, False])
async def test_an_answer_that_ends_before_the_call_keeps_its_trailers(fails: bool) -> None:
    """The reset that follows, because the rest of the request is of no use, comes after them."""

    async def refuse(peer: Http2Peer, stream: PeerStream) -> None:
        await peer.send_head(stream, [(b":status", b"200")])
        if fails:
            await peer.send_reset(stream, CANCEL)
        else:
            await peer.send_head(stream, [(b"grpc-status", b"14")], end=True)

    async with Http2Upstream(refuse).running() as upstream:
        given = to_app(upstream.port)
        given.clusters["app"] = cluster(protocol="http2")
        async with serving(given) as proxy, http2_connected(proxy.port()) as client:
            call = await client.answer(await client.begin(method=b"POST", extra=CALL, end=False))
    assert call.trailers is not None
    assert call.trailers[b"grpc-status"] == b"14"


# Statuses


@pytest.mark.parametrize(("answer", "status"), [(TRAILERS % b"5", "5"), (TRAILERS % b"0", "0")])
async def test_the_status_in_the_trailers_is_recorded(answer: bytes, status: str) -> None:
    async with ScriptedUpstream(steps(Step(answer))).running() as upstream:
        async with serving(to_app(upstream.port)) as proxy:
            await call(proxy)
            (app,) = proxy.cluster().endpoints.values()
            assert (app.rq_success, app.rq_error) == (1, 0)
    assert proxy.records[0].grpc_status == status


@pytest.mark.parametrize("answer", [ok(b"hi"), Step(TRAILERS % b"14"), ok(extra=b"grpc-status: 14\r\n")])
async def test_a_failed_call_counts_against_its_endpoint(answer: Step) -> None:
    """A call that ends without any status has failed too."""
    async with ScriptedUpstream(steps(answer)).running() as upstream:
        async with serving(to_app(upstream.port)) as proxy:
            await call(proxy)
            (app,) = proxy.cluster().endpoints.values()
            assert (app.rq_success, app.rq_error) == (0, 1)


async def test_failed_calls_eject_their_endpoint() -> None:
    outlier = config.OutlierDetection(consecutive_5xx=2, max_ejection_percent=100.0)
    async with ScriptedUpstream(steps(ok(b"", b"grpc-status: 13\r\n"))).running() as upstream:
        given = to_app(upstream.port)
        given.clusters["app"] = cluster(outlier=outlier)
        async with serving(given) as proxy:
            assert status_of(await call(proxy))[1] == b"13"
            assert not proxy.cluster().ejected
            await call(proxy)
            assert proxy.cluster().ejected


async def test_a_status_in_the_trailers_is_never_retried() -> None:
    retries = config.RetryPolicy(attempts=2, retry_on=("unavailable",))
    async with ScriptedUpstream(steps(Step(TRAILERS % b"14"))).running() as upstream:
        async with serving(to_app(upstream.port, action=to("app", retries=retries))) as proxy:
            await call(proxy)
    assert len(upstream.requests) == 1


# The proxy's own answers


@pytest.mark.parametrize(
    ("abort", "status"), [(FaultAbort(503, percent=100.0), b"14"), (FaultAbort(grpc_status=8, percent=100.0), b"8")]
)
async def test_an_abort_is_worded_for_grpc(abort: FaultAbort, status: bytes) -> None:
    async with serving(to_app(fault=Fault(abort=abort))) as proxy:
        answer = await call(proxy)
    assert status_of(answer) == (200, status, b"fault filter abort")
    assert answer.headers[b"x-mesh-reply"] == b"FI fault_filter_abort"
    assert proxy.records[0].grpc_status == status.decode()


@pytest.mark.parametrize(
    ("action", "status", "message"),
    [
        (DirectResponse(403, b"closed: 50% \xc3\xa9"), b"7", b"closed: 50%25 %C3%A9"),
        (DirectResponse(200, b""), b"2", None),
        (Redirect(301, authority="elsewhere"), b"2", None),
    ],
)
async def test_what_a_route_answers_is_worded_for_grpc(action: Any, status: bytes, message: bytes | None) -> None:
    async with serving(to_app(action=action)) as proxy:
        answer = await call(proxy)
    assert status_of(answer) == (200, status, message)
    assert answer.headers[b"content-type"] == b"application/grpc"


async def test_no_endpoint_and_no_route() -> None:
    nowhere = config.RouteConfig("web", ())
    async with serving(to_app()) as proxy:
        assert status_of(await call(proxy)) == (200, b"14", b"no healthy upstream")
    async with serving(snapshot(http_listener(), nowhere, cluster())) as proxy:
        assert status_of(await call(proxy)) == (200, b"12", None)
