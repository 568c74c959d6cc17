"""A supervisor over fake workers, for the tests of this folder."""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from mesh.telemetry.metrics import Registry
from mesh.workers.supervisor import Supervisor
from tests.feed_rig import FakeLog

DEADLINE = 30.0
PROGRAM = (sys.executable, str(Path(__file__).parent / "fake_worker.py"))


class Parent:
    """`ready` is what the supervisor was started with."""

    def __init__(self, workers: int = 2, **orders: Any) -> None:
        self.log = FakeLog()
        self.registry = Registry()
        self.orders: dict[int, dict[str, Any]] = {index: {"index": index, **orders} for index in range(workers)}
        self.ready: dict[str, Any] | None = None
        self.supervisor = Supervisor(
            PROGRAM,
            lambda index: self.orders[index],
            workers=workers,
            drain_time=0.0,
            rng=random.Random(1),
            log=self.log,
            registry=self.registry,
        )

    async def until(self, true: Callable[[], object]) -> None:
        """Look again and again."""
        with trio.fail_after(DEADLINE):
            while not true():  # noqa: ASYNC110 - what it looks at is in other processes
                await trio.sleep(0.01)

    def deaths(self, reason: str) -> float:
        for family in self.registry.families():
            if family.name == "trioweave_worker_deaths_total":
                return sum(s.value for s in family.samples() if reason in s.labels)
        return 0


@asynccontextmanager
async def running(parent: Parent) -> AsyncIterator[Parent]:
    """Ready, and ended after."""
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            parent.ready = await nursery.start(parent.supervisor.run)
            yield parent
            parent.supervisor.leave()
