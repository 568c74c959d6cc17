"""Tries of one request: which failures the client sees, when another try is made, and that nothing stays behind."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from agent.codec import http2_server
from agent.codec.headers import Headers
from agent.codec.http2 import NO_ERROR, HeadReceived, Http2Limits
from agent.codec.message import ResponseHead
from agent.exchange.request_ids import RequestIds
from agent.exchange.retry import RetryPolicy
from mesh import config
from tests.agent.exchange.scripts import BUSY, HANG, HANG_UP, Step, listener, ok, route, steps, to
from tests.rig import (
    LOOPBACK,
    HungUp,
    Message,
    ScriptedUpstream,
    Serving,
    Wire,
    cluster,
    endpoint,
    http_listener,
    idle_counts,
    listening,
    serving,
    settle,
    snapshot,
    until,
    web,
)

RESET = b"upstream connect error or disconnect/reset before headers. reset reason: "
RETRIED = b"upstream connect error or disconnect/reset before headers. retried and the latest reset reason: "
CUT = Step(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "close")
POST = b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 4\r\n\r\nbody"


def gateway(*ports: int, action: Any = None, front: config.Listener | None = None, **fields: Any) -> config.Snapshot:
    """One route to cluster `app` with endpoints at these ports."""
    fields.setdefault("lb_policy", "round_robin")
    return snapshot(
        front or http_listener(),
        route(action or to("app")),
        cluster(**fields),
        config.ClusterEndpoints("app", tuple(endpoint(port) for port in ports)),
    )


def retrying(*words: str, attempts: int = 2, timeout: float = 0.0, **fields: Any) -> config.RouteAction:
    """Send to `app` and retry."""
    return to("app", timeout=timeout, retries=config.RetryPolicy(attempts=attempts, retry_on=words, **fields))


async def ask(proxy: Serving, request: bytes = b"GET / HTTP/1.1\r\nhost: app\r\n\r\n") -> Message:
    """One request on a connection of its own, after which nothing is held."""
    with trio.fail_after(60), idle_counts(proxy.cluster()):
        async with proxy.connect() as wire:
            await wire.send(request)
            answer = await wire.message()
        await proxy.settled()
    return answer


def attempts_of(upstream: ScriptedUpstream) -> list[bytes]:
    return [request.headers[b"x-envoy-attempt-count"] for request in upstream.requests]


# What the client sees of an upstream's failure


@pytest.mark.parametrize(
    ("step", "status", "flag", "reason"),
    [
        (HANG_UP, 503, "UC", b"connection termination"),
        (Step(b"", "reset"), 503, "UC", b"connection termination"),
        (Step(b"HTTP/1.1 200 OK\r\ncontent-le", "close"), 503, "UC", b"connection termination"),
        (Step(b"SMTP ready\r\n\r\n"), 502, "UPE", b"protocol error"),
        (Step(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"), 502, "UPE", b"protocol error"),
        (Step(b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\n\r\n"), 502, "UPE", b"protocol error"),
    ],
)
async def test_an_upstream_that_fails_before_its_head(step: Step, status: int, flag: str, reason: bytes) -> None:
    async with ScriptedUpstream(steps(step)).running() as upstream:
        async with serving(gateway(upstream.port)) as proxy:
            answer = await ask(proxy)
    assert (answer.status, answer.body) == (status, RESET + reason)
    assert answer.headers[b"x-mesh-reply"].startswith(flag.encode() + b" upstream_reset_before_response_started{")
    assert proxy.records[0].flags == (flag,)
    assert proxy.records[0].response_code == status
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("step", "flag"),
    [
        (CUT, "UC"),
        (CUT._replace(then="reset"), "UC"),
        (Step(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", "close"), "UC"),
        (Step(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n"), "UPE"),
        (Step(b"HTTP/1.1 200 OK\r\n\r\nto the end", "reset"), "UC"),
    ],
)
async def test_an_answer_that_is_cut_short_never_looks_whole(step: Step, flag: str) -> None:
    async with ScriptedUpstream(steps(step)).running() as upstream:
        async with serving(gateway(upstream.port, action=retrying("5xx"))) as proxy:
            with idle_counts(proxy.cluster()):
                async with proxy.connect() as wire:
                    await wire.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
                    with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
                        await wire.rest()
                await proxy.settled()
    record = proxy.records[0]
    assert record.flags == (flag,)
    assert record.response_code == 200
    assert record.termination_details.startswith("upstream_reset_after_response_started{")
    assert len(upstream.requests) == 1


async def test_a_refused_connection() -> None:
    async with listening() as closed:
        port = closed.port
    async with serving(gateway(port)) as proxy:
        answer = await ask(proxy)
    reason = b"remote connection failure, transport failure reason: Connection refused"
    assert (answer.status, answer.body) == (503, RESET + reason)
    record = proxy.records[0]
    assert (record.flags, record.transport_failure) == (("UF",), "Connection refused")
    assert record.details == "upstream_reset_before_response_started{remote_connection_failure}"
    assert proxy.cluster().stats.upstream_cx_connect_fail.value == 1


async def test_no_endpoint() -> None:
    async with serving(gateway()) as proxy:
        answer = await ask(proxy)
    assert (answer.status, answer.body) == (503, b"no healthy upstream")
    assert proxy.records[0].flags == ("UH",)


@pytest.mark.parametrize(("status", "action"), [(503, to("gone")), (500, to("gone", missing_cluster_status=500))])
async def test_no_such_cluster(status: int, action: config.RouteAction) -> None:
    async with serving(gateway(action=action)) as proxy:
        answer = await ask(proxy)
    assert answer.status == status
    assert answer.headers[b"x-mesh-reply"] == b"NC cluster_not_found"
    assert (proxy.records[0].flags, proxy.records[0].cluster) == (("NC",), "gone")


async def test_too_many_requests_at_once() -> None:
    async with ScriptedUpstream(steps(HANG, ok())).running() as upstream:
        async with serving(gateway(upstream.port, breakers={"max_requests": 1})) as proxy:
            async with proxy.connect() as busy, proxy.connect() as wire:
                await busy.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
                await until(lambda: upstream.requests)
                answer = await wire.ask()
    assert (answer.status, answer.body) == (503, RESET + b"overflow")
    assert answer.headers[b"x-envoy-overloaded"] == b"true"
    assert proxy.records[0].flags == ("UO",)
    assert proxy.cluster().stats.upstream_rq_pending_overflow.value == 1


# Timeouts


async def test_the_routes_timeout(autojump_clock: trio.testing.MockClock) -> None:
    async with ScriptedUpstream(steps(HANG)).running() as upstream:
        async with serving(gateway(upstream.port, action=retrying("5xx", timeout=3.0))) as proxy:
            answer = await ask(proxy)
            await until(lambda: not upstream.open)
    record = proxy.records[0]
    assert (answer.status, answer.body) == (504, b"upstream request timeout")
    assert (record.flags, record.details, record.attempts) == (("UT",), "response_timeout", 1)
    assert record.end - record.start == pytest.approx(3.0)
    assert upstream.requests[0].headers[b"x-envoy-expected-rq-timeout-ms"] == b"3000"
    assert proxy.cluster().stats.upstream_rq_timeout.value == 1


@pytest.mark.parametrize("framing", [b"content-length: 4", b"content-length: 100000", b"transfer-encoding: chunked"])
async def test_the_timeout_begins_when_the_whole_request_is_here(
    framing: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    body = b"4\r\nbody\r\n0\r\n\r\n" if b"chunked" in framing else b"x" * int(framing.split()[1])
    async with ScriptedUpstream(steps(HANG)).running() as upstream:
        async with serving(gateway(upstream.port, action=to("app", timeout=3.0))) as proxy:
            with idle_counts(proxy.cluster()):
                async with proxy.connect() as wire:
                    await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\n" + framing + b"\r\n\r\n")
                    await trio.sleep(10)
                    await wire.send(body)
                    assert (await wire.message()).status == 504
                await proxy.settled()
    record = proxy.records[0]
    assert record.flags == ("UT",)
    assert record.end - record.start == pytest.approx(13.0)


async def test_a_timeout_while_the_body_comes_cuts_the_answer(autojump_clock: trio.testing.MockClock) -> None:
    begun = Step(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "hang")
    async with ScriptedUpstream(steps(begun)).running() as upstream:
        async with serving(gateway(upstream.port, action=to("app", timeout=3.0))) as proxy:
            async with proxy.connect() as wire:
                with pytest.raises(trio.BrokenResourceError):
                    await wire.ask()
            await proxy.settled()
    assert (proxy.records[0].flags, proxy.records[0].response_code) == (("UT",), 200)


async def test_an_injected_delay_does_not_count_against_the_timeout(autojump_clock: trio.testing.MockClock) -> None:
    fault = config.Fault(delay=config.FaultDelay(5.0, 100.0))
    async with ScriptedUpstream().running() as upstream:
        given = gateway(upstream.port)
        given.routes["web"] = route(to("app", timeout=3.0), fault=fault)
        async with serving(given) as proxy:
            answer = await ask(proxy)
    assert answer.status == 200
    assert int(answer.headers[b"x-envoy-upstream-service-time"]) < 5000
    assert upstream.requests[0].headers[b"x-envoy-expected-rq-timeout-ms"] == b"3000"


async def test_the_timeout_of_one_try_ends_with_its_head(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
        await trio.sleep(30)
        await wire.send(b"body")

    async with ScriptedUpstream(slow).running() as upstream:
        async with serving(gateway(upstream.port, action=retrying("5xx", per_try_timeout=1.0))) as proxy:
            with trio.fail_after(100):
                answer = await ask(proxy)
    assert answer.body == b"body"


@pytest.mark.parametrize(("words", "tries"), [(("5xx",), 3), (("connect-failure",), 1)])
async def test_the_timeout_of_one_try_is_retried_by_policies_that_count_it(
    words: tuple[str, ...], tries: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with ScriptedUpstream(steps(HANG)).running() as upstream:
        async with serving(gateway(upstream.port, action=retrying(*words, per_try_timeout=1.0))) as proxy:
            answer = await ask(proxy)
    assert (answer.status, answer.body) == (504, b"upstream request timeout")
    record = proxy.records[0]
    assert record.attempts == len(upstream.requests) == tries
    assert record.flags == (("URX", "UT") if tries > 1 else ("UT",))
    assert record.details == "upstream_per_try_timeout"
    assert upstream.requests[0].headers[b"x-envoy-expected-rq-timeout-ms"] == b"1000"
    assert proxy.cluster().stats.upstream_rq_per_try_timeout.value == tries


async def test_a_sidecars_app_may_ask_for_its_own_timeout(autojump_clock: trio.testing.MockClock) -> None:
    front = listener("outbound", route_config="web")
    async with ScriptedUpstream(steps(HANG)).running() as upstream:
        async with serving(gateway(upstream.port, front=front), role="sidecar") as proxy:
            answer = await ask(
                proxy,
                b"GET / HTTP/1.1\r\nhost: app\r\nx-envoy-upstream-rq-timeout-ms: 2500\r\n"
                b"x-envoy-upstream-rq-timeout-alt-response: 1\r\n\r\n",
            )
    assert (answer.status, answer.body) == (204, b"")
    assert proxy.records[0].end - proxy.records[0].start == pytest.approx(2.5)
    assert b"x-envoy-upstream-rq-timeout-ms" not in upstream.requests[0].headers


# Retries


async def test_answers_that_fit_a_condition_are_retried() -> None:
    async with ScriptedUpstream(steps(BUSY, BUSY, ok(b"at last"))).running() as upstream:
        async with serving(gateway(upstream.port, action=retrying("5xx"))) as proxy:
            answer = await ask(proxy, POST)
    assert (answer.status, answer.body) == (200, b"at last")
    assert attempts_of(upstream) == [b"1", b"2", b"3"]
    assert [request.body for request in upstream.requests] == [b"body"] * 3
    record = proxy.records[0]
    assert (record.attempts, record.flags, record.response_code) == (3, (), 200)
    stats = proxy.cluster().stats
    assert (stats.upstream_rq_retry.value, stats.upstream_rq_retry_success.value) == (2, 1)


async def test_when_retries_are_spent_the_last_answer_stands() -> None:
    async with ScriptedUpstream(steps(BUSY)).running() as upstream:
        async with serving(gateway(upstream.port, action=retrying("5xx", attempts=3))) as proxy:
            answer = await ask(proxy)
    assert (answer.status, answer.body) == (503, b"busy")
    assert attempts_of(upstream) == [b"1", b"2", b"3", b"4"]
    assert proxy.records[0].flags == ("URX",)
    assert proxy.cluster().stats.upstream_rq_retry_limit_exceeded.value == 1


async def test_when_retries_are_spent_on_resets_the_answer_says_so() -> None:
    async with ScriptedUpstream(steps(HANG_UP)).running() as upstream:
        async with serving(gateway(upstream.port, action=retrying("reset"))) as proxy:
            answer = await ask(proxy, POST)
    assert (answer.status, answer.body) == (503, RETRIED + b"connection termination")
    assert proxy.records[0].flags == ("URX", "UC")
    assert len(upstream.requests) == 3


@pytest.mark.parametrize(
    ("action", "step"),
    [
        (to("app"), BUSY),
        (retrying("connect-failure", "refused-stream"), BUSY),
        (retrying("gateway-error"), ok(status=500)),
        (retrying("5xx"), ok(extra=b"x-envoy-overloaded: true\r\n", status=503)),
        (retrying("5xx", attempts=0), BUSY),
    ],
)
async def test_other_answers_are_not_retried(action: config.RouteAction, step: Step) -> None:
    async with ScriptedUpstream(steps(step)).running() as upstream:
        async with serving(gateway(upstream.port, action=action)) as proxy:
            answer = await ask(proxy)
    assert answer.status >= 500
    assert len(upstream.requests) == 1
    assert proxy.records[0].flags == ()


async def test_a_retry_goes_to_another_endpoint() -> None:
    async with listening() as closed:
        port = closed.port
    async with ScriptedUpstream().running() as upstream:
        async with serving(gateway(port, upstream.port, action=retrying("connect-failure"))) as proxy:
            answers = [await ask(proxy) for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 6
    assert {record.attempts for record in proxy.records} <= {1, 2}
    assert proxy.cluster().stats.upstream_rq_retry.value >= 3
    assert {record.upstream_host for record in proxy.records} == {f"{LOOPBACK}:{upstream.port}"}


async def test_previous_endpoints_may_be_allowed_again() -> None:
    async with ScriptedUpstream(steps(BUSY)).running() as one, ScriptedUpstream(steps(BUSY)).running() as two:
        action = retrying("5xx", attempts=3, ignore_previous_hosts=False)
        async with serving(gateway(one.port, two.port, action=action)) as proxy:
            await ask(proxy)
    assert len(one.requests) == len(two.requests) == 2


@pytest.mark.parametrize("limit", [0, 1])
async def test_retries_at_once_are_limited(limit: int) -> None:
    script = steps(BUSY, HANG, BUSY)
    async with ScriptedUpstream(script).running() as upstream:
        given = gateway(upstream.port, action=retrying("5xx"), breakers={"max_retries": limit})
        async with serving(given) as proxy:
            async with proxy.connect() as other, proxy.connect() as wire:
                if limit:
                    await other.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
                    await until(lambda: len(upstream.requests) == 2)  # its retry is under way
                answer = await wire.ask()
                assert proxy.cluster().limits.retries.held == limit
    assert (answer.status, answer.body) == (503, b"busy")
    assert (proxy.records[0].flags, proxy.records[0].attempts) == (("UO",), 1)
    assert proxy.cluster().stats.upstream_rq_retry_overflow.value == 1


async def test_back_off_follows_the_policy(autojump_clock: trio.testing.MockClock) -> None:
    times: list[float] = []

    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        while True:
            await wire.message()
            times.append(trio.current_time())
            await wire.answer(503)

    rules = config.RetryPolicy(attempts=4, retry_on=("5xx",), backoff_base=2.0, backoff_max=10.0)
    async with ScriptedUpstream(script).running() as upstream:
        async with serving(gateway(upstream.port, action=to("app", retries=rules))) as proxy:
            proxy.dataplane.rng.seed(7)
            await ask(proxy)
    rng = random.Random(7)
    RequestIds(rng).make()
    wanted = [RetryPolicy(rules).delay(rng, number) for number in (1, 2, 3, 4)]
    assert [after - before for before, after in itertools.pairwise(times)] == pytest.approx(wanted)


async def test_back_off_ends_with_the_routes_timeout(autojump_clock: trio.testing.MockClock) -> None:
    action = retrying("5xx", timeout=3.0, backoff_base=1000.0, backoff_max=1000.0)
    async with ScriptedUpstream(steps(BUSY)).running() as upstream:
        async with serving(gateway(upstream.port, action=action)) as proxy:
            answer = await ask(proxy)
    assert answer.status == 504
    assert (proxy.records[0].flags, proxy.records[0].attempts) == (("UT",), 1)


@pytest.mark.parametrize(("pieces", "tries"), [(3, 3), (16, 1)])
async def test_a_body_that_comes_late_is_kept_up_to_a_limit(pieces: int, tries: int) -> None:
    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        while True:
            upstream.requests.append(await wire.message())
            await wire.answer(503, b"busy")

    piece = b"1388\r\n" + b"x" * 5000 + b"\r\n"
    async with ScriptedUpstream(script).running() as upstream:
        async with serving(gateway(upstream.port, action=retrying("5xx", backoff_base=1e-9))) as proxy:
            with idle_counts(proxy.cluster()):
                async with proxy.connect() as wire:
                    await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n")
                    for _ in range(pieces):
                        await settle()
                        await wire.send(piece)
                    await wire.send(b"0\r\n\r\n")
                    assert (await wire.message()).status == 503
                await proxy.settled()
            assert proxy.cluster().stats.retry_or_shadow_abandoned.value == (tries == 1)
    assert [len(request.body) for request in upstream.requests] == [5000 * pieces] * tries
    assert proxy.records[0].flags == (("URX",) if tries > 1 else ())


async def test_a_body_that_streams_is_sent_once() -> None:
    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        upstream.requests.append(await wire.head())
        await wire.answer(503, b"busy")
        await wire.rest()

    async with ScriptedUpstream(script).running() as upstream:
        async with serving(gateway(upstream.port, action=retrying("5xx"))) as proxy:
            async with proxy.connect() as wire:
                await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n")
                answer = await wire.message()
    assert answer.status == 503
    assert len(upstream.requests) == 1


async def test_nothing_is_retried_once_the_client_has_heard_something() -> None:
    hints = Step(b"HTTP/1.1 103 Early Hints\r\n\r\n", "close")
    async with ScriptedUpstream(steps(hints)).running() as upstream:
        async with serving(gateway(upstream.port, action=retrying("5xx"))) as proxy, proxy.connect() as wire:
            assert (await wire.ask()).status == 103
            assert (await wire.message()).status == 503
    assert len(upstream.requests) == 1


# Reused connections


def stale(*after: Step) -> Callable[..., Any]:
    """The first connection answers once and hangs up on its second request; later ones take the steps."""
    fresh = steps(*after)

    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        if upstream.accepted > 1:
            await fresh(upstream, wire)
            return
        await wire.message()
        await wire.answer(body=b"first")
        upstream.requests.append(await wire.message())

    return script


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE", b"OPTIONS"])
async def test_a_reused_connection_that_ends_is_healed_for_methods_that_may_repeat(method: bytes) -> None:
    async with ScriptedUpstream(stale(ok(b"healed"))).running() as upstream:
        async with serving(gateway(upstream.port)) as proxy:
            await ask(proxy)
            answer = await ask(proxy, method + b" / HTTP/1.1\r\nhost: app\r\n\r\n")
    assert answer.body == b"healed"
    assert (proxy.records[1].attempts, proxy.records[1].flags) == (1, ())
    assert attempts_of(upstream) == [b"1", b"1"]
    assert upstream.accepted == 2


async def test_a_post_on_a_reused_connection_is_never_repeated() -> None:
    async with ScriptedUpstream(stale(ok())).running() as upstream:
        async with serving(gateway(upstream.port)) as proxy:
            await ask(proxy)
            answer = await ask(proxy, POST)
    assert (answer.status, answer.body) == (503, RESET + b"connection termination")
    assert upstream.accepted == 1


def parting(last: int) -> Callable[..., Any]:
    """An HTTP/2 server whose first connection answers once and then says that `last` was the last stream it took;
    later ones answer all."""

    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        first = upstream.accepted == 1
        codec = http2_server(Http2Limits(), "auto", trio.current_time)
        while data := await wire.transport.receive():
            for event in codec.receive_data(data):
                if not isinstance(event, HeadReceived):
                    continue
                upstream.requests.append(Message(b"", dict(event.head.headers.items)))
                if first and len(upstream.requests) > 1:
                    goaway = last.to_bytes(4, "big") + NO_ERROR.to_bytes(4, "big")
                    await wire.send(len(goaway).to_bytes(3, "big") + b"\x07\x00" + bytes(4) + goaway)
                else:
                    codec.send_head(
                        event.stream_id, ResponseHead(200, Headers(((b"x-from", b"%d" % first),))), end=True
                    )
            while out := codec.data_to_send(65536):
                await wire.send(out)

    return script


async def test_what_a_parting_upstream_has_not_touched_is_healed_whatever_the_method() -> None:
    """GOAWAY names the last stream that was taken; RFC 9113 6.8 lets the ones above be sent again."""
    async with ScriptedUpstream(parting(1)).running() as upstream:
        async with serving(gateway(upstream.port, protocol="http2")) as proxy:
            assert (await ask(proxy, POST)).headers[b"x-from"] == b"1"
            answer = await ask(proxy, POST)
    assert (answer.status, answer.headers[b"x-from"]) == (200, b"0")
    assert (proxy.records[1].attempts, proxy.records[1].flags) == (1, ())
    assert attempts_of(upstream) == [b"1", b"1", b"1"]


async def test_healing_happens_once() -> None:
    async with ScriptedUpstream(stale(HANG_UP)).running() as upstream:
        async with serving(gateway(upstream.port)) as proxy:
            await ask(proxy)
            answer = await ask(proxy)
    assert answer.status == 503
    assert len(upstream.requests) == 2


async def test_a_healed_request_may_still_be_retried(autojump_clock: trio.testing.MockClock) -> None:
    action = retrying("5xx", backoff_base=50.0, backoff_max=50.0)
    async with ScriptedUpstream(stale(BUSY, ok(b"at last"))).running() as upstream:
        async with serving(gateway(upstream.port, action=action)) as proxy:
            await ask(proxy)
            answer = await ask(proxy)
    record = proxy.records[1]
    assert (answer.body, record.attempts) == (b"at last", 2)
    assert record.end - record.start > 0.25  # it backed off
    assert attempts_of(upstream) == [b"1", b"1", b"2"]


# Clients that leave


async def leave(proxy: Serving, wire: Wire, upstream: ScriptedUpstream) -> None:
    """Hang up, and see that the exchange ends everywhere."""
    with trio.fail_after(5), idle_counts(proxy.cluster()):
        wire.close()
        await until(lambda: not upstream.open)
        await proxy.settled()


async def test_a_client_that_leaves_ends_the_upstreams_work(autojump_clock: trio.testing.MockClock) -> None:
    async with ScriptedUpstream(steps(HANG)).running() as upstream:
        async with serving(gateway(upstream.port, action=retrying("5xx"))) as proxy, proxy.connect() as wire:
            await wire.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
            await until(lambda: upstream.requests)
            await leave(proxy, wire, upstream)
    record = proxy.records[0]
    assert (record.flags, record.details, record.response_code) == (("DC",), "downstream_remote_disconnect", 0)
    assert len(upstream.requests) == 1


async def test_a_client_that_leaves_while_its_answer_comes(autojump_clock: trio.testing.MockClock) -> None:
    begun = Step(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "hang")
    async with ScriptedUpstream(steps(begun)).running() as upstream:
        async with serving(gateway(upstream.port)) as proxy, proxy.connect() as wire:
            await wire.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
            await wire.head()
            await leave(proxy, wire, upstream)
    assert (proxy.records[0].flags, proxy.records[0].response_code) == (("DC",), 200)


@pytest.mark.parametrize("framing", [b"content-length: 100000", b"content-length: 10", b"transfer-encoding: chunked"])
async def test_a_client_that_leaves_in_its_request(framing: bytes) -> None:
    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.rest()

    async with ScriptedUpstream(script).running() as upstream, serving(gateway(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\n" + framing + b"\r\n\r\n")
            await settle()
            await leave(proxy, wire, upstream)
    assert proxy.records[0].flags == ("DC",)


async def test_a_client_that_leaves_during_back_off(autojump_clock: trio.testing.MockClock) -> None:
    action = retrying("5xx", backoff_base=1000.0, backoff_max=1000.0)
    async with ScriptedUpstream(steps(BUSY)).running() as upstream:
        async with serving(gateway(upstream.port, action=action)) as proxy, proxy.connect() as wire:
            proxy.dataplane.rng.seed(7)
            await wire.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
            await until(lambda: upstream.requests)
            with trio.fail_after(5), idle_counts(proxy.cluster()):
                wire.close()
                await proxy.settled()
    assert proxy.records[0].flags == ("DC",)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("extra", [b"", b"transfer-encoding: chunked\r\n"])
async def test_an_exchange_that_the_proxy_itself_ends(extra: bytes) -> None:
    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        upstream.requests.append(await wire.head())
        await wire.rest()

    async with ScriptedUpstream(script).running() as upstream:
        async with serving(gateway(upstream.port)) as proxy, proxy.connect() as wire:
            with idle_counts(proxy.cluster()):
                await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\n" + extra + b"\r\n")
                await until(lambda: upstream.requests)
                for connection in proxy.dataplane.connections:
                    connection.scope.cancel()
                await proxy.settled()
            with pytest.raises(HungUp):
                await wire.message()
    record = proxy.records[0]
    assert (record.flags, record.termination_details) == (("LR",), "exchange_cancelled")


# Pushes and draining


async def test_a_push_leaves_exchanges_under_way_alone() -> None:
    go = trio.Event()

    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
        await go.wait()
        await wire.send(b"body")
        await wire.rest()

    async with ScriptedUpstream(script).running() as old, ScriptedUpstream().running() as new:
        async with serving(web(old.port)) as proxy, proxy.connect() as wire:
            before = proxy.cluster()
            front = next(iter(proxy.listeners.bound.values())).config
            await wire.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
            assert (await wire.head()).status == 200
            with idle_counts(before):
                proxy.apply(
                    snapshot(
                        front,
                        route(to("other")),
                        cluster("other"),
                        config.ClusterEndpoints("other", (endpoint(new.port),)),
                    )
                )
                go.set()
                assert await wire.take(4) == b"body"
                assert (await wire.ask(b"/next")).body == b"/next"
                await until(lambda: not old.open)
    assert [record.cluster for record in proxy.records] == ["app", "other"]


async def test_answers_of_a_draining_proxy_say_that_the_connection_closes() -> None:
    async with ScriptedUpstream().running() as upstream, serving(gateway(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            assert b"connection" not in (await wire.ask()).headers
            proxy.dataplane.draining = True
            assert (await wire.ask()).headers[b"connection"] == b"close"
            assert await wire.rest() == b""


# What is put on an answer


async def test_what_a_gateway_puts_on_an_answer() -> None:
    front = http_listener(server_name="istio-envoy", use_remote_address=True)
    step = ok(extra=b"server: gunicorn\r\nkeep-alive: timeout=5\r\nconnection: x-hop\r\nx-hop: 1\r\ngrpc-status: 0\r\n")
    async with ScriptedUpstream(steps(step)).running() as upstream:
        async with serving(gateway(upstream.port, front=front)) as proxy:
            answer = await ask(proxy)
    assert answer.headers[b"server"] == b"istio-envoy"
    assert answer.headers[b"x-envoy-upstream-service-time"].isdigit()
    assert answer.headers[b"date"].endswith(b"GMT")
    assert not {b"keep-alive", b"connection", b"x-hop"} & answer.headers.keys()
    assert proxy.records[0].grpc_status == "0"


async def test_an_own_date_stays() -> None:
    async with ScriptedUpstream(steps(ok(extra=b"date: then\r\n"))).running() as upstream:
        async with serving(gateway(upstream.port)) as proxy:
            assert (await ask(proxy)).headers[b"date"] == b"then"
