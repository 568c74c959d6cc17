"""Requests that one agent has reported in its session, summed up: who asked whom, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mesh.feed.message import RequestStatistics

MAX_ROWS = 4096
"""Of one agent: twice as many as it can tell apart itself (a metric has 2000 series)."""


class Traffic:
    """Sums since the session began."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str, int, str], RequestStatistics] = {}

    def add(self, news: Iterable[RequestStatistics]) -> int:
        """Add what came with a report; returns how many rows found no room."""
        left_out = 0
        for row in news:
            key = (row.source, row.destination, row.destination_workload, row.response_class, row.reporter)
            known = self._rows.get(key)
            if known is None:
                if len(self._rows) >= MAX_ROWS:
                    left_out += 1
                    continue
                self._rows[key] = row
                continue
            self._rows[key] = msgspec.structs.replace(
                known,
                requests=known.requests + row.requests,
                errors=known.errors + row.errors,
                latency_sum=known.latency_sum + row.latency_sum,
            )
        return left_out

    @property
    def rows(self) -> list[RequestStatistics]:
        """The sums, in order of first sight."""
        return list(self._rows.values())
