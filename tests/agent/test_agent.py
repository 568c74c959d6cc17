"""One agent's life, from its admin port to its drain, subscribed to a pilot's feed within this process."""

from __future__ import annotations

import io
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from agent.agent import Agent
from agent.bootstrap import Bootstrap, Ready, Settings
from agent.websocket import Unreachable
from mesh import config
from mesh.errors import MeshError
from mesh.feed.node import Node
from mesh.feed.transport import Transport
from mesh.net.tcp import listen
from mesh.telemetry import log
from pilot.push.memory import MemoryFeed
from tests.feed_rig import PilotRig
from tests.rig import (
    HungUp,
    Message,
    ScriptedUpstream,
    Wire,
    cluster,
    connected,
    endpoint,
    http_listener,
    routes_to,
    snapshot,
    tcp_listener,
    until,
    web,
)

wall = time.time  # noqa: TID251  OpenSSL checks certificates against the real clock
NO_DRAIN = Settings(drain_time=0.0)


@pytest.fixture(autouse=True)
def said() -> Any:
    """What is logged."""
    stream = io.StringIO()
    log.setup(stream=stream)
    yield stream
    log.setup()


class Rig:
    """A pilot and one agent. `ended` is set when the agent's run returned."""

    def __init__(self, tmp_path: Path) -> None:
        self.pilot = PilotRig(tmp_path / "state", wall=wall)
        self.ended = trio.Event()
        self.agent: Agent
        self.ready: Ready | None = None

    @property
    def port(self) -> int:
        """Where the first listener is bound."""
        return port_of(next(iter(self.agent.listeners().values())))

    async def get(self, path: bytes = b"/") -> Message:
        """One request to the first listener."""
        async with connected(self.port) as wire:
            return await wire.ask(path)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def bootstrap_of(role: Any = "gateway", **fields: Any) -> Bootstrap:
    node = Node(f"{role}~test.default", role, service="app", service_account="app")
    return Bootstrap(node, **{"bind": "127.0.0.1", "settings": NO_DRAIN, **fields})


@asynccontextmanager
async def running(
    tmp_path: Path,
    told: config.Snapshot,
    *,
    identity: bool = False,
    connect: Callable[[], AbstractAsyncContextManager[Transport]] | None = None,
    **fields: Any,
) -> AsyncIterator[Rig]:
    """The agent serves `told`; it is cancelled after the body unless it has ended."""
    rig = Rig(tmp_path)
    rig.pilot.told = told
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.pilot.fleet.run)
        feed = MemoryFeed(rig.pilot.fleet, nursery)
        rig.agent = Agent(
            bootstrap_of(**fields), connect or feed.connect, wall=wall, rng=random.Random(1), needs_identity=identity
        )

        async def live(task_status: trio.TaskStatus[Ready | None]) -> None:
            await rig.agent.run(task_status=task_status)
            rig.ended.set()

        with trio.fail_after(20):
            rig.ready = await nursery.start(live)
        yield rig
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def no_pilot() -> AsyncIterator[Transport]:
    raise Unreachable("unreachable", "no pilot answers", "start it")
    yield


async def test_serves_what_it_is_told_and_what_it_is_told_later(tmp_path: Path) -> None:
    async with ScriptedUpstream().running() as upstream, running(tmp_path, web(upstream.port)) as rig:
        assert rig.agent.state == "LIVE"
        assert (await rig.get(b"/a")).body == b"/a"
        assert rig.agent.snapshot is not None
        assert [each.name for each in rig.agent.clusters()] == ["app"]
        answer = rig.agent.explain("GET", "http://app/", ())
        assert answer.chosen == "app"
        rig.pilot.tell(snapshot(http_listener(), routes_to("other"), cluster("other")))
        await until(lambda: [each.name for each in rig.agent.clusters()] == ["other"])
        assert (await rig.get()).status == 503
        assert 'cluster="app"' not in rig.agent.registry.exposition().decode()
        assert rig.agent.feed()["pushes"] == 2
        assert rig.agent.bootstrap()["bind"] == "127.0.0.1"
        assert rig.agent.uptime() < 60
        assert rig.agent.wall() == pytest.approx(wall(), abs=60)


async def test_ready_names_the_addresses(tmp_path: Path) -> None:
    raw = config.Listener(
        "tcp_db.test:7000",
        "outbound",
        chains=(config.FilterChain("tcp", tcp=config.TcpChain((("app", 1),))),),
        service="db.test:7000",
    )
    told = snapshot(raw, cluster(), config.ClusterEndpoints("app", (endpoint(1),)))
    async with running(tmp_path, told) as rig:
        assert rig.ready is not None
        assert rig.ready.upstreams == {"db.test:7000": rig.ready.listeners["tcp_db.test:7000"]}
        async with connected(port_of(rig.ready.admin)) as wire:
            assert (await wire.ask(b"/ready", host=b"localhost")).body == b"LIVE\n"


async def test_leaving_lets_exchanges_finish_and_says_goodbye(tmp_path: Path) -> None:
    go, asked = trio.Event(), trio.Event()

    async def slow(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        asked.set()
        await go.wait()
        await wire.answer(body=b"done")

    gone: list[str] = []
    settings = Settings(drain_time=10.0)
    async with ScriptedUpstream(slow).running() as upstream:
        async with running(tmp_path, web(upstream.port), settings=settings) as rig:
            rig.pilot.fleet.on_workload = lambda arrived, left: gone.append(left.id) if left else None
            async with connected(rig.port) as wire:
                await wire.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
                with trio.fail_after(5):
                    await asked.wait()
                    rig.agent.leave()
                    assert rig.agent.state == "DRAINING"
                    go.set()
                    answer = await wire.message()
                    assert (answer.status, answer.headers[b"connection"]) == (200, b"close")
                    await rig.ended.wait()
            await until(lambda: gone == ["gateway~test.default"])
            with pytest.raises(OSError):
                await rig.get()


async def test_what_is_open_after_the_drain_time_is_cut_and_told(tmp_path: Path, said: io.StringIO) -> None:
    asked = trio.Event()

    async def never(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        asked.set()
        await trio.sleep_forever()

    async with ScriptedUpstream(never).running() as upstream:
        async with running(tmp_path, web(upstream.port), settings=Settings(drain_time=0.05)) as rig:
            async with connected(rig.port) as wire:
                await wire.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
                with trio.fail_after(5):
                    await asked.wait()
                    rig.agent.quit()
                    await rig.ended.wait()
                    with pytest.raises((HungUp, OSError, trio.BrokenResourceError)):
                        await wire.message()
    assert "connections cut at the end of the drain time connections=1" in said.getvalue()


async def test_drain_marks_answers_but_stays(tmp_path: Path) -> None:
    async with ScriptedUpstream().running() as upstream, running(tmp_path, web(upstream.port)) as rig:
        rig.agent.drain()
        assert (await rig.get()).headers[b"connection"] == b"close"
        assert not rig.ended.is_set()


async def test_a_sidecar_announces_its_inbound_port_and_proves_its_identity(tmp_path: Path) -> None:
    name = "inbound|9080||"
    tls = config.DownstreamTls("istio_mutual", trust_domains=("cluster.local",))
    chain = config.FilterChain("mtls", "mtls", tls=tls, http=config.HttpChain(name))
    async with ScriptedUpstream().running() as upstream:
        told = snapshot(
            config.Listener(name, "inbound", "127.0.0.1", 0, (chain,)),
            routes_to(name, route_config=name),
            cluster(name),
            config.ClusterEndpoints(name, (endpoint(upstream.port),)),
        )
        async with running(tmp_path, told, identity=True, role="sidecar", app_port=9080) as rig:
            agent = rig.agent
            [inbound] = agent.node.ports
            assert rig.ready is not None
            assert rig.ready.listeners[name] == f"{inbound.address}:{inbound.port}"
            assert any("spiffe://cluster.local/ns/default/sa/app" in each.uris for each in agent.certificates())
            identity = agent._identity
            assert identity is not None
            assert agent.feed_certificate() is identity.certificate
            async with connected(inbound.port, identity) as wire:
                assert (await wire.ask(b"/secret")).body == b"/secret"


async def test_told_to_leave_before_it_serves(tmp_path: Path) -> None:
    agent = Agent(bootstrap_of("sidecar", app_port=1), no_pilot, wall=wall, rng=random.Random(1), needs_identity=True)
    assert agent.state == "PRE_INITIALIZING"
    assert (agent.snapshot, agent.clusters(), agent.listeners(), agent.feed()) == (None, (), {}, {})
    assert (agent.certificates(), agent.feed_certificate()) == ((), None)
    agent.leave()
    async with trio.open_nursery() as nursery:
        with trio.fail_after(5):
            assert await nursery.start(lambda task_status: agent.run(task_status=task_status)) is None


async def test_a_restart_without_a_pilot_serves_from_disk_and_waits_for_a_certificate_a_little(
    tmp_path: Path, autojump_clock: MockClock, said: io.StringIO
) -> None:
    autojump_clock.autojump_threshold = 0.02  # files are read and written in threads
    state = str(tmp_path / "last-good")
    async with running(tmp_path, web(1), state_path=state) as rig:
        rig.agent.leave()
        await rig.ended.wait()
    async with running(tmp_path, web(1), identity=True, connect=no_pilot, state_path=state) as rig:
        assert rig.agent.state == "LIVE"
        assert rig.agent.feed()["from_disk"]
        assert trio.current_time() >= 5
    assert "no certificate yet" in said.getvalue()
    assert 'trioweave_refused_total{where="identity",reason="no_certificate_yet"} 1' in (
        rig.agent.registry.exposition().decode()
    )


async def test_waiting_for_a_certificate_is_a_state_of_its_own(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        pilot = PilotRig(tmp_path, wall=wall)
        nursery.start_soon(pilot.fleet.run)
        feed = MemoryFeed(pilot.fleet, nursery)
        agent = Agent(bootstrap_of(), feed.connect, wall=wall, rng=random.Random(1), needs_identity=True)
        nursery.start_soon(agent.run)
        await until(lambda: agent.state == "INITIALIZING")
        nursery.cancel_scope.cancel()


async def test_an_admin_port_in_use_and_one_that_is_nobodys(tmp_path: Path) -> None:
    holder = listen("127.0.0.1", 0)
    try:
        with pytest.raises(MeshError, match="in use; choose another with --admin HOST:0"):
            await alone(admin_port=holder.port)
    finally:
        holder.close()
    with pytest.raises(MeshError, match=r"cannot bind the admin port 192\.0\.2\.1:0"):
        await alone(admin_address="192.0.2.1")


async def alone(**fields: Any) -> None:
    agent = Agent(
        bootstrap_of("sidecar", app_port=1, **fields), no_pilot, wall=wall, rng=random.Random(1), needs_identity=False
    )
    await agent.run()


async def test_the_access_log_and_its_unknown_operators(tmp_path: Path, said: io.StringIO) -> None:
    file = tmp_path / "access.log"
    settings = Settings(
        access_log_file=str(file), access_log_format="%REQ(:PATH)% %RESPONSE_CODE% %FILTER_STATE(a)%\n", drain_time=0.0
    )
    async with ScriptedUpstream().running() as upstream:
        async with running(tmp_path, web(upstream.port), settings=settings) as rig:
            await rig.get(b"/logged")
            rig.agent.leave()
            await rig.ended.wait()
    assert file.read_text() == "/logged 200 -\n"
    assert "an access log operator is not served" in said.getvalue()
    assert "FILTER_STATE" in said.getvalue()


async def test_a_name_that_does_not_resolve_is_counted_and_told(tmp_path: Path, said: io.StringIO) -> None:
    told = snapshot(
        http_listener(),
        routes_to(),
        cluster(discovery="dns"),
        config.ClusterEndpoints("app", (config.Endpoint("nowhere.invalid", 80),)),
    )
    async with running(tmp_path, told) as rig:
        await until(lambda: "a name does not resolve" in said.getvalue(), seconds=10)
        assert 'where="dns",reason="resolve_failed"' in rig.agent.registry.exposition().decode()


async def test_a_listener_that_cannot_be_bound_is_refused_with_the_remedy(tmp_path: Path) -> None:
    holder = listen("127.0.0.1", 0)
    try:
        told = snapshot(
            http_listener(), tcp_listener(("app", 1)), routes_to(), cluster(), config.ClusterEndpoints("app")
        )
        taken = config.Listener("taken", "gateway", "127.0.0.1", holder.port, told.listeners["web"].chains)
        told.listeners["taken"] = taken
        async with running(tmp_path, told) as rig:
            assert set(rig.agent.listeners()) == {"web", "raw"}
            [rejected] = rig.agent.feed()["rejected"]
            assert rejected[:2] == ["listener", "taken"]
            assert "--port-map" in rejected[2]
    finally:
        holder.close()
