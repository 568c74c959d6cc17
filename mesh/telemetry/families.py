"""What a registry holds, as data: to be sent to another process, merged with that of others, and drawn.

Counters and histograms are summed, gauges as their family says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from msgspec import Struct

from mesh.telemetry.metrics import Kind, Merge, Registry, Sample, line, preamble


class SampledFamily(Protocol):
    """A family of a registry, or FamilyData."""

    def samples(self) -> Iterator[Sample]: ...


class FamilyData(Struct, array_like=True):
    """All samples of one family. `values` in order of birth."""

    name: str
    help: str
    kind: Kind
    merge: Merge
    values: list[Sample]

    def samples(self) -> Iterator[Sample]:
        """Every sample."""
        return iter(self.values)


def dump(registry: Registry) -> list[FamilyData]:
    """All families that have samples, by name."""
    families = [
        FamilyData(family.name, family.help, family.kind, family.merge, [*family.samples()])
        for family in registry.families()
    ]
    return [family for family in families if family.values]


def merged(dumps: Iterable[Iterable[FamilyData]]) -> list[FamilyData]:
    """One family of each name, by name; equal samples become one."""
    families: dict[str, FamilyData] = {}
    values: dict[str, dict[tuple[str, str], float]] = {}
    for family in (family for each in dumps for family in each):
        families.setdefault(family.name, family)
        known = values.setdefault(family.name, {})
        for name, labels, value in family.values:
            key = (name, labels)
            known[key] = _merge(family.merge, known[key], value) if key in known else value
    return [
        FamilyData(
            name, first.help, first.kind, first.merge, [Sample(*key, value) for key, value in values[name].items()]
        )
        for name, first in sorted(families.items())
    ]


def _merge(how: Merge, one: float, other: float) -> float:
    return one + other if how == "sum" else max(one, other) if how == "max" else min(one, other)


def growing(families: Iterable[FamilyData]) -> list[FamilyData]:
    """Those that only grow: what remains of a process that is no more."""
    return [family for family in families if family.kind != "gauge"]


def exposition(families: Iterable[FamilyData]) -> bytes:
    """In Prometheus' text format 0.0.4."""
    out: list[str] = []
    for family in families:
        out.append(preamble(family.name, family.help, family.kind))
        out.extend(line(sample) for sample in family.samples())
    return "".join(out).encode("utf-8", "replace")
