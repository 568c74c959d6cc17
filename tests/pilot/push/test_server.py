"""The feed's network door: real wss on loopback."""

import time
from pathlib import Path

import trio

from tests.feed_rig import AgentRig, PilotRig, cluster, snapshot, way

wall = time.time  # noqa: TID251  certificates are checked by OpenSSL against the real clock


async def test_agent_gets_a_snapshot(tmp_path: Path) -> None:
    async with PilotRig(tmp_path, wall=wall).running() as pilot, trio.open_nursery() as nursery:
        agent = AgentRig("sidecar~a.default", way(pilot).connect, wall=wall)
        nursery.start_soon(agent.client.run)
        got = await agent.wait(lambda s: "a" in s.clusters)
        assert got == pilot.told
        pilot.tell(snapshot(cluster("a"), cluster("b")), at_once=True)
        await agent.wait(lambda s: "b" in s.clusters)
        nursery.cancel_scope.cancel()
