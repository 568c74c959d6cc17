"""Sums that outlive who counted them."""

from mesh.telemetry.families import FamilyData, dump
from mesh.telemetry.metrics import Registry
from mesh.workers.scrapes import Scrapes


def counted(requests: int) -> list[FamilyData]:
    registry = Registry()
    registry.counter("requests_total", "Requests.").child().inc(requests)
    registry.gauge("open", "Open.").child().set(requests)
    return dump(registry)


def totals(scrapes: Scrapes) -> tuple[float, float]:
    found = {s.name: s.value for family in scrapes.families() for s in family.samples()}
    return found.get("requests_total", 0), found.get("open", 0)


def test_counters_do_not_go_back_when_a_worker_dies_and_gauges_do() -> None:
    scrapes = Scrapes()
    scrapes.told(0, 1, counted(5))
    scrapes.told(1, 1, counted(7))
    assert totals(scrapes) == (12, 12)
    scrapes.died(0, 1)
    assert totals(scrapes) == (12, 7)
    scrapes.told(0, 2, counted(1))
    assert totals(scrapes) == (13, 8)
    scrapes.died(0, 2)
    assert totals(scrapes) == (13, 7)


def test_a_newer_answer_replaces_and_none_leaves_the_last() -> None:
    scrapes = Scrapes()
    scrapes.told(0, 1, counted(5))
    scrapes.told(0, 1, counted(6))
    assert totals(scrapes) == (6, 6)


def test_the_last_words_of_the_dead_that_come_late_are_not_counted_twice() -> None:
    scrapes = Scrapes()
    scrapes.told(0, 1, counted(5))
    scrapes.died(0, 1)
    scrapes.told(0, 1, counted(6))
    assert totals(scrapes) == (5, 0)


def test_the_parents_own_are_with_them() -> None:
    assert {"open", "requests_total"} <= {family.name for family in Scrapes().families(counted(1))}
