"""The agent's subscription, with a pilot over memory on a mock clock, or played by the test."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agent.feed import FeedClient
from agent.websocket import Unreachable
from mesh.config import Snapshot
from mesh.feed.message import (
    FEATURES,
    Ack,
    Goodbye,
    Hello,
    Nack,
    Push,
    Refusal,
    Rejected,
    Report,
    SignRequest,
    SignResponse,
    ToAgent,
    ToPilot,
    Welcome,
    decode_to_pilot,
    encode,
)
from mesh.feed.session import PilotSession, encode_snapshot
from mesh.feed.transport import FeedClosed, Transport
from pilot.push.memory import MemoryFeed, memory_pair
from tests.feed_rig import NOW, AgentRig, FakeLog, cluster, memory_mesh, node, snapshot


class FakePilot:
    """Accepts sessions over memory; the test plays the pilot's part."""

    def __init__(self) -> None:
        self.sessions: list[Transport] = []
        self.refuse: Unreachable | None = None
        self.attempts: list[float] = []
        self.arrived = trio.Event()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Transport]:
        self.attempts.append(trio.current_time())
        if self.refuse is not None:
            raise self.refuse
        ours, theirs = memory_pair()
        self.sessions.append(ours)
        self.arrived.set()
        try:
            yield theirs
        finally:
            with trio.CancelScope(shield=True):
                await theirs.close()

    async def receive(self) -> ToPilot:
        with trio.fail_after(600):
            while not self.sessions:
                await self.arrived.wait()
            return decode_to_pilot(await self.sessions[-1].receive())

    async def send(self, message: ToAgent) -> None:
        await self.sessions[-1].send(encode(message))

    async def welcome(self) -> Hello:
        hello = await self.receive()
        assert isinstance(hello, Hello)
        await self.send(Welcome(f"s{len(self.sessions)}", FEATURES, "1"))
        return hello

    async def next_session(self) -> None:
        self.arrived = trio.Event()
        await self.sessions[-1].close()
        await self.arrived.wait()


def push(told: Snapshot) -> Push:
    book = PilotSession()
    book.offer(encode_snapshot(told, {}))
    first = book.next_push()
    assert isinstance(first, Push)
    return first


@asynccontextmanager
async def agent_of(pilot: FakePilot, state_path: Path | None = None, worker: int = 0) -> AsyncIterator[AgentRig]:
    def wall() -> float:
        return NOW + trio.current_time()

    agent = AgentRig("a", pilot.connect, wall=wall, state_path=state_path, worker=worker, workers=worker + 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(agent.client.run)
        yield agent
        nursery.cancel_scope.cancel()


async def test_hello_snapshot_ack(autojump_clock: MockClock) -> None:
    pilot = FakePilot()
    async with agent_of(pilot) as agent:
        hello = await pilot.welcome()
        assert hello.node.id == "a"
        assert hello.known == {}
        await pilot.send(push(snapshot(cluster("a"))))
        assert await pilot.receive() == Ack(1)
        await agent.client.wait_synced()
        assert agent.snapshots == [snapshot(cluster("a"))]
        state = agent.client.state
        assert (state.connected, state.session, state.pilot_version, state.pushes) == (True, "s1", "1", 1)


async def test_reconnects_with_hashes_and_backs_off(autojump_clock: MockClock) -> None:
    pilot = FakePilot()
    async with agent_of(pilot) as agent:
        await pilot.welcome()
        await pilot.send(push(snapshot(cluster("a"))))
        await pilot.receive()
        pilot.refuse = Unreachable("unreachable", "no pilot answers", "start it")
        await pilot.sessions[-1].close()
        await trio.sleep(60)
        state = agent.client.state
        assert not state.connected
        assert "start it" in state.last_error
        gaps = [b - a for a, b in zip(pilot.attempts[1:], pilot.attempts[2:], strict=False)]
        assert max(gaps) <= 5.0
        assert min(gaps) >= 0.05
        assert 12 <= len(gaps) <= 40, "neither spinning nor asleep"
        assert agent.counted("unreachable") >= 12
        said = [fields for event, fields in agent.log.lines if "no session" in event]
        assert len(said) <= 3, "the same failure is not told every time"
        pilot.refuse = None
        pilot.arrived = trio.Event()
        await pilot.arrived.wait()
        hello = await pilot.welcome()
        assert list(hello.known["cluster"]) == ["a"]
        assert agent.snapshots == [snapshot(cluster("a"))], "what was held stays in use"


async def test_refused_resources_are_narrowed_down(autojump_clock: MockClock) -> None:
    pilot = FakePilot()
    async with agent_of(pilot) as agent:
        agent.refuse = {"b": "no"}
        await pilot.welcome()
        await pilot.send(push(snapshot(cluster("a"), cluster("b", timeout=1.0))))
        assert await pilot.receive() == Nack(1, (Rejected("cluster", "b", "no"),))
        assert agent.snapshots == [snapshot(cluster("a"))]
        assert agent.client.state.rejected == (Rejected("cluster", "b", "no"),)
        assert agent.counted("resource_rejected") == 1


@pytest.mark.parametrize("how", ["raises", "blames another", "never content"])
async def test_a_compiler_that_fails_refuses_the_push_not_the_session(autojump_clock: MockClock, how: str) -> None:
    pilot = FakePilot()
    count = 0

    def on_snapshot(given: Snapshot) -> list[Rejected]:
        nonlocal count
        if not given.clusters:
            return []
        count += 1
        if how == "raises":
            raise KeyError("a bug")
        if how == "blames another":
            return [Rejected("route", "elsewhere", "is odd")]
        return [Rejected("cluster", next(iter(given.clusters)), "no")]

    client = FeedClient(node("a"), pilot.connect, on_snapshot, log=FakeLog(), rng=random.Random(1), wall=lambda: NOW)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        await pilot.welcome()
        await pilot.send(push(snapshot(*(cluster(f"c{i}") for i in range(9)))))
        answer = await pilot.receive()
        assert isinstance(answer, Nack)
        assert len(answer.rejected) == 9
        await pilot.send(Push(2))
        assert await pilot.receive() == Ack(2)
        nursery.cancel_scope.cancel()


async def test_last_good_on_disk_serves_while_the_pilot_is_away(tmp_path: Path) -> None:
    path = tmp_path / "agent" / "last-good.json"
    pilot = FakePilot()
    async with agent_of(pilot, path):
        await pilot.welcome()
        await pilot.send(push(snapshot(cluster("a"))))
        await pilot.receive()
    away = FakePilot()
    away.refuse = Unreachable("unreachable", "nobody", "start it")
    async with agent_of(away, path) as agent:
        assert agent.snapshots == [snapshot(cluster("a"))]
        assert agent.client.state.from_disk
        assert agent.counted("started_from_disk") == 1
    back = FakePilot()
    async with agent_of(back, path):
        assert list((await back.welcome()).known["cluster"]) == ["a"]


async def test_signing_over_the_session(autojump_clock: MockClock) -> None:
    pilot = FakePilot()
    answers: list[SignResponse] = []
    async with agent_of(pilot) as agent, trio.open_nursery() as nursery:

        async def ask() -> None:
            answers.append(await agent.client.sign(b"csr", 60.0))

        nursery.start_soon(ask)
        await pilot.welcome()
        request = await pilot.receive()
        assert request == SignRequest(1, "csr", 60.0)
        await pilot.send(SignResponse(99, chain_pem="somebody else's"))
        await pilot.send(SignResponse(1, chain_pem="ours"))
        await wait_all_tasks_blocked()
        assert [a.chain_pem for a in answers] == ["ours"]


async def test_signing_fails_with_the_session(autojump_clock: MockClock) -> None:
    pilot = FakePilot()
    failed: list[FeedClosed] = []
    async with agent_of(pilot) as agent, trio.open_nursery() as nursery:

        async def ask() -> None:
            try:
                await agent.client.sign(b"csr", 0.0)
            except FeedClosed as exc:
                failed.append(exc)

        nursery.start_soon(ask)
        await pilot.welcome()
        await pilot.receive()
        await pilot.next_session()
        assert len(failed) == 1


async def test_reports_and_goodbye(autojump_clock: MockClock) -> None:
    pilot = FakePilot()
    async with agent_of(pilot) as agent:
        for number in range(20):
            agent.client.report(Report(certificate_expiry=float(number)))
        sessions: list[str] = []
        agent.client.on_session = lambda: sessions.append(agent.client.session)
        assert agent.client.session == ""
        await pilot.welcome()
        first = await pilot.receive()
        assert sessions == [agent.client.session] != [""]
        assert first == Report(certificate_expiry=4.0), "the oldest are dropped"
        assert agent.counted("report_dropped") == 4
        for _ in range(15):
            await pilot.receive()
        agent.client.report(Report(health="unhealthy"))
        assert await pilot.receive() == Report(health="unhealthy")
        await agent.client.goodbye("drained")
        assert await pilot.receive() == Goodbye("drained")
        attempts = len(pilot.attempts)
        await pilot.sessions[-1].close()
        await trio.sleep(60)
        assert len(pilot.attempts) == attempts, "who said goodbye does not come back"


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (Refusal("not you", "ask"), "the pilot refuses: not you; ask"),
        (Push(1), "not a welcome"),
        (None, "no welcome within 10 s"),
    ],
)
async def test_sessions_that_do_not_begin(autojump_clock: MockClock, first: ToAgent | None, says: str) -> None:
    pilot = FakePilot()
    async with agent_of(pilot) as agent:
        await pilot.receive()
        if first is not None:
            await pilot.send(first)
            await wait_all_tasks_blocked()
        else:
            await trio.sleep(10.01)
        assert says in agent.client.state.last_error
        assert not agent.client.state.connected


async def test_sessions_that_break_the_protocol(autojump_clock: MockClock) -> None:
    pilot = FakePilot()
    async with agent_of(pilot) as agent:
        for message, says in ((Welcome("again"), "second welcome"), (Refusal("replaced"), "replaced")):
            await pilot.welcome()
            pilot.arrived = trio.Event()
            await pilot.send(message)
            await pilot.arrived.wait()
            assert says in agent.log.lines[-1][1].get("reason", "")


async def test_a_silent_pilot_is_noticed(tmp_path: Path, autojump_clock: MockClock) -> None:
    class FakeSilent:
        def __init__(self, inner: Transport) -> None:
            self.send, self.receive, self.close = inner.send, inner.receive, inner.close

        async def ping(self) -> None:
            await trio.sleep_forever()

    async with memory_mesh(tmp_path) as mesh, trio.open_nursery() as nursery:
        feed = MemoryFeed(mesh.pilot.fleet, mesh.nursery)

        @asynccontextmanager
        async def connect() -> AsyncIterator[Transport]:
            async with feed.connect() as transport:
                yield FakeSilent(transport)

        agent = AgentRig("a", connect, wall=lambda: NOW)
        nursery.start_soon(agent.client.run)
        await agent.wait(lambda s: True)
        await trio.sleep(20.01)
        assert "answered no ping" in agent.client.state.last_error
        nursery.cancel_scope.cancel()


async def test_a_worker_tells_which_it_is_and_needs_a_pilot_that_knows_of_workers(autojump_clock: MockClock) -> None:
    pilot = FakePilot()
    async with agent_of(pilot, worker=2) as agent:
        hello = await pilot.welcome()
        assert (hello.worker, hello.workers) == (2, 3)
        await pilot.next_session()
        assert isinstance(await pilot.receive(), Hello)
        await pilot.send(Welcome("s2", ("delta",), "0"))
        await trio.sleep(1)
        assert "one session of an agent, not one of each worker" in agent.client.state.last_error
        assert "run the agent without --workers" in agent.client.state.last_error
