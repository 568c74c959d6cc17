"""How many cores this process may use: the scheduler's mask, and a container's quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2, as seen from inside


def usable_cores() -> int:
    """At least 1."""
    try:
        quota = parse_quota(_QUOTA.read_text(encoding="ascii"))
    except (OSError, ValueError):
        quota = math.inf
    return max(1, min(len(os.sched_getaffinity(0)), math.ceil(quota) if quota < math.inf else 1 << 30))


def parse_quota(text: str) -> float:
    """Cores of a `cpu.max`, `MICROSECONDS PERIOD` or `max PERIOD`. Raises ValueError for anything else."""
    quota, period = text.split()
    return math.inf if quota == "max" else int(quota) / int(period)
