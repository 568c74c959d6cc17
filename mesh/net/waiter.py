"""A place where one task or strand waits until another lets it go on; made once, used again and again."""

from __future__ import annotations

from typing import Any

import trio
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

from mesh.net.strand import Strand, park, running


class Waiter:
    """What a trio.Event does for one waiter, without a new event for every wait. A wake that finds nobody is lost."""

    __slots__ = ("_strand", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._strand: Strand | None = None

    async def wait(self) -> None:
        """Wait for the next `wake`. Raises trio.BusyResourceError when somebody waits already."""
        if self._task is not None or self._strand is not None:
            raise trio.BusyResourceError("another task waits here")
        strand = running.strand
        if strand is not None:
            self._strand = strand
            await park()
            return
        self._task = current_task()
        await wait_task_rescheduled(self._give_up)

    def _give_up(self, raise_cancel: Any) -> Abort:
        self._task = None
        return Abort.SUCCEEDED

    def wake(self) -> None:
        """Let the one who waits, if there is one, go on."""
        waiting = self._strand
        if waiting is not None:
            self._strand = None
            waiting.ready()
            return
        task = self._task
        if task is not None:
            self._task = None
            reschedule(task)
