"""Ids of requests."""

from __future__ import annotations

import random
import uuid

from agent.exchange.request_ids import RequestIds


def test_ids_are_random_uuids_of_version_4() -> None:
    ids = RequestIds(random.Random(1))
    made = [ids.make().decode() for _ in range(1000)]
    assert all(str(uuid.UUID(each)) == each for each in made)
    assert {(uuid.UUID(each).version, uuid.UUID(each).variant) for each in made} == {(4, uuid.RFC_4122)}
    assert len(set(made)) == 1000


def test_every_other_digit_may_be_any() -> None:
    ids = RequestIds(random.Random(2))
    seen = [set(column) for column in zip(*(ids.make().decode() for _ in range(500)), strict=True)]
    digits = [len(each) for at, each in enumerate(seen) if at not in (8, 13, 14, 18, 19, 23)]
    assert set(digits) == {16}
    assert seen[19] == set("89ab")


def test_the_same_seed_makes_the_same_ids() -> None:
    one, other = (RequestIds(random.Random(3)) for _ in range(2))
    assert [one.make() for _ in range(100)] == [other.make() for _ in range(100)]
