"""The whole pilot on loopback: configuration on disk to agents, restarts, applied objects."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from agent.websocket import WebSocketWay
from mesh.config import Snapshot
from mesh.errors import MeshError
from mesh.feed.node import InboundPort
from mesh.telemetry.metrics import Registry
from pilot import pilot
from pilot.options import Address, Options
from pilot.pilot import Serving
from tests.feed_rig import DEADLINE, AgentRig, FakeLog, node

wall = time.time  # noqa: TID251  certificates are checked by OpenSSL against the real clock

SERVICE = """apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {selector: {app: reviews}, ports: [{port: 9080, name: http}]}
"""
RULE = """apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, trafficPolicy: {connectionPool: {tcp: {maxConnections: %d}}}}
"""
CLUSTER = "outbound|9080||reviews.default.svc.cluster.local"


class Pilot:
    """A pilot that runs; `metric` reads its registry."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.registry = Registry()
        self.log = FakeLog()
        self.serving: Serving

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Pilot"]:
        async with trio.open_nursery() as nursery:

            async def start(task_status: trio.TaskStatus[Serving]) -> None:
                await pilot.run(self.options, log=self.log, wall=wall, registry=self.registry, task_status=task_status)

            with trio.fail_after(DEADLINE):
                self.serving = await nursery.start(start)
            yield self
            nursery.cancel_scope.cancel()

    def agent(self, id: str, **fields: Any) -> AgentRig:
        state = self.options.state_dir
        way = WebSocketWay(self.serving.feed, wall=wall, token_file=state / "token", ca_file=state / "root-cert.pem")
        agent = AgentRig(id, way.connect, wall=wall)
        agent.client.node = node(id, **fields)
        return agent

    def metric(self, line: str) -> float:
        for text in self.registry.exposition().decode().splitlines():
            if text.startswith(line):
                return float(text.rsplit(" ", 1)[1])
        return 0.0


@pytest.fixture
def options(tmp_path: Path) -> Options:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "service.yaml").write_text(SERVICE)
    return Options((tmp_path / "config",), tmp_path / "state")


def reviews(port: int) -> dict[str, Any]:
    return {"service": "reviews", "labels": {"app": "reviews"}, "ports": (InboundPort(9080, "127.0.0.1", port),)}


def ports(snapshot: Snapshot) -> list[int]:
    found = snapshot.endpoints.get(CLUSTER)
    return sorted(each.port for each in found.endpoints) if found else []


async def test_from_disk_to_agents_and_back_to_good(options: Options) -> None:
    folder = options.config_dirs[0]
    async with Pilot(options).running() as running, trio.open_nursery() as nursery:
        agent = running.agent("sidecar~a.default")
        nursery.start_soon(agent.client.run)
        await agent.wait(lambda s: CLUSTER in s.clusters)
        (folder / "rule.yaml").write_text(RULE % 7)
        await agent.wait(lambda s: s.clusters[CLUSTER].breakers.max_connections == 7)
        (folder / "rule.yaml").write_text("kind: [broken")
        (folder / "service2.yaml").write_text(SERVICE.replace("reviews", "ratings"))
        got = await agent.wait(lambda s: any("ratings" in name for name in s.clusters))
        assert got.clusters[CLUSTER].breakers.max_connections == 7, "the last good version stays"
        await running.log.wait(lambda _, fields: "rule.yaml:" in str(fields.get("fault")))
        nursery.cancel_scope.cancel()


async def test_workloads_come_and_go(options: Options) -> None:
    async with Pilot(options).running() as running, trio.open_nursery() as nursery:
        asker, one = running.agent("asker"), running.agent("one", **reviews(1001))
        nursery.start_soon(asker.client.run)
        nursery.start_soon(one.client.run)
        await asker.wait(lambda s: ports(s) == [1001])
        await one.client.goodbye("drained")
        await asker.wait(lambda s: ports(s) == [])
        nursery.cancel_scope.cancel()


async def test_after_a_restart_no_agent_loses_a_living_workload(options: Options) -> None:
    async with trio.open_nursery() as nursery:
        async with Pilot(options).running() as first:
            agents = [first.agent("asker"), first.agent("r1", **reviews(1001)), first.agent("r2", **reviews(1002))]
            for agent in agents:
                nursery.start_soon(agent.client.run)
            for agent in agents:
                await agent.wait(lambda s: ports(s) == [1001, 1002])
            port = int(first.serving.feed.split(":")[2].split("/")[0])
        seen = [len(agent.snapshots) for agent in agents]
        again = Pilot(Options(options.config_dirs, options.state_dir, listen=Address("127.0.0.1", port)))
        async with again.running():
            await again.log.wait(lambda event, fields: event == "agent connected" and fields["resumed"], 3)
            assert again.metric("trioweave_resumed_sessions_total") == 3
            assert again.metric("trioweave_full_pushes_total") == 0
            for agent, count in zip(agents, seen, strict=True):
                assert all(ports(s) == [1001, 1002] for s in agent.snapshots[count:])
            nursery.cancel_scope.cancel()


async def test_ports_in_use_and_missing_folders_are_told(options: Options, tmp_path: Path) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    taken = Address("127.0.0.1", listener.socket.getsockname()[1])
    async with listener:
        cases = [
            (Options(options.config_dirs, options.state_dir, listen=taken), f"{taken} is in use.*--listen"),
            (Options(options.config_dirs, options.state_dir, dashboard=taken), "--dashboard"),
            (
                Options(options.config_dirs, options.state_dir, metrics=Address("192.0.2.1", 0)),
                "cannot listen.*--metrics",
            ),
            (Options((tmp_path / "none",), options.state_dir), "is not there"),
            (Options(options.config_dirs, options.state_dir, plaintext_feed=Address("0.0.0.0", 0)), "loopback"),
            (Options(options.config_dirs, options.state_dir, plaintext_feed=Address("example.com", 0)), "loopback"),
        ]
        for bad, says in cases:
            with pytest.raises(MeshError, match=says), trio.fail_after(DEADLINE):
                await pilot.run(bad, log=FakeLog(), wall=wall)


async def test_plaintext_feed_and_any_address(options: Options) -> None:
    loopback = Address("127.0.0.1", 0)
    open_ = Options(options.config_dirs, options.state_dir, listen=Address("0.0.0.0", 0), plaintext_feed=loopback)
    async with Pilot(open_).running() as running, trio.open_nursery() as nursery:
        assert running.serving.feed.startswith("wss://127.0.0.1:")
        assert running.serving.plaintext_feed.startswith("ws://127.0.0.1:")
        way = WebSocketWay(running.serving.plaintext_feed, wall=wall, token_file=options.state_dir / "token")
        agent = AgentRig("a", way.connect, wall=wall)
        nursery.start_soon(agent.client.run)
        await agent.wait(lambda s: CLUSTER in s.clusters)
        nursery.cancel_scope.cancel()


async def test_broken_registrations_do_not_stop_the_pilot(options: Options) -> None:
    options.state_dir.mkdir()
    (options.state_dir / "workloads.json").write_text("{")
    async with Pilot(options).running() as running:
        assert any("lost" in event for event, _ in running.log.lines)


async def test_in_memory(options: Options) -> None:
    async with trio.open_nursery() as nursery:

        async def start(task_status: Any) -> None:
            await pilot.run_in_memory(options, log=FakeLog(), wall=wall, task_status=task_status)

        feed = await nursery.start(start)
        agent = AgentRig("a", feed.connect, wall=wall)
        nursery.start_soon(agent.client.run)
        await agent.wait(lambda s: CLUSTER in s.clusters)
        with trio.fail_after(DEADLINE):
            assert "no certificate authority" in (await agent.client.sign(b"csr", 0.0)).error
        nursery.cancel_scope.cancel()
    assert not options.state_dir.exists()
