from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mesh.telemetry.metrics import Labels, Registry, number, render_labels


def read(registry: Registry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample as Prometheus would read it."""
    text = registry.exposition().decode()
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def kinds(registry: Registry) -> dict[str, str]:
    return {family.name: family.type for family in text_string_to_metric_families(registry.exposition().decode())}


def test_counters_and_gauges_are_read_back() -> None:
    registry = Registry()
    requests = registry.counter("istio_requests_total", "Requests.")
    requests.child((("code", "200"),)).inc()
    requests.child((("code", "200"),)).inc(2)
    requests.child((("code", "503"),)).inc()
    gauge = registry.gauge("open", "Open now.").child()
    gauge.inc(5)
    gauge.dec(2)
    samples = read(registry)
    assert samples["istio_requests_total", (("code", "200"),)] == 3
    assert samples["istio_requests_total", (("code", "503"),)] == 1
    assert samples["open", ()] == 3
    assert kinds(registry)["open"] == "gauge"


def test_a_counter_keeps_the_name_it_was_given() -> None:
    registry = Registry()
    registry.counter("envoy_cluster_upstream_cx_connect_fail", "Failures.").child().inc()
    assert b"\nenvoy_cluster_upstream_cx_connect_fail 1\n" in registry.exposition()


def test_histogram_buckets_are_cumulative_and_bounds_inclusive() -> None:
    registry = Registry()
    family = registry.histogram("ms", "Durations.", (0.5, 1, 5))
    child = family.child((("a", "b"),))
    for value in (0.2, 0.5, 0.7, 5, 6):
        child.observe(value)
    samples = read(registry)
    buckets = {labels[1][1]: value for (name, labels), value in samples.items() if name == "ms_bucket"}
    assert buckets == {"0.5": 2, "1": 3, "5": 4, "+Inf": 5}
    assert samples["ms_count", (("a", "b"),)] == 5
    assert samples["ms_sum", (("a", "b"),)] == pytest.approx(12.4)
    assert kinds(registry)["ms"] == "histogram"
    assert child.count == 5


def test_a_histogram_without_labels_and_its_samples_agree_with_its_text() -> None:
    registry = Registry()
    registry.histogram("s", "Seconds.", (1,)).child().observe(0.5)
    lines = registry.exposition().decode().splitlines()
    for family in registry.families():
        for sample in family.samples():
            text = f"{{{sample.labels}}}" if sample.labels else ""
            assert sample.name == "trioweave_scrape_bytes" or f"{sample.name}{text} {number(sample.value)}" in lines


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_label_value_and_help_keep_the_format_readable(value: str, help: str) -> None:
    registry = Registry()
    registry.counter("a_total", help).child((("k", value), ("z", "end"))).inc(7)
    lines = [line for line in registry.exposition().decode().split("\n") if line.startswith("a_total")]
    assert len(lines) == 1
    # the reference parser unescapes one after the other, so a literal backslash before an n is outside its means
    if "\\" not in value:
        assert read(registry)["a_total", (("k", value), ("z", "end"))] == 7


def test_a_backslash_in_a_label_is_doubled() -> None:
    assert render_labels((("k", 'a\\n"\n'),)) == 'k="a\\\\n\\"\\n"'


def test_beyond_the_limit_one_overflow_series_takes_the_rest_and_is_counted() -> None:
    registry = Registry(limit=2)
    family = registry.counter("a_total", "A.")
    for n in range(5):
        family.child((("n", str(n)),)).inc()
    samples = read(registry)
    assert samples["a_total", (("overflow", "true"),)] == 3
    assert samples["trioweave_metric_overflow_total", (("metric", "a_total"),)] == 3
    assert len(family) == 3
    assert family.child((("n", "1"),)).value == 1, "series that exist stay reachable"


def test_the_overflow_counter_itself_is_bounded() -> None:
    registry = Registry(limit=1)
    for name in ("a", "b", "c"):
        family = registry.counter(name, "")
        family.child((("n", "1"),))
        family.child((("n", "2"),))
    assert len([line for line in registry.exposition().splitlines() if line.startswith(b"trioweave_metric_over")]) == 2


def test_a_removed_series_is_gone_and_begins_at_zero_again() -> None:
    registry = Registry()
    family = registry.counter("a_total", "A.")
    labels: Labels = (("n", "1"),)
    family.child(labels).inc()
    family.remove(labels)
    family.remove(labels)
    assert ("a_total", labels) not in read(registry)
    assert family.child(labels).value == 0


def test_gauges_may_be_asked_for_at_each_scrape() -> None:
    registry = Registry()
    things = [1, 2, 3]
    registry.gauge("things", "Things.").child().watch(lambda: len(things))
    per_thing = registry.gauge("thing", "Each thing.")
    per_thing.collect(lambda: [((("id", str(thing)),), thing) for thing in things])
    assert read(registry)["things", ()] == 3
    things.pop()
    samples = read(registry)
    assert samples["things", ()] == 2
    assert [labels for name, labels in samples if name == "thing"] == [(("id", "1"),), (("id", "2"),)]


def test_collected_series_are_bounded_too() -> None:
    registry = Registry(limit=2)
    registry.gauge("thing", "T.").collect(lambda: [((("id", str(n)),), n) for n in range(9)])
    assert sum(name == "thing" for name, _ in read(registry)) == 2
    assert read(registry)["trioweave_metric_overflow_total", (("metric", "thing"),)] >= 1


def test_asking_twice_gives_the_same_family_and_another_kind_is_an_error() -> None:
    registry = Registry()
    assert registry.counter("a", "A.") is registry.counter("a", "other words")
    with pytest.raises(ValueError, match="a exists as a counter"):
        registry.gauge("a", "A.")
    registry.histogram("h", "H.", (1, 2))
    with pytest.raises(ValueError, match="exists with the bounds"):
        registry.histogram("h", "H.", (1, 3))


@pytest.mark.parametrize("bounds", [(), (2, 1), (1, 1)])
def test_bounds_must_grow(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="growing"):
        Registry().histogram("h", "H.", bounds)


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "ä"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no metric name"):
        Registry().counter(name, "")
    with pytest.raises(ValueError, match="no label name"):
        Registry().counter("a", "").child(((name, "x"),))


def test_a_histogram_cannot_be_collected() -> None:
    with pytest.raises(ValueError, match="histogram"):
        Registry().histogram("h", "H.", (1,)).collect(list)


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (3.0, "3"), (0.5, "0.5"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (1e300, "1e+300")],
)
def test_numbers_are_written_as_prometheus_reads_them(value: float, text: str) -> None:
    assert number(value) == text


def test_an_empty_family_is_not_exposed_and_the_size_of_a_scrape_is() -> None:
    registry = Registry()
    registry.counter("never_total", "N.")
    first = registry.exposition()
    assert b"never_total" not in first
    assert read(registry)["trioweave_scrape_bytes", ()] == len(first)
