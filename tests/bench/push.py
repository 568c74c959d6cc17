"""From a YAML change on disk until the last of ten agents has acked it.

The pilot stamps each agent's last ack; what is measured is the last stamp less the moment before the file was written,
both on this machine's wall clock, so that asking the pilot adds nothing.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.ours import LocalPilot, mesh_objects
from tests.bench.process import Died, free_port

AGENTS = 10
AIM_MS = 300
_DEADLINE = 10.0


def measure(folder: Path, *, changes: int) -> str:
    """A table row: the median over `changes` changes. Raises Died."""
    with contextlib.ExitStack() as running:
        mesh = running.enter_context(LocalPilot(folder, mesh_objects(), name="push-pilot"))
        agents = [
            running.enter_context(mesh.sidecar("app", free_port(), name=f"push-sidecar-{number}"))
            for number in range(AGENTS)
        ]
        for agent in agents:
            agent.ready_line(60)
        taken = [_change(mesh, number) for number in range(changes + 1)][1:]
    spread = f"{min(taken) * 1000:.0f} to {max(taken) * 1000:.0f}"
    median = statistics.median(taken) * 1000
    label = f"YAML change on disk to the last of {AGENTS} agents acked, ms: median of {changes} ({spread})"
    return f"| {label} | {median:.0f} | {AIM_MS} |"


def _change(mesh: LocalPilot, number: int) -> float:
    """Write another timeout into the VirtualService; seconds until the last agent acked it. Raises Died."""
    start = datetime.now(UTC).timestamp()
    objects = mesh_objects()
    routes = next(each for each in objects if each["kind"] == "VirtualService")
    routes["spec"]["http"][0]["timeout"] = f"{20 + number}s"
    new = mesh.mesh_file.with_suffix(".new")
    new.write_text("\n---\n".join(map(json.dumps, objects)) + "\n")
    new.replace(mesh.mesh_file)
    deadline = time.monotonic() + _DEADLINE
    acked: list[float] = []
    while time.monotonic() < deadline:
        acked = _last_acks(mesh.ready["dashboard"])
        if len(acked) == AGENTS and min(acked) >= start:
            time.sleep(0.3)  # a change of its own, not one merged into the next
            return max(acked) - start
        time.sleep(0.05)
    behind = AGENTS - sum(ack >= start for ack in acked)
    raise Died(mesh.program.epitaph(f"has {behind} of {AGENTS} agents that did not ack within {_DEADLINE:g} s"))


def _last_acks(dashboard: str) -> list[float]:
    with urllib.request.urlopen(f"{dashboard}/api/proxies", timeout=5) as answer:
        return [proxy["last_ack"] or 0.0 for proxy in json.load(answer)]
