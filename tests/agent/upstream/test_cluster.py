"""A living cluster over loopback: leases and their limits, the queue, what a push changes, ejections."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from agent.codec.headers import Headers
from agent.codec.message import END, End, RequestHead
from agent.exchange import faults
from agent.exchange.faults import ProxyFault
from agent.upstream.cluster import Cluster
from agent.upstream.endpoint import Endpoint
from agent.upstream.http1 import Http1Connection
from agent.upstream.outlier import LocalFailure
from mesh import config
from tests.rig import (
    LOOPBACK,
    ScriptedUpstream,
    Wire,
    cluster,
    endpoint,
    idle_counts,
    listening,
    make_cluster,
    mesh_identity,
    mirror,
    settle,
    until,
)


@asynccontextmanager
async def living(*upstreams: ScriptedUpstream, **fields: Any) -> AsyncIterator[Cluster]:
    """A cluster of these upstreams (one echo without any) that holds nothing when the body is done."""
    fields.setdefault("lb_policy", "round_robin")
    how = {key: fields.pop(key) for key in ("identity", "refused") if key in fields}
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            ups = upstreams or (ScriptedUpstream(),)
            for each in ups:
                await nursery.start(_run, each)
            made = make_cluster(cluster(**fields), *(each.port for each in ups), **how)
            with idle_counts(made):
                yield made
            made.close()
            assert made.limits.connections.held == 0
            await until(lambda: all(each.open == 0 for each in ups))
            nursery.cancel_scope.cancel()


async def _run(upstream: ScriptedUpstream, task_status: trio.TaskStatus[None]) -> None:
    async with upstream.running():
        task_status.started()
        await trio.sleep_forever()


def only(made: Cluster) -> Endpoint:
    [found] = made.endpoints.values()
    return found


async def ask(connection: Http1Connection, path: bytes = b"/") -> bytes:
    """One whole exchange on a leased connection."""
    head = RequestHead(b"GET", path, Headers([(b"host", b"app")]), authority=b"app")
    await connection.send_request(head, b"", END)
    await connection.read_head()
    body = b""
    while not isinstance(event := connection.next_event(), End):
        if event is None:
            await connection.fill()
        else:
            body += event
    return body


async def exchange(made: Cluster, path: bytes = b"/", to: Endpoint | None = None) -> bytes:
    """Lease, ask, give back."""
    connection = await made.lease(to or only(made))
    done = False
    try:
        answer = await ask(connection, path)
        done = True
    finally:
        if done:
            made.give(connection, made.clock())
        else:
            made.discard(connection)
    return answer


# Leases


async def test_a_connection_serves_again() -> None:
    upstream = ScriptedUpstream()
    async with living(upstream) as made:
        for path in (b"/1", b"/2", b"/3"):
            assert await exchange(made, path) == path
        assert upstream.accepted == 1
        assert only(made).cx_total == made.stats.upstream_cx_total.value == 1
        assert only(made).pool.idle[0].served == 3


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


# Limits and the queue


class Waiters:
    """Tasks that lease one after the other; `order` tells who got a connection, `failed` who did not."""

    def __init__(self, made: Cluster, nursery: trio.Nursery) -> None:
        self.made = made
        self.nursery = nursery
        self.order: list[Any] = []
        self.failed: list[tuple[Any, str]] = []
        self.scopes: dict[Any, trio.CancelScope] = {}

    async def join(self, name: Any, to: Endpoint | None = None) -> None:
        self.nursery.start_soon(self._wait, name, to or only(self.made))
        await settle()

    async def _wait(self, name: Any, to: Endpoint) -> None:
        with trio.CancelScope() as scope:
            self.scopes[name] = scope
            try:
                connection = await self.made.lease(to)
            except ProxyFault as fault:
                self.failed.append((name, fault.flag))
                return
            self.order.append(name)
            await ask(connection)
            self.made.give(connection, self.made.clock())


ONE = {"max_connections": 1}


async def test_waiters_are_served_in_order() -> None:
    upstream = ScriptedUpstream()
    async with living(upstream, breakers=ONE) as made, trio.open_nursery() as nursery:
        held = await made.lease(only(made))
        waiters = Waiters(made, nursery)
        for name in range(5):
            await waiters.join(name)
        assert made.limits.pending.held == made.stats.upstream_rq_pending_active.value == 5
        await ask(held)
        made.give(held, made.clock())
        await until(lambda: len(waiters.order) == 5)
        assert waiters.order == [0, 1, 2, 3, 4]
        assert upstream.accepted == 1
        assert made.stats.upstream_cx_overflow.value == 5


async def test_a_cancelled_waiter_passes_its_turn_on() -> None:
    async with living(breakers=ONE) as made, trio.open_nursery() as nursery:
        held = await made.lease(only(made))
        waiters = Waiters(made, nursery)
        for name in "abc":
            await waiters.join(name)
        waiters.scopes["b"].cancel()
        await settle()
        assert made.limits.pending.held == 2
        waiters.scopes["a"].cancel()  # cancelled and woken in the same pass
        made.discard(held)
        await until(lambda: waiters.order)
        assert waiters.order == ["c"]


async def test_the_queue_overflows() -> None:
    async with living(breakers={"max_connections": 1, "max_pending_requests": 1}) as made:
        async with trio.open_nursery() as nursery:
            held = await made.lease(only(made))
            waiters = Waiters(made, nursery)
            await waiters.join("first")
            await waiters.join("second")
            assert waiters.failed == [("second", "UO")]
            assert made.stats.upstream_rq_pending_overflow.value == 1
            made.discard(held)
        assert waiters.order == ["first"]


async def test_a_newcomer_that_is_quicker_does_not_cost_the_first_its_place() -> None:
    async with living(breakers=ONE) as made, trio.open_nursery() as nursery:
        held = await made.lease(only(made))
        waiters = Waiters(made, nursery)
        for name in "abc":
            await waiters.join(name)
        await ask(held)
        made.give(held, made.clock())  # wakes a …
        barger = made.take(only(made), made.clock())  # … but this task was quicker
        assert barger is held
        await settle()
        assert waiters.order == []
        await ask(barger)
        made.give(barger, made.clock())
        await until(lambda: len(waiters.order) == 3)
        assert waiters.order == ["a", "b", "c"]


async def test_a_waiter_whose_connect_fails_passes_its_turn_on() -> None:
    async with living(breakers=ONE) as made, trio.open_nursery() as nursery:
        held = await made.lease(only(made))
        dead = Endpoint(endpoint(1))
        dead.pool = type(only(made).pool)()
        waiters = Waiters(made, nursery)
        await waiters.join("dead", dead)
        await waiters.join("next")
        made.discard(held)
        await until(lambda: waiters.order)
        assert (waiters.order, waiters.failed) == (["next"], [("dead", "UF")])


async def test_an_idle_connection_elsewhere_makes_room() -> None:
    one, two = ScriptedUpstream(), ScriptedUpstream()
    async with living(one, two, breakers=ONE) as made:
        first, second = made.endpoints.values()
        await exchange(made, to=first)
        await exchange(made, to=second)
        assert (len(first.pool.idle), len(second.pool.idle)) == (0, 1)
        await until(lambda: (one.open, two.open) == (0, 1))


async def test_a_waiter_takes_the_place_of_a_connection_given_back_elsewhere() -> None:
    async with living(ScriptedUpstream(), ScriptedUpstream(), breakers=ONE) as made, trio.open_nursery() as nursery:
        first, second = made.endpoints.values()
        held = await made.lease(first)
        waiters = Waiters(made, nursery)
        await waiters.join("second", second)
        await ask(held)
        made.give(held, made.clock())
        await until(lambda: waiters.order and second.pool.idle)
        assert first.pool.idle == []


async def test_a_lowered_limit_admits_nobody_beyond_it() -> None:
    async with living(breakers={"max_connections": 3}) as made:
        leased = [await made.lease(only(made)) for _ in range(3)]
        await ask(leased[0])
        made.give(leased.pop(0), made.clock())
        made.reconfigure(cluster(breakers={"max_connections": 1, "max_pending_requests": 0}))
        other = Endpoint(endpoint(1))
        other.pool = type(only(made).pool)()
        with pytest.raises(ProxyFault) as refused:
            await made.lease(other)
        assert refused.value.flag == "UO"
        for each in leased:
            made.discard(each)


async def test_a_raised_limit_lets_the_waiting_in() -> None:
    async with living(breakers=ONE) as made, trio.open_nursery() as nursery:
        held = await made.lease(only(made))
        waiters = Waiters(made, nursery)
        for name in "ab":
            await waiters.join(name)
        made.reconfigure(cluster(breakers={"max_connections": 3}))
        await until(lambda: len(waiters.order) == 2)
        made.discard(held)


async def test_tcp_connections_count_towards_the_limit_and_do_not_wait() -> None:
    async with living(ScriptedUpstream(mirror), breakers=ONE) as made:
        transport = await made.open_tcp(only(made))
        with pytest.raises(ProxyFault) as refused:
            await made.open_tcp(only(made))
        assert refused.value.flag == "UO"
        await transport.send(b"hello")
        assert await transport.receive() == b"hello"
        check = await made.open_check(only(made))
        assert (made.limits.connections.held, only(made).cx_active) == (1, 1)
        check.close()
        made.close_tcp(only(made), transport)


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


@pytest.mark.parametrize("authority", [b"", b"127.0.0.1:0", b"127.0.0.1:65536", b"127.0.0.1:99999999", b"a" * 70, b"a..b"])
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


# Outliers


OUTLIER = config.OutlierDetection(consecutive_5xx=2, base_ejection_time=30.0, max_ejection_percent=100.0)


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(clock: Callable[[], float], **outlier: Any) -> Cluster:
    settings = config.OutlierDetection(
        **{"consecutive_5xx": 2, "base_ejection_time": 30.0, "max_ejection_percent": 100.0, **outlier}
    )
    return make_cluster(cluster(lb_policy="round_robin", outlier=settings), 1, 2, clock=clock)


def fail(made: Cluster, outcome: int | LocalFailure = 503, times: int = 2) -> Endpoint:
    bad = next(iter(made.endpoints.values()))
    for _ in range(times):
        made.observe(bad, outcome)
    return bad


def test_an_ejected_endpoint_is_not_picked_until_its_time_is_over() -> None:
    clock = Clock()
    made = watched(clock)
    bad = fail(made)
    assert bad.state == "ejected"
    assert {made.pick().port for _ in range(6)} == {2}
    assert made.stats.outlier_detection_ejections_active.value == 1
    assert made.stats.outlier_detection_ejections_enforced_total.value == 1
    clock.now = 20.0
    made.tick(20.0)
    assert made.ejected == {bad}
    made.tick(40.0)
    assert made.ejected == set()
    assert {made.pick().port for _ in range(6)} == {1, 2}
    assert made.stats.outlier_detection_ejections_active.value == 0


def test_an_ejection_beyond_the_share_is_counted() -> None:
    made = watched(Clock(), max_ejection_percent=50.0)
    first, second = made.endpoints.values()
    for each in (first, first, second, second):
        made.observe(each, 503)
    assert made.ejected == {first}
    assert made.stats.outlier_detection_ejections_overflow.value == 1


def test_removing_outlier_detection_releases_the_ejected() -> None:
    made = watched(Clock())
    bad = fail(made)
    made.reconfigure(cluster(lb_policy="round_robin"))
    assert (bad.state, made.ejected, made.outlier) == ("healthy", set(), None)
    assert made.stats.outlier_detection_ejections_active.value == 0
    fail(made)
    assert bad.state == "healthy"


def test_changing_outlier_detection_keeps_the_ejected() -> None:
    made = watched(Clock())
    bad = fail(made)
    made.reconfigure(cluster(outlier=config.OutlierDetection(consecutive_5xx=9, max_ejection_percent=100.0)))
    assert bad.state == "ejected"


def test_outlier_detection_may_come_later() -> None:
    made = make_cluster(cluster(), 1, 2, clock=Clock())
    fail(made)
    made.reconfigure(cluster(outlier=OUTLIER))
    assert fail(made).state == "ejected"


def test_ejections_survive_pushes_of_endpoints_and_end_with_their_endpoint() -> None:
    made = watched(Clock())
    bad = fail(made)
    made.set_endpoints((endpoint(1), endpoint(2), endpoint(3)))
    assert made.ejected == {bad}
    made.set_endpoints((endpoint(2),))
    assert made.ejected == set()


@pytest.mark.parametrize(
    ("fault", "counter"),
    [
        (faults.connect_failed("refused"), "rq_error"),
        (faults.connect_failed("", timeout=True), "rq_error"),
        (faults.terminated(sent=True, reused=False), "rq_error"),
        (faults.per_try_timeout(), "rq_timeout"),
        (faults.route_timeout(), "rq_timeout"),
    ],
)
def test_faults_of_the_upstream_charge_the_endpoint(fault: ProxyFault, counter: str) -> None:
    made = watched(Clock())
    bad = next(iter(made.endpoints.values()))
    made.observe_fault(bad, fault)
    assert getattr(bad, counter) == 1
    made.observe_fault(bad, fault)
    assert bad.state == "ejected"


@pytest.mark.parametrize("fault", [faults.client_gone(), faults.overflow(), faults.no_healthy_upstream()])
def test_faults_of_others_charge_nobody(fault: ProxyFault) -> None:
    made = watched(Clock())
    bad = next(iter(made.endpoints.values()))
    for _ in range(5):
        made.observe_fault(bad, fault)
    assert (bad.rq_error, bad.rq_timeout, bad.state) == (0, 0, "healthy")


# Cancellation


@pytest.mark.parametrize("secure", [False, True])
async def test_randomly_cancelled_exchanges_leave_nothing_behind(secure: bool) -> None:
    """Whenever an exchange is cancelled, in connecting, handshaking, queueing, sending or reading: no count, lease or
    socket is left over, and the next exchange is served."""

    async def dawdle(upstream: ScriptedUpstream, wire: Wire) -> None:
        while True:
            request = await wire.message()
            await trio.sleep(rng.random() * 0.004)
            await wire.answer(body=request.path)

    rng = random.Random(20_000)
    upstream = ScriptedUpstream(dawdle, mesh_identity("server") if secure else None)
    fields: dict[str, Any] = {"identity": mesh_identity("client"), "tls": config.UpstreamTls("istio_mutual")}
    breakers = {"max_connections": 3, "max_pending_requests": 6}
    finished = cancelled = refused = 0

    async def one(made: Cluster, number: int) -> None:
        nonlocal finished, cancelled, refused
        with trio.move_on_after(rng.random() * 0.02) as scope:
            try:
                await exchange(made, b"/%d" % number)
                finished += 1
            except ProxyFault as fault:
                assert fault.flag == "UO"
                refused += 1
        cancelled += scope.cancelled_caught

    async with living(upstream, breakers=breakers, **(fields if secure else {})) as made:
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(one, made, number)
                if number % 3 == 0:
                    await trio.sleep(rng.random() * 0.004)
        assert min(finished, cancelled, refused) > 5
        assert finished + cancelled + refused == 300
        await until(lambda: upstream.open == len(only(made).pool.idle))
        assert await exchange(made, b"/after") == b"/after"
