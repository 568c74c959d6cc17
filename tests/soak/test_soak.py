"""A short slice of what `make soak` does at length, and the judge of its outcome."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from tests.soak.soak import RSS_ALLOWANCE, Held, Outcome, soak


@pytest.mark.slow
async def test_gateway_holds_no_more_after_load_than_before(tmp_path: Path) -> None:
    with trio.fail_after(90):
        outcome = await soak(4.0, tmp_path)
    assert outcome.complaints() == []


BEFORE = Held(tasks=10, files=20, rss=40 * 2**20)
GOOD = Outcome(BEFORE, BEFORE, Counter({"polite 200": 100, "nonsense 400": 3, "hung up in head": 5}))


def test_a_clean_outcome_has_no_complaint() -> None:
    assert GOOD.complaints() == []


@pytest.mark.parametrize(
    ("after", "seen", "word"),
    [
        (replace(BEFORE, tasks=11), {}, "tasks grew"),
        (replace(BEFORE, files=21), {}, "descriptors grew"),
        (replace(BEFORE, rss=BEFORE.rss + RSS_ALLOWANCE + 1), {}, "memory grew"),
        (BEFORE, {"polite 503": 1}, "100 good, 1 not"),
        (BEFORE, {"dying app taken for whole": 1}, "dying app taken for whole: 1 times"),
        (BEFORE, {"uploader hung": 2}, "uploader hung: 2 times"),
    ],
)
def test_growth_and_wrong_answers_are_complained_of(after: Held, seen: dict[str, int], word: str) -> None:
    outcome = Outcome(BEFORE, after, GOOD.seen + Counter(seen))
    assert len(outcome.complaints()) == 1
    assert word in outcome.complaints()[0]
