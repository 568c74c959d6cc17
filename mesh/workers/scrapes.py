"""What the workers have counted, as one: the sums of the living, and what the dead had counted when last asked.

So a counter never goes back when a worker dies; what the dead one counted after the last scrape is lost.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh.telemetry.families import FamilyData, growing, merged


class Scrapes:
    """The newest answer of each worker, and the counters of those that are no more."""

    def __init__(self) -> None:
        self._newest: dict[int, list[FamilyData]] = {}
        self._buried: dict[int, int] = {}
        self._left: list[FamilyData] = []

    def told(self, worker: int, generation: int, families: list[FamilyData]) -> None:
        """A worker's process has answered. One that is known to be dead counts no more."""
        if generation > self._buried.get(worker, 0):
            self._newest[worker] = families

    def died(self, worker: int, generation: int) -> None:
        """That process is dead: keep what it had counted."""
        self._buried[worker] = generation
        self._left = merged([self._left, growing(self._newest.pop(worker, []))])

    def families(self, own: Iterable[FamilyData] = ()) -> list[FamilyData]:
        """All together, with the parent's own."""
        return merged([own, *(self._newest[worker] for worker in sorted(self._newest)), self._left])
