"""One side of a comparison: where to send, and whose CPU and memory count."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.certificates import Certificates
from tests.bench.load import Target
from tests.bench.process import Program, cpu_seconds, rss_bytes


@dataclass(frozen=True)
class Subject:
    """`measured` are the proxies (both of a sidecar path); `running` all that must be ended.

    `bulk` is a port by which bytes go to the sink of `tests/bench/bulk.py`; 0 where nothing is poured. `inbound` is the
    mTLS port of a sidecar path's server side, the first of `measured`; `certificates` are of a client that it trusts.
    """

    name: str
    target: Target
    measured: tuple[Program, ...]
    running: tuple[Program, ...]
    bulk: int = 0
    inbound: int = 0
    certificates: Certificates | None = None

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(program.pid) for program in self.measured)

    def rss_bytes(self) -> int:
        return sum(rss_bytes(program.pid) for program in self.measured)

    def alive(self) -> None:
        for program in self.running:
            program.alive()


@contextlib.contextmanager
def ending(*subjects: Subject) -> Iterator[None]:
    """End every program of the subjects, last born first."""
    try:
        yield
    finally:
        for subject in subjects:
            for program in reversed(subject.running):
                program.stop()
