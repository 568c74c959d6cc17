"""Several registries as one."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mesh.telemetry.families import FamilyData, dump, exposition, growing, merged
from mesh.telemetry.metrics import Registry


def counted(requests: int, open_now: int, *durations: float) -> Registry:
    registry = Registry()
    registry.counter("requests_total", "Requests.").child((("code", "200"),)).inc(requests)
    registry.gauge("open", "Open now.").child().set(open_now)
    registry.gauge("known", "Endpoints known.", merge="max").child().set(open_now)
    registry.gauge("left", "Seconds left.", merge="min").child().set(open_now)
    histogram = registry.histogram("ms", "Durations.", (1, 5)).child()
    for duration in durations:
        histogram.observe(duration)
    return registry


def values(families: list[FamilyData]) -> dict[str, float]:
    return {f"{s.name}{{{s.labels}}}": s.value for family in families for s in family.samples()}


def test_one_registrys_dump_draws_as_the_registry_does() -> None:
    registry = counted(3, 2, 0.5, 7)
    families = msgspec.msgpack.decode(msgspec.msgpack.encode(dump(registry)), type=list[FamilyData])
    assert exposition(families) == registry.exposition()


def test_counters_and_histograms_are_summed_and_gauges_as_they_say() -> None:
    found = values(merged([dump(counted(3, 2, 0.5)), dump(counted(4, 7, 0.7, 9))]))
    assert found['requests_total{code="200"}'] == 7
    assert (found["open{}"], found["known{}"], found["left{}"]) == (9, 7, 2)
    assert [found[f'ms_bucket{{le="{le}"}}'] for le in ("1", "5", "+Inf")] == [2, 2, 3]
    assert (found["ms_count{}"], found["ms_sum{}"]) == (3, 0.5 + 0.7 + 9)


def test_what_only_one_has_stays() -> None:
    one, other = Registry(), Registry()
    one.counter("a", "A.").child().inc()
    other.counter("b", "B.").child().inc(2)
    found = values(merged([dump(one), dump(other)]))
    assert (found["a{}"], found["b{}"]) == (1, 2)


def test_what_grows_is_kept_without_gauges() -> None:
    assert {family.name for family in growing(dump(counted(1, 1, 1)))} == {"requests_total", "ms"}


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5))
def test_the_order_of_merging_does_not_matter(requests: list[int]) -> None:
    dumps = [dump(counted(each, each)) for each in requests]
    assert values(merged(dumps)) == values(merged([merged(dumps[1:]), dumps[0]]))
