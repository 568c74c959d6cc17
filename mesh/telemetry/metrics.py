"""Counters, gauges and histograms, and their Prometheus text form (exposition format 0.0.4).

A registry holds families; a family gives one series for each tuple of label pairs. The hot path keeps the series
that it needs and calls `inc` or `observe` on it: no look-up, no formatting, no lock (everything runs in one thread).
A family never holds more than `limit` series: what comes later shares one series labelled `overflow="true"`, and
`trioweave_metric_overflow_total` counts how often that one was handed out.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, pairwise
from math import inf
from typing import Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

Labels: TypeAlias = tuple[tuple[str, str], ...]
Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Merge: TypeAlias = Literal["sum", "max", "min"]
"""What several processes' values of one series are together."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OVERFLOW: Labels = (("overflow", "true"),)

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Sample(NamedTuple):
    """One line of the exposition: `name` has its suffix, `labels` is rendered (`a="1",b="2"`, escaped)."""

    name: str
    labels: str
    value: float


class Series(Protocol):
    """What a family keeps for one tuple of labels."""

    labels: str

    def samples(self, name: str) -> Iterator[Sample]: ...


S = TypeVar("S", bound=Series)


class Counter:
    """Only grows. `value` may be read at any time."""

    __slots__ = ("labels", "value")

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self.value: float = 0.0

    def inc(self, n: float = 1) -> None:
        self.value += n

    def samples(self, name: str) -> Iterator[Sample]:
        yield Sample(name, self.labels, self.value)


class Gauge:
    """Goes up and down, or is asked for at each scrape (`watch`)."""

    __slots__ = ("_callback", "_value", "labels")

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self._value: float = 0.0
        self._callback: Callable[[], float] | None = None

    @property
    def value(self) -> float:
        return self._value if self._callback is None else self._callback()

    def set(self, value: float) -> None:
        self._value = value

    def inc(self, n: float = 1) -> None:
        self._value += n

    def dec(self, n: float = 1) -> None:
        self._value -= n

    def watch(self, callback: Callable[[], float]) -> None:
        """Take the value from `callback` from now on; it must be quick and must not raise."""
        self._callback = callback

    def samples(self, name: str) -> Iterator[Sample]:
        yield Sample(name, self.labels, self.value)


class Histogram:
    """Observations counted by upper bounds; a value equal to a bound belongs to it."""

    __slots__ = ("_above", "_bounds", "_bucket", "_les", "_upto", "counts", "labels", "sum")

    def __init__(self, labels: str, bounds: tuple[float, ...], les: tuple[str, ...]) -> None:
        self.labels = labels
        self._bounds = bounds
        self._les = les
        self.counts = [0] * len(les)
        self.sum: float = 0.0
        # the bucket of the latest value, as the next one is often of the same
        self._bucket = 0
        self._above: float = -inf
        self._upto: float = bounds[0] if bounds else inf

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)

    def observe(self, value: float) -> None:
        if not self._above < value <= self._upto:
            bounds = self._bounds
            self._bucket = at = bisect_left(bounds, value)
            self._above = bounds[at - 1] if at else -inf
            self._upto = bounds[at] if at < len(bounds) else inf
        self.counts[self._bucket] += 1
        self.sum += value

    def samples(self, name: str) -> Iterator[Sample]:
        head = f"{self.labels}," if self.labels else ""
        bucket = name + "_bucket"
        for le, count in zip(self._les, accumulate(self.counts), strict=True):
            yield Sample(bucket, f'{head}le="{le}"', count)
        yield Sample(name + "_sum", self.labels, self.sum)
        yield Sample(name + "_count", self.labels, self.count)

    def lines(self, name: str) -> list[str]:
        """The text of `samples`, made in one pass: the buckets are most of what a scrape costs."""
        labels = self.labels
        head = f'{name}_bucket{{{labels}{"," if labels else ""}le="'
        lines = [f'{head}{le}"}} {n}\n' for le, n in zip(self._les, accumulate(self.counts), strict=True)]
        braced = f"{{{labels}}}" if labels else ""
        lines.append(f"{name}_sum{braced} {number(self.sum)}\n{name}_count{braced} {self.count}\n")
        return lines


class Family(Generic[S]):
    """All series of one metric name. `child` may be called at any time; keep what it returns."""

    def __init__(
        self,
        name: str,
        help: str,
        kind: Kind,
        make: Callable[[str], S],
        limit: int,
        overflowed: Callable[[str], None],
        merge: Merge = "sum",
    ) -> None:
        self.name = name
        self.help = help
        self.kind = kind
        self.merge = merge
        self._make = make
        self._limit = limit
        self._overflowed = overflowed
        self._series: dict[Labels, S] = {}
        self._overflow: S | None = None
        self._collectors: list[Callable[[], Iterable[tuple[Labels, float]]]] = []

    def __len__(self) -> int:
        return len(self._series) + (self._overflow is not None)

    def child(self, labels: Labels = ()) -> S:
        """The series of these labels, made on first use. Raises ValueError for a bad label name.

        Labels are equal only in the same order, so write each family's in one order.
        """
        series = self._series.get(labels)
        return self._add(labels) if series is None else series

    def _add(self, labels: Labels) -> S:
        if len(self._series) >= self._limit:
            self._overflowed(self.name)
            if self._overflow is None:
                self._overflow = self._make(render_labels(OVERFLOW))
            return self._overflow
        series = self._series[labels] = self._make(render_labels(labels))
        return series

    def remove(self, labels: Labels) -> None:
        """Forget a series whose subject is gone; who still holds it counts into nothing."""
        self._series.pop(labels, None)

    def collect(self, callback: Callable[[], Iterable[tuple[Labels, float]]]) -> None:
        """Add series that exist only while they are scraped: `callback` gives (labels, value) pairs, quickly.

        For gauges over things that come and go, such as the endpoints of a cluster.
        """
        if self.kind == "histogram":
            raise ValueError(f"{self.name} is a histogram; only counters and gauges can be collected")
        self._collectors.append(callback)

    def samples(self) -> Iterator[Sample]:
        """Every sample, series in order of birth."""
        for series in self._all():
            yield from series.samples(self.name)
        yield from self._collected()

    def items(self) -> Iterator[tuple[Labels, S]]:
        """Labels and series in order of birth; the series that overflow shares comes last, as OVERFLOW."""
        yield from self._series.items()
        if self._overflow is not None:
            yield OVERFLOW, self._overflow

    def _all(self) -> Iterator[S]:
        yield from self._series.values()
        if self._overflow is not None:
            yield self._overflow

    def _collected(self) -> Iterator[Sample]:
        left = self._limit - len(self._series)
        for callback in self._collectors:
            for labels, value in callback():
                if left <= 0:
                    self._overflowed(self.name)
                    return
                left -= 1
                yield Sample(self.name, render_labels(labels), value)

    def render(self, out: list[str]) -> None:
        """Append the family's text to `out`; nothing when it has no series."""
        lines: list[str] = []
        for series in self._all():
            if isinstance(series, Histogram):
                lines.extend(series.lines(self.name))
            else:
                lines.extend(line(sample) for sample in series.samples(self.name))
        lines.extend(line(sample) for sample in self._collected())
        if lines:
            out.append(preamble(self.name, self.help, self.kind))
            out.extend(lines)


class Registry:
    """Families by name. `limit` bounds the series of each family."""

    def __init__(self, limit: int = 2000) -> None:
        self._limit = limit
        self._families: dict[str, Family[Counter] | Family[Gauge] | Family[Histogram]] = {}
        self._bounds: dict[str, tuple[float, ...]] = {}
        self._refusals = self.counter(
            "trioweave_metric_overflow_total",
            "Times that a metric had no room for a new series and used its overflow series.",
        )
        self._scrape_bytes = self.gauge("trioweave_scrape_bytes", "Size of the previous exposition.").child()

    def counter(self, name: str, help: str) -> Family[Counter]:
        """Get or make a counter family; `name` is exposed as given. Raises ValueError for a bad or taken name."""
        return self._family(name, help, "counter", Counter)

    def gauge(self, name: str, help: str, *, merge: Merge = "sum") -> Family[Gauge]:
        """Get or make a gauge family. `merge` says what workers of one agent are together: what each has of its own
        is summed, what all see of the same thing is not. Raises ValueError for a bad or taken name."""
        return self._family(name, help, "gauge", Gauge, merge)

    def histogram(self, name: str, help: str, buckets: Iterable[float]) -> Family[Histogram]:
        """Get or make a histogram family with these upper bounds, +Inf is implied.

        Raises ValueError for a bad or taken name, or bounds that are empty or do not grow.
        """
        bounds = tuple(buckets)
        if not bounds or any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(f"{name}: bucket bounds must be growing numbers, not {bounds}")
        if self._bounds.setdefault(name, bounds) != bounds:
            raise ValueError(f"{name} exists with the bounds {self._bounds[name]}")
        les = (*(number(bound) for bound in bounds), "+Inf")
        return self._family(name, help, "histogram", lambda labels: Histogram(labels, bounds, les))

    def _family(self, name: str, help: str, kind: Kind, make: Callable[[str], S], merge: Merge = "sum") -> Family[S]:
        if not _METRIC_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no metric name; letters, digits, _ and : only")
        known = self._families.get(name)
        if known is None:
            family = Family(name, help, kind, make, self._limit, self._overflowed, merge)
            self._families[name] = family  # type: ignore[assignment]
            return family
        if known.kind != kind:
            raise ValueError(f"{name} exists as a {known.kind}")
        return known  # type: ignore[return-value]

    def _overflowed(self, name: str) -> None:
        if name != "trioweave_metric_overflow_total":
            self._refusals.child((("metric", name),)).inc()

    def families(self) -> Iterator[Family[Counter] | Family[Gauge] | Family[Histogram]]:
        """Every family, by name."""
        for name in sorted(self._families):
            yield self._families[name]

    def exposition(self) -> bytes:
        """Everything in text format 0.0.4 (send it as CONTENT_TYPE)."""
        out: list[str] = []
        for family in self.families():
            family.render(out)
        text = "".join(out).encode("utf-8", "replace")
        self._scrape_bytes.set(len(text))
        return text


def number(value: float) -> str:
    """A value as the format writes it: `3`, `0.5`, `+Inf`, `-Inf`, `NaN`."""
    if isinstance(value, int):
        return str(value)
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def render_labels(labels: Labels) -> str:
    """`a="1",b="2"` with values escaped. Raises ValueError for a bad label name."""
    for name, _ in labels:
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no label name; letters, digits and _ only, and not __ in front")
    return ",".join([f'{name}="{value.translate(_LABEL_ESCAPES)}"' for name, value in labels])


def preamble(name: str, help: str, kind: Kind) -> str:
    """The two lines before a family's samples."""
    return f"# HELP {name} {help.translate(_HELP_ESCAPES)}\n# TYPE {name} {kind}\n"


def line(sample: Sample) -> str:
    """One sample as a line."""
    name, labels, value = sample
    return f"{name}{{{labels}}} {number(value)}\n" if labels else f"{name} {number(value)}\n"
