"""The turns: every subject is measured in every round, and the order turns round each time."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.bulk import pour
from tests.bench.load import LoadError, saturate, steady
from tests.bench.subject import Subject

RATE = 500


@dataclass(frozen=True)
class Plan:
    """How long: seconds of each burst and of each steady run, bytes of each bulk, and how many rounds."""

    rounds: int = 5
    burst: float = 6.0
    steady: float = 6.0
    bulk: int = 4 << 30


@dataclass
class Figures:
    """One subject's figures, one entry a round; RSS in bytes after the load."""

    name: str
    idle_rss: int = 0
    rss: int = 0
    per_cpu_second: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    bytes_per_cpu_second: list[float] = field(default_factory=list)
    bytes_per_second: list[float] = field(default_factory=list)
    failed: int = 0

    def median(self, what: str) -> float:
        return float(statistics.median(getattr(self, what)))


def compare(subjects: list[Subject], plan: Plan, folder: Path) -> list[Figures]:
    """Figures of each subject, in the order given. Raises LoadError or Died."""
    figures = {subject.name: Figures(subject.name, idle_rss=subject.rss_bytes()) for subject in subjects}
    for subject in subjects:
        saturate(subject.target, folder, seconds=1)
    for number in range(plan.rounds):
        for subject in subjects if number % 2 == 0 else reversed(subjects):
            _burst(subject, figures[subject.name], plan, folder)
        for subject in subjects if number % 2 == 0 else reversed(subjects):
            _steady(subject, figures[subject.name], plan, folder)
        for subject in subjects if number % 2 == 0 else reversed(subjects):
            if subject.bulk:
                _bulk(subject, figures[subject.name], plan)
    for subject in subjects:
        figures[subject.name].rss = subject.rss_bytes()
    return [figures[subject.name] for subject in subjects]


def _burst(subject: Subject, figures: Figures, plan: Plan, folder: Path) -> None:
    before = subject.cpu_seconds()
    burst = saturate(subject.target, folder, seconds=plan.burst)
    spent = subject.cpu_seconds() - before
    subject.alive()
    if spent <= 0 or burst.requests == 0:
        raise LoadError(f"{subject.name} answered {burst.requests} requests in {spent} CPU seconds")
    figures.per_cpu_second.append((burst.requests - burst.failed) / spent)
    figures.per_second.append(burst.per_second)
    figures.failed += burst.failed


def _steady(subject: Subject, figures: Figures, plan: Plan, folder: Path) -> None:
    seen = steady(subject.target, folder, rate=RATE, seconds=plan.steady)
    subject.alive()
    figures.p50.append(seen.p50)
    figures.p99.append(seen.p99)
    figures.failed += seen.failed


def _bulk(subject: Subject, figures: Figures, plan: Plan) -> None:
    before = subject.cpu_seconds()
    poured = pour(subject.bulk, plan.bulk)
    spent = max(subject.cpu_seconds() - before, 0.01)
    subject.alive()
    figures.bytes_per_cpu_second.append(poured.size / spent)
    figures.bytes_per_second.append(poured.size / poured.seconds)
