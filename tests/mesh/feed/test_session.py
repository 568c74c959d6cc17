"""Both roles of a session as conversations, without I/O."""

import random

import msgspec
import pytest

from mesh import config
from mesh.config import Snapshot
from mesh.feed.message import Ack, EndpointsPush, Nack, Push, Rejected, Upsert, decode_to_agent, encode
from mesh.feed.session import AgentSession, Memo, PilotSession, SyncState, encode_snapshot
from tests.feed_rig import cluster, endpoints, snapshot


def offer(session: PilotSession, told: Snapshot) -> None:
    session.offer(encode_snapshot(told, {}))


def names(push: Push | EndpointsPush | None) -> tuple[list[str], list[str]]:
    assert push is not None
    return [u.name for u in push.upserts], [r.name for r in push.removals]


def deliver(agent: AgentSession, push: Push | EndpointsPush | None, *bad: Rejected) -> Ack | Nack:
    """The agent takes the push from the wire and refuses `bad`."""
    assert push is not None
    received = decode_to_agent(encode(push))
    assert isinstance(received, Push | EndpointsPush)
    change = agent.apply(received)
    change.revert(bad)
    agent.commit(change)
    return change.answer()


class TestPilot:
    def test_nothing_before_the_first_offer(self) -> None:
        assert PilotSession().next_push() is None
        assert not PilotSession().in_step

    def test_first_push_is_everything_in_make_before_break_order(self) -> None:
        session = PilotSession()
        listener = config.Listener("l", "outbound")
        route = config.RouteConfig("r")
        told = Snapshot({"l": listener}, {"r": route}, {"c": cluster("c")}, {"c": endpoints("c", 1)})
        offer(session, told)
        push = session.next_push()
        assert isinstance(push, Push)
        assert push.full
        assert [u.kind for u in push.upserts] == ["cluster", "endpoints", "route", "listener"]
        assert session.next_push() is None
        assert session.outstanding
        assert session.receive(Ack(push.nonce))
        assert session.in_step
        assert session.last_ack == push.nonce

    def test_delta_of_what_changed_and_went(self) -> None:
        session = PilotSession()
        offer(session, snapshot(cluster("a"), cluster("b"), cluster("c")))
        session.next_push()
        session.receive(Ack(1))
        offer(session, snapshot(cluster("a"), cluster("b", timeout=1.0), cluster("d")))
        push = session.next_push()
        assert names(push) == (["b", "d"], ["c"])
        assert isinstance(push, Push)
        assert not push.full

    def test_one_outstanding_and_latest_wins(self) -> None:
        session = PilotSession()
        offer(session, snapshot(cluster("a")))
        session.next_push()
        for timeout in (1.0, 2.0, 3.0):
            offer(session, snapshot(cluster("a", timeout=timeout)))
            assert session.next_push() is None
        session.receive(Ack(1))
        push = session.next_push()
        assert isinstance(push, Push)
        assert config.decode_resource("cluster", bytes(push.upserts[0].resource)) == cluster("a", timeout=3.0)
        session.receive(Ack(2))
        assert session.next_push() is None

    def test_change_and_back_while_outstanding_sends_nothing(self) -> None:
        session = PilotSession()
        offer(session, snapshot(cluster("a")))
        session.next_push()
        offer(session, snapshot(cluster("a", timeout=1.0)))
        offer(session, snapshot(cluster("a")))
        session.receive(Ack(1))
        assert session.next_push() is None
        assert session.in_step

    def test_endpoints_do_not_wait_for_an_outstanding_push(self) -> None:
        session = PilotSession()
        offer(session, snapshot(cluster("a"), eds=(endpoints("a", 1),)))
        session.next_push()
        session.receive(Ack(1))
        offer(session, snapshot(cluster("a"), cluster("b"), eds=(endpoints("a", 1),)))
        assert names(session.next_push()) == (["b"], [])
        offer(session, snapshot(cluster("a"), cluster("b"), eds=(endpoints("a", 1, 2),)))
        push = session.next_push()
        assert isinstance(push, EndpointsPush)
        assert names(push) == (["a"], [])
        assert session.next_push() is None
        session.receive(Ack(push.nonce))
        session.receive(Ack(2))
        assert session.in_step

    def test_one_version_of_a_resource_in_flight(self) -> None:
        session = PilotSession()
        offer(session, snapshot(cluster("a"), eds=(endpoints("a", 1),)))
        session.next_push()
        offer(session, snapshot(cluster("a"), eds=(endpoints("a", 2),)))
        assert session.next_push() is None, "endpoints of a are in flight in the first push"
        session.receive(Ack(1))
        assert isinstance(session.next_push(), EndpointsPush)

    def test_endpoints_alone_leave_configuration_as_it_is(self) -> None:
        session = PilotSession()
        offer(session, snapshot(cluster("a"), eds=(endpoints("a", 1),)))
        session.next_push()
        session.receive(Ack(1))
        newer = snapshot(cluster("a", timeout=1.0), cluster("b"), eds=(endpoints("a", 2), endpoints("b", 3)))
        session.offer_endpoints(encode_snapshot(newer, {}))
        push = session.next_push()
        assert isinstance(push, EndpointsPush)
        assert names(push) == (["a"], [])
        assert session.next_push() is None

    def test_refused_resource_is_not_sent_again_until_it_changes(self) -> None:
        session = PilotSession()
        offer(session, snapshot(cluster("a"), cluster("b")))
        session.next_push()
        session.receive(Ack(1))
        bad = snapshot(cluster("a", timeout=1.0), cluster("b", timeout=1.0))
        offer(session, bad)
        session.next_push()
        session.receive(Nack(2, (Rejected("cluster", "a", "bad"),)))
        assert session.rejections == [Rejected("cluster", "a", "bad")]
        assert session.states()["cluster"] == SyncState("ERROR", "a: bad")
        assert session.in_step
        offer(session, bad)
        assert session.next_push() is None
        offer(session, snapshot(cluster("a"), cluster("b", timeout=1.0)))
        assert session.next_push() is None, "back to what the agent still holds"
        assert session.rejections == []
        offer(session, snapshot(cluster("a", timeout=2.0), cluster("b", timeout=1.0)))
        assert names(session.next_push()) == (["a"], [])

    def test_refused_newcomer_is_not_removed_later(self) -> None:
        session = PilotSession()
        offer(session, snapshot(cluster("a"), cluster("b")))
        session.next_push()
        session.receive(Nack(1, (Rejected("cluster", "b", "bad"), Rejected("cluster", "unsent", "?"))))
        offer(session, snapshot(cluster("a")))
        assert session.next_push() is None

    def test_refused_removal_is_tried_again_with_the_next_offer(self) -> None:
        session = PilotSession()
        offer(session, snapshot(cluster("a"), cluster("b")))
        session.next_push()
        session.receive(Ack(1))
        offer(session, snapshot(cluster("a")))
        session.next_push()
        session.receive(Nack(2, (Rejected("cluster", "b", "in use"),)))
        assert session.next_push() is None
        assert session.rejections == [Rejected("cluster", "b", "in use")]
        offer(session, snapshot(cluster("a")))
        assert names(session.next_push()) == ([], ["b"])

    def test_stale_answers_change_nothing(self) -> None:
        session = PilotSession()
        offer(session, snapshot(cluster("a")))
        session.next_push()
        assert not session.receive(Ack(7))
        assert session.expired_nonces == 1
        assert session.outstanding

    def test_resume_sends_the_difference_alone(self) -> None:
        agent = AgentSession()
        first = PilotSession()
        offer(first, snapshot(cluster("a"), cluster("b")))
        deliver(agent, first.next_push())
        second = PilotSession(agent.known())
        assert second.resumed
        offer(second, snapshot(cluster("a"), cluster("c")))
        push = second.next_push()
        assert isinstance(push, Push)
        assert names(push) == (["c"], ["b"])
        assert not push.full

    def test_resume_without_a_difference_is_an_empty_push(self) -> None:
        agent = AgentSession()
        first = PilotSession()
        offer(first, snapshot(cluster("a")))
        deliver(agent, first.next_push())
        second = PilotSession(agent.known())
        offer(second, snapshot(cluster("a")))
        push = second.next_push()
        assert names(push) == ([], [])
        assert second.receive(deliver(agent, push))
        assert second.in_step

    def test_states(self) -> None:
        session = PilotSession()
        offer(session, snapshot(cluster("a"), eds=(endpoints("a", 1),)))
        assert session.states()["cluster"] == SyncState("STALE")
        session.next_push()
        assert session.states()["endpoints"] == SyncState("STALE")
        assert session.states()["listener"] == SyncState("NOT SENT")
        session.receive(Ack(1))
        assert session.states()["cluster"] == SyncState("SYNCED")
        assert ("cluster", "a") in session.wanted


class TestAgent:
    def test_takes_everything(self) -> None:
        pilot, agent = PilotSession(), AgentSession()
        told = snapshot(cluster("a"), eds=(endpoints("a", 1),))
        offer(pilot, told)
        assert deliver(agent, pilot.next_push()) == Ack(1)
        assert agent.snapshot == told

    @pytest.mark.parametrize(
        ("raw", "digest", "reason"),
        [
            (b'{"name":7}', None, "Expected `str`"),
            (b'{"name":"other"}', None, "calls itself other"),
            (b'{"name":"bad"}', "0" * 24, "announced hash"),
        ],
    )
    def test_bad_resource_is_named_and_the_others_go_through(self, raw: bytes, digest: str | None, reason: str) -> None:
        agent = AgentSession()
        good = config.encode(cluster("good"))
        push = Push(
            5,
            (
                Upsert("cluster", "bad", digest or config.content_hash(raw), msgspec.Raw(raw)),
                Upsert("cluster", "good", config.content_hash(good), msgspec.Raw(good)),
            ),
        )
        answer = deliver(agent, push)
        assert isinstance(answer, Nack)
        assert answer.nonce == 5
        assert answer.rejected[0].name == "bad"
        assert reason in answer.rejected[0].reason
        assert list(agent.snapshot.clusters) == ["good"]

    def test_refused_resource_keeps_its_last_good_version(self) -> None:
        pilot, agent = PilotSession(), AgentSession()
        offer(pilot, snapshot(cluster("a"), cluster("b")))
        pilot.receive(deliver(agent, pilot.next_push()))
        offer(pilot, snapshot(cluster("a", timeout=1.0), cluster("b", timeout=1.0)))
        answer = deliver(agent, pilot.next_push(), Rejected("cluster", "a", "will not do"))
        assert answer == Nack(2, (Rejected("cluster", "a", "will not do"),))
        assert agent.snapshot == snapshot(cluster("a"), cluster("b", timeout=1.0))
        pilot.receive(answer)
        assert agent.known()["cluster"] != {}

    def test_refusal_of_what_the_push_did_not_touch_is_no_progress(self) -> None:
        pilot, agent = PilotSession(), AgentSession()
        offer(pilot, snapshot(cluster("a")))
        push = pilot.next_push()
        assert isinstance(push, Push)
        change = agent.apply(push)
        assert not change.revert([Rejected("cluster", "elsewhere", "?")])
        change.revert_all("unusable")
        agent.commit(change)
        assert agent.snapshot == Snapshot()
        assert change.answer() == Nack(1, (Rejected("cluster", "a", "unusable"),))

    def test_nothing_is_in_use_before_commit(self) -> None:
        pilot, agent = PilotSession(), AgentSession()
        offer(pilot, snapshot(cluster("a")))
        push = pilot.next_push()
        assert isinstance(push, Push)
        assert agent.apply(push).snapshot == snapshot(cluster("a"))
        assert agent.snapshot == Snapshot()

    def test_full_push_replaces_what_was_held(self) -> None:
        agent = AgentSession()
        for name in ("a", "b"):
            pilot = PilotSession()
            offer(pilot, snapshot(cluster(name)))
            deliver(agent, pilot.next_push())
        assert list(agent.snapshot.clusters) == ["b"]

    def test_all_that_is_held_as_one_push(self) -> None:
        pilot, agent, other = PilotSession(), AgentSession(), AgentSession()
        offer(pilot, snapshot(cluster("a"), eds=(endpoints("a", 1),)))
        deliver(agent, pilot.next_push())
        deliver(other, agent.as_push())
        assert other.snapshot == agent.snapshot
        assert other.known() == agent.known()


def test_the_same_object_is_encoded_once() -> None:
    memo: Memo = {}
    shared = cluster("a")
    one = encode_snapshot(snapshot(shared), memo)
    two = encode_snapshot(snapshot(shared, cluster("b")), memo)
    assert one["cluster", "a"] is two["cluster", "a"]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_both_ends_agree_in_the_end(seed: int) -> None:
    """Random offers, answers out of step, refusals, reconnects: the agent ends with what is wanted but for refusals."""
    rng = random.Random(seed)
    agent, pilot = AgentSession(), PilotSession()
    flying: list[Push | EndpointsPush] = []

    def step() -> None:
        push = pilot.next_push()
        if push is not None:
            flying.append(push)

    def answer() -> None:
        push = flying.pop(0)
        touched = [Rejected(u.kind, u.name, "no") for u in push.upserts if rng.random() < 0.1]
        touched += [Rejected(r.kind, r.name, "no") for r in push.removals if rng.random() < 0.1]
        pilot.receive(deliver(agent, push, *touched))

    for _ in range(60):
        some = [cluster(n, timeout=rng.choice([1.0, 2.0])) for n in "abc" if rng.random() < 0.7]
        eds = tuple(endpoints(c.name, rng.randrange(3)) for c in some)
        offer(pilot, snapshot(*some, eds=eds))
        step()
        if flying and rng.random() < 0.5:
            answer()
        if rng.random() < 0.05:
            pilot, flying = PilotSession(agent.known()), []
            offer(pilot, snapshot(*some, eds=eds))
    step()
    while flying:
        answer()
        step()
    assert pilot.in_step
    refused = {(r.kind, r.name) for r in pilot.rejections}
    held = {(kind, name): h for kind, known in agent.known().items() for name, h in known.items()}
    for key, encoded in pilot.wanted.items():
        assert key in refused or held.get(key) == encoded.hash
    assert {key for key in held if key not in pilot.wanted and key not in refused} == set()
