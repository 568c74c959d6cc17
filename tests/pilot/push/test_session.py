"""One agent's session on the pilot, as conversations over memory on a mock clock."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from mesh.feed.message import (
    Ack,
    EndpointsPush,
    Goodbye,
    Hello,
    Nack,
    Push,
    Refusal,
    Rejected,
    Report,
    RequestStatistics,
    SignRequest,
    SignResponse,
    Welcome,
)
from mesh.feed.node import Node
from mesh.feed.session import SyncState
from mesh.feed.transport import FeedClosed
from mesh.identity.pki import make_csr, make_key
from mesh.identity.spiffe import make
from pilot.push.memory import memory_pair
from pilot.push.session import Caller, serve_session
from pilot.push.traffic import MAX_ROWS
from tests.feed_rig import Peer, cluster, endpoints, memory_mesh, node, snapshot


async def test_hello_welcome_push_ack(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        peer = mesh.peer()
        await peer.send(Hello(node("a"), features=("delta", "from-the-future")))
        welcome = await peer.expect(Welcome)
        assert welcome.features == ("delta",)
        push = await peer.expect(Push)
        assert push.full
        session = mesh.pilot.fleet.session("a")
        assert session is not None
        assert session.book.states()["cluster"] == SyncState("STALE")
        await peer.send(Ack(push.nonce))
        assert await mesh.pilot.fleet.wait_in_step(0, 5.0) == []
        assert session.book.states()["cluster"] == SyncState("SYNCED")
        assert session.last_ack_at is not None
        assert mesh.pilot.metric("trioweave_full_pushes_total") == 1
        assert mesh.pilot.metric("pilot_proxy_convergence_time_count") == 1


async def test_resume_is_no_full_push(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        push = await mesh.peer().join("a")
        again = mesh.peer()
        await again.send(Hello(node("a"), known={"cluster": {u.name: u.hash for u in push.upserts}}))
        await again.expect(Welcome)
        empty = await again.expect(Push)
        assert (empty.upserts, empty.removals, empty.full) == ((), (), False)
        assert mesh.pilot.metric("trioweave_full_pushes_total") == 1
        assert mesh.pilot.metric("trioweave_resumed_sessions_total") == 1


async def test_rejection_is_counted_and_shown(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        peer = mesh.peer()
        await peer.send(Hello(node("a")))
        await peer.expect(Welcome)
        push = await peer.expect(Push)
        await peer.send(Nack(push.nonce, (Rejected("cluster", "a", "cannot"),)))
        assert await mesh.pilot.fleet.wait_in_step(0, 5.0) == []
        session = mesh.pilot.fleet.session("a")
        assert session is not None
        assert session.book.states()["cluster"] == SyncState("ERROR", "a: cannot")
        assert mesh.pilot.metric('pilot_total_xds_rejects{type="cds"}') == 1
        [line] = [fields for event, fields in mesh.pilot.log.lines if "rejected" in event]
        assert line["rejected"] == "cluster a: cannot"
        await peer.send(Ack(99))
        await peer.send(Report(health="healthy"))
        await trio.testing.wait_all_tasks_blocked()
        assert mesh.pilot.metric("pilot_xds_expired_nonce") == 1
        assert session.last_report == Report(health="healthy")
        assert session.last_report_at is not None
        many = tuple(RequestStatistics("a", str(number), 1) for number in range(MAX_ROWS + 3))
        await peer.send(Report(requests=many))
        await trio.testing.wait_all_tasks_blocked()
        assert len(session.traffic.rows) == MAX_ROWS
        assert mesh.pilot.metric('trioweave_feed_events_total{event="traffic_overflow"}') == 3


async def test_endpoints_overtake_an_unanswered_push(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        mesh.pilot.told = snapshot(cluster("a"), eds=(endpoints("a", 1),))
        peer = mesh.peer()
        await peer.join("a")
        mesh.pilot.tell(snapshot(cluster("a"), cluster("b"), eds=(endpoints("a", 1),)), at_once=True)
        await peer.expect(Push)
        mesh.pilot.tell(snapshot(cluster("a"), cluster("b"), eds=(endpoints("a", 2),)), endpoints_only=True)
        push = await peer.expect(EndpointsPush)
        assert [u.name for u in push.upserts] == ["a"]


async def test_certificates_are_signed_for_the_session(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        peer = mesh.peer()
        await peer.join("a", namespace="prod", service_account="reviews")
        await peer.send(SignRequest(1, make_csr(make_key()).decode()), SignRequest(2, "nonsense"))
        good, bad = await peer.expect(SignResponse), await peer.expect(SignResponse)
        assert good.spiffe_id == "spiffe://cluster.local/ns/prod/sa/reviews"
        assert (bad.id, bad.chain_pem) == (2, "")
        assert mesh.pilot.metric("citadel_server_csr_sign_err_count") == 1


@pytest.mark.parametrize(
    ("namespace", "account", "admitted"), [("default", "a", True), ("default", "b", False), ("x", "a", False)]
)
async def test_claims_must_agree_with_the_certificate(
    tmp_path: Path, autojump_clock: MockClock, namespace: str, account: str, admitted: bool
) -> None:
    async with memory_mesh(tmp_path) as mesh:
        peer = mesh.peer(Caller("certificate", "test", make("cluster.local", "default", "a")))
        await peer.send(Hello(node("a", namespace=namespace, service_account=account)))
        if admitted:
            await peer.expect(Welcome)
        else:
            refusal = await peer.expect(Refusal)
            assert "its certificate is spiffe://cluster.local/ns/default/sa/a" in refusal.reason
            assert refusal.remedy
            assert mesh.pilot.metric('trioweave_feed_refusals_total{reason="identity"}') == 1
            assert mesh.pilot.fleet.sessions == []


@pytest.mark.parametrize("bad", [node(""), node("a\nb"), node("a" * 254), node("a", namespace="x/y")])
async def test_names_must_be_names(tmp_path: Path, autojump_clock: MockClock, bad: Node) -> None:
    async with memory_mesh(tmp_path) as mesh:
        peer = mesh.peer()
        await peer.send(Hello(bad))
        assert (await peer.expect(Refusal)).remedy
        assert mesh.pilot.metric('trioweave_feed_refusals_total{reason="node"}') == 1


async def test_an_id_belongs_to_its_identity(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        await mesh.peer().join("a", service_account="one")
        thief = mesh.peer()
        await thief.send(Hello(node("a", service_account="two")))
        await thief.expect(Welcome)
        assert "another identity" in (await thief.expect(Refusal)).reason
        assert [session.node.service_account for session in mesh.pilot.fleet.sessions] == ["one"]


async def test_a_newer_session_replaces_the_older(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        older, newer = mesh.peer(), mesh.peer()
        await older.join("a")
        await newer.join("a")
        assert "connected again" in (await older.expect(Refusal)).reason
        await older.ended()
        await trio.sleep(60)
        assert len(mesh.pilot.fleet.sessions) == 1
        assert mesh.gone == []


@pytest.mark.parametrize("first", [b"nonsense", b'{"type":"ack","nonce":1}'])
async def test_who_does_not_say_hello_is_refused(tmp_path: Path, autojump_clock: MockClock, first: bytes) -> None:
    async with memory_mesh(tmp_path) as mesh:
        peer = mesh.peer()
        await peer.transport.send(first)
        assert (await peer.expect(Refusal)).remedy
        await peer.ended()
        assert mesh.pilot.metric('trioweave_feed_refusals_total{reason="protocol"}') == 1


async def test_a_second_hello_ends_the_session(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        peer = mesh.peer()
        await peer.join("a")
        await peer.send(Hello(node("a")))
        assert "once" in (await peer.expect(Refusal)).reason


async def test_silence_instead_of_hello_ends_after_a_deadline(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        begin = trio.current_time()
        await mesh.peer().ended()
        assert trio.current_time() - begin == 10.0


async def test_goodbye_removes_the_workload_at_once_and_a_close_too(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        one, two = mesh.peer(), mesh.peer()
        await one.join("a")
        await two.join("b")
        await one.send(Goodbye("drained"))
        await one.ended()
        await two.transport.close()
        await trio.testing.wait_all_tasks_blocked()
        assert mesh.gone == ["a", "b"]


class FakeStuckTransport:
    """Says hello and takes the welcome; then it answers no ping, or takes nothing more."""

    def __init__(self, *, takes: int, pongs: bool) -> None:
        self.ours, theirs = memory_pair()
        self.peer = Peer(theirs)
        self._takes = takes
        self._pongs = pongs

    async def send(self, data: bytes) -> None:
        if self._takes <= 0:
            await trio.sleep_forever()
        self._takes -= 1
        await self.ours.send(data)

    async def receive(self) -> bytes:
        return await self.ours.receive()

    async def ping(self) -> None:
        if not self._pongs:
            await trio.sleep_forever()

    async def close(self) -> None:
        await self.ours.close()


@pytest.mark.parametrize(
    ("takes", "pongs", "event", "after"), [(9, False, "ping_timeout", 20.0), (1, True, "send_timeout", 30.0)]
)
async def test_half_dead_agents_are_noticed(
    tmp_path: Path, autojump_clock: MockClock, takes: int, pongs: bool, event: str, after: float
) -> None:
    async with memory_mesh(tmp_path) as mesh:
        transport = FakeStuckTransport(takes=takes, pongs=pongs)
        await transport.peer.send(Hello(node("a")))
        begin = trio.current_time()
        await serve_session(transport, Caller("memory"), mesh.pilot.fleet, "s")
        assert trio.current_time() - begin == after
        assert mesh.pilot.metric(f'trioweave_feed_events_total{{event="{event}"}}') == 1
        await trio.sleep(1.5)
        assert mesh.gone == ["a"], "a break has a grace of a second"


async def test_an_agent_that_leaves_while_it_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        ours, theirs = memory_pair()
        await theirs.send(b"nonsense")

        class FakeGone:
            receive, ping, close = ours.receive, ours.ping, ours.close

            async def send(self, data: bytes) -> None:
                raise FeedClosed("gone")

        await serve_session(FakeGone(), Caller("memory"), mesh.pilot.fleet, "s")
        assert mesh.pilot.fleet.sessions == []


@pytest.mark.parametrize(("worker", "workers"), [(-1, 1), (1, 1), (2, 2), (0, 257), (0, 0)])
async def test_a_worker_that_cannot_be(tmp_path: Path, autojump_clock: MockClock, worker: int, workers: int) -> None:
    async with memory_mesh(tmp_path) as mesh:
        peer = mesh.peer()
        await peer.send(Hello(node("a"), worker=worker, workers=workers))
        refusal = await peer.expect(Refusal)
        assert refusal.reason == f"a is worker {worker} of {workers}"
