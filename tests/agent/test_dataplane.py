"""What the data path shares: the connection limit, deadlines, the sweeper's two looks, and who a peer is."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from agent.bootstrap import Settings
from agent.dataplane import Dataplane, Downstream
from agent.exchange.record import Record
from mesh import config
from mesh.identity.spiffe import parse
from tests.h2_rig import gateway, http2_connected
from tests.rig import ScriptedUpstream, Serving, Wire, http_listener, until

PEER = parse("spiffe://cluster.local/ns/shop/sa/cart")
OWN = parse("spiffe://cluster.local/ns/default/sa/app")


class FakeTransport:
    """A peer that stays until it is told to go."""

    gone = False

    def peer_gone(self) -> bool:
        return self.gone


def connection(dataplane: Dataplane) -> tuple[Downstream, FakeTransport]:
    """An accepted connection of that data plane."""
    fake = FakeTransport()
    made = Downstream(fake, http_listener(), dataplane.clock())  # type: ignore[arg-type]
    dataplane.connections.add(made)
    return made, fake


@pytest.fixture
async def serving() -> Serving:
    """A data plane that accepts two connections."""
    return Serving(Settings(max_connections=2), None, "gateway")


async def test_the_limit_of_connections(serving: Serving) -> None:
    dataplane = serving.dataplane
    assert not dataplane.downstream_full()
    for _ in range(2):
        connection(dataplane)
    assert dataplane.downstream_full()


async def test_the_sweeper_ends_what_is_past_its_deadline(serving: Serving) -> None:
    dataplane = serving.dataplane
    late, _ = connection(dataplane)
    early, _ = connection(dataplane)
    late.deadline, early.deadline = 10.0, 10.1
    dataplane.sweep(10.0)
    assert (late.timed_out, late.scope.cancel_called) == (True, True)
    assert (early.timed_out, early.scope.cancel_called) == (False, False)
    assert dataplane.now == 10.0


async def test_the_sweeper_ends_the_try_of_a_client_that_has_gone(serving: Serving) -> None:
    dataplane = serving.dataplane
    made = FakeSide()
    dataplane.exchanges.add(made)
    made.gone = True
    dataplane.sweep(20.0)
    assert not made.client_gone, "no try is in flight"
    made.attempt = trio.CancelScope()
    dataplane.sweep(10.05)
    assert not made.client_gone, "it has only just begun"
    made.gone = False
    dataplane.sweep(20.0)
    assert not made.client_gone
    made.gone = True
    dataplane.sweep(20.0)
    assert made.client_gone
    assert made.attempt.cancel_called
    assert not made.expired
    made.deadline = 20.0
    dataplane.sweep(20.0)
    assert made.expired


class FakeSide:
    """The client's side of an exchange that began at 10.0; `gone` is whether its client has hung up."""

    def __init__(self) -> None:
        self.deadline = float("inf")
        self.attempt: trio.CancelScope | None = None
        self.busy_since = 10.0
        self.client_gone = False
        self.gone = False
        self.expired = False

    def expire(self) -> None:
        self.expired = True

    def hung_up(self) -> bool:
        return self.gone


class FakeTry:
    """A try in flight; `cancelled` is when it was."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.cancelled: float | None = None

    def cancel(self) -> None:
        self.cancelled = trio.current_time()


async def test_tries_end_at_their_deadline(serving: Serving, autojump_clock: trio.testing.MockClock) -> None:
    dataplane = serving.dataplane
    late, soon, disarmed, moved = FakeTry(5.0), FakeTry(1.0), FakeTry(2.0), FakeTry(3.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dataplane.keep_deadlines)
        dataplane.arm(late)
        await trio.sleep(0.5)
        for each in (soon, disarmed, moved):
            dataplane.arm(each)
        await trio.sleep(1)
        dataplane.disarm(disarmed)
        moved.deadline = 4.0
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert [each.cancelled for each in (late, soon, disarmed, moved)] == [5.0, 1.0, None, 4.0]


async def test_a_deadline_that_has_passed_already(serving: Serving, autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serving.dataplane.keep_deadlines)
        await trio.sleep(7)
        past = FakeTry(3.0)
        serving.dataplane.arm(past)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert past.cancelled == 7.0


async def test_a_peer_that_proved_who_it_is(serving: Serving) -> None:
    made, _ = connection(serving.dataplane)
    assert (made.peer, made.principal, made.source, made.client_cert) == (None, "", None, b"")
    made.identify(PEER, OWN, b"certificate")
    assert made.principal == PEER.uri
    assert made.source == config.Workload("cart", "shop", service_account="cart")
    fields = dict(field.split(b"=", 1) for field in made.client_cert.split(b";"))
    assert fields[b"By"] == OWN.uri.encode()
    assert fields[b"URI"] == PEER.uri.encode()
    assert len(fields[b"Hash"]) == 64


async def test_finished_exchanges_are_counted_and_logged(serving: Serving) -> None:
    dataplane = serving.dataplane
    record = Record(dataplane.clock())
    record.response_code = 200
    dataplane.finish(record)
    tcp = Record(dataplane.clock())
    dataplane.finish_tcp(tcp)
    assert serving.records == [record, tcp]
    assert record.end >= record.start
    text = serving.registry.exposition().decode()
    assert "istio_requests_total{" in text
    assert "istio_tcp_connections_closed_total{" in text


async def test_requests_under_way_are_counted_when_asked_for() -> None:
    asked, answer = [], trio.Event()

    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        while True:
            asked.append((await wire.message()).path)
            await answer.wait()
            await wire.answer()

    def under_way(served: Serving) -> list[str]:
        lines = served.registry.exposition().decode().splitlines()
        return [line for line in lines if "_rq_active{" in line]

    downstream = 'envoy_http_downstream_rq_active{http_conn_manager_prefix="outbound"}'
    upstream = 'envoy_cluster_upstream_rq_active{cluster_name="app"}'
    async with gateway(ScriptedUpstream(script)) as served:
        assert under_way(served) == [f"{upstream} 0"]
        async with served.connect() as old, served.connect(), http2_connected(served.port()) as client:
            await old.send(b"GET /1 HTTP/1.1\r\nhost: app\r\n\r\n")
            streams = [await client.begin() for _ in range(2)]
            await until(lambda: len(asked) == 3)
            assert under_way(served) == [f"{upstream} 3", f"{downstream} 3"]
            answer.set()
            await old.message()
            for stream in streams:
                await client.answer(stream)
            await until(lambda: under_way(served) == [f"{upstream} 0", f"{downstream} 0"])


async def test_without_access_log_nothing_is_formatted(serving: Serving) -> None:
    serving.dataplane.access_log = None
    serving.dataplane.finish(Record(0.0))
    assert serving.records == []


async def test_the_date_is_rendered_once_a_second(serving: Serving) -> None:
    dataplane = serving.dataplane
    wall = 784111777.2
    dataplane.wall = lambda: wall
    first = dataplane.http_date()
    assert first == b"Sun, 06 Nov 1994 08:49:37 GMT"
    wall = 784111777.9
    assert dataplane.http_date() is first
    wall = 784111778.0
    assert dataplane.http_date() == b"Sun, 06 Nov 1994 08:49:38 GMT"
