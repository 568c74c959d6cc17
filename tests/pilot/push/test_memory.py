"""The feed within one process."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from mesh.feed.transport import FeedClosed
from pilot.push.memory import MemoryFeed, memory_pair
from tests.feed_rig import NOW, AgentRig, cluster, memory_mesh, snapshot


async def test_closing_one_end_ends_the_other() -> None:
    one, two = memory_pair()
    await one.send(b"last")
    await one.ping()
    await one.close()
    assert await two.receive() == b"last"
    with pytest.raises(FeedClosed):
        await two.receive()
    with pytest.raises(FeedClosed):
        await two.send(b"x")
    with pytest.raises(FeedClosed):
        await one.receive()


async def test_an_agent_over_memory(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with memory_mesh(tmp_path) as mesh, trio.open_nursery() as nursery:
        feed = MemoryFeed(mesh.pilot.fleet, mesh.nursery)
        agent = AgentRig("gateway", feed.connect, wall=lambda: NOW)
        nursery.start_soon(agent.client.run)
        await agent.wait(lambda s: s == mesh.pilot.told)
        mesh.pilot.tell(snapshot(cluster("b")), at_once=True)
        await agent.wait(lambda s: list(s.clusters) == ["b"])
        nursery.cancel_scope.cancel()
