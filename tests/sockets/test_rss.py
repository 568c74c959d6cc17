"""What an idle sidecar costs in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sockets.mesh_rig import Program, SmallMesh

IDLE_RSS_KIB = 45 * 1024
FLAGS = ("--service", "idle", "--app-port", "0")


def resident_kib(pid: int) -> int:
    """VmRSS of one process."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1])


@pytest.mark.slow
def test_an_idle_sidecar_stays_under_45_mb(mesh: SmallMesh) -> None:
    idle = Program("agent", "sidecar", "--pilot", mesh.pilot.ready["feed"], *mesh.secrets(), *FLAGS)
    try:
        idle.wait_ready()
        measured = resident_kib(idle.pid)
    finally:
        idle.kill()
    assert measured <= IDLE_RSS_KIB, f"{measured / 1024:.1f} MB"
