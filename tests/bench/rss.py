"""Memory of an idle sidecar: VmRSS of the agent's process tree, some time after its ready line."""

from __future__ import annotations

import time
from pathlib import Path

from tests.bench.ours import LocalPilot, mesh_objects
from tests.bench.process import free_port, rss_bytes

AIM_MIB = 45


def measure(folder: Path, *, idle: float) -> str:
    """A table row: the sidecar's RSS after `idle` seconds without traffic. Raises Died."""
    with LocalPilot(folder, mesh_objects(), name="rss-pilot") as mesh:
        with mesh.sidecar("app", free_port(), name="rss-sidecar") as agent:
            agent.ready_line()
            time.sleep(idle)
            agent.alive()
            mib = rss_bytes(agent.pid) / 2**20
    return f"| sidecar RSS {idle:g} s after ready, MiB | {mib:.1f} | {AIM_MIB} |"
