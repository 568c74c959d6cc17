"""One status of an agent, whatever the number of its workers."""

from pathlib import Path

import trio
import trio.testing
from trio.testing import MockClock

from mesh.feed.message import Ack, Ejection, Hello, Nack, Push, Rejected, Report, RequestStatistics, Welcome
from pilot.proxy_status import health_of, proxy_statuses, rejections
from tests.feed_rig import cluster, memory_mesh, node, snapshot


async def test_the_worst_of_the_workers_is_the_agents(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        mesh.pilot.told = snapshot(cluster("a"))
        first, second, other = mesh.peer(), mesh.peer(), mesh.peer()
        await first.join("a", 0, 3)
        await second.send(Hello(node("a"), worker=1, workers=3))
        await second.expect(Welcome)
        push = await second.expect(Push)
        await other.join("b")
        await trio.testing.wait_all_tasks_blocked()
        status, single = proxy_statuses(mesh.pilot.fleet.sessions)
        assert (status.id, status.workers, status.workers_wanted) == ("a", 2, 3)
        assert (single.id, single.workers, single.workers_wanted) == ("b", 1, 1)
        assert status.sync["cluster"]["state"] == "STALE"
        assert status.last_ack is None
        await second.send(Ack(push.nonce))
        await trio.testing.wait_all_tasks_blocked()
        status, _ = proxy_statuses(mesh.pilot.fleet.sessions)
        assert status.sync["cluster"]["state"] == "SYNCED"
        assert status.last_ack is not None


async def test_equal_refusals_are_told_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        mesh.pilot.told = snapshot(cluster("a"))
        for worker in range(2):
            peer = mesh.peer()
            await peer.send(Hello(node("a"), worker=worker, workers=2))
            await peer.expect(Welcome)
            push = await peer.expect(Push)
            await peer.send(Nack(push.nonce, (Rejected("cluster", "a", "no"),)))
        await trio.testing.wait_all_tasks_blocked()
        told = {"proxy": "a", "kind": "cluster", "name": "a", "reason": "no"}
        assert rejections(mesh.pilot.fleet.sessions) == [told]
        (status,) = proxy_statuses(mesh.pilot.fleet.sessions)
        assert status.nacks == [{"kind": "cluster", "name": "a", "reason": "no"}]
        assert status.sync["cluster"]["state"] == "ERROR"


async def test_reports_are_put_together(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh:
        peers = [mesh.peer(), mesh.peer()]
        asked = RequestStatistics("a", "b.test", 2, 1, 0.5)
        for worker, peer in enumerate(peers):
            await peer.join("a", worker, 2)
            gone = Ejection("c", "10.0.0.1", 80, "consecutive_5xx", 9.0 + worker)
            await peer.send(Report(("healthy", "unhealthy")[worker], (gone,), (asked,), 50.0 + worker))
        await trio.testing.wait_all_tasks_blocked()
        sessions = mesh.pilot.fleet.sessions
        (status,) = proxy_statuses(sessions)
        assert (status.health, status.certificate_expiry) == ("unhealthy", 50.0)
        assert len(status.ejections) == 1
        assert [row["requests"] for row in status.requests] == [4]
        assert health_of(sessions[:1]) == "healthy"
        assert health_of([]) == ""
