"""Batches of changes, by numbers on a clock."""

from pilot.push.debounce import Debounce


def test_due_after_quiet() -> None:
    debounce = Debounce(0.1, 10.0)
    assert debounce.due is None
    debounce.note(5.0)
    assert debounce.due == 5.1
    assert debounce.take(5.05) == 0
    debounce.note(5.05)
    assert debounce.take(5.1) == 0
    assert debounce.since == 5.0
    assert debounce.take(5.15) == 2
    assert debounce.due is None
    assert debounce.take(99.0) == 0


def test_never_longer_than_the_longest() -> None:
    debounce = Debounce(0.1, 1.0)
    now = 0.0
    while not debounce.take(now):
        debounce.note(now)
        now += 0.0625
    assert 1.0 <= now < 1.1


def test_a_complete_change_goes_at_once_with_the_pending_ones() -> None:
    debounce = Debounce(0.1, 10.0)
    debounce.note(1.0)
    debounce.note(1.01, at_once=True)
    assert debounce.take(1.01) == 2
