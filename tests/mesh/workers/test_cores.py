"""How many cores there are for us."""

import math
import os

import pytest

from mesh.workers.cores import parse_quota, usable_cores


def test_quotas() -> None:
    assert parse_quota("max 100000\n") == math.inf
    assert parse_quota("150000 100000\n") == 1.5


@pytest.mark.parametrize("text", ["", "max", "a 1", "1 2 3"])
def test_what_is_no_quota(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_quota(text)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs the scheduler's mask")
def test_at_least_one_and_no_more_than_the_scheduler_gives() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
