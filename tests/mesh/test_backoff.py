from __future__ import annotations

import random
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from mesh.backoff import delays


@given(st.integers(), st.floats(0.001, 1), st.floats(1, 60), st.floats(1.1, 4))
def test_each_delay_lies_in_the_upper_half_of_its_bound(seed: int, base: float, cap: float, factor: float) -> None:
    bound = base
    for delay in islice(delays(random.Random(seed), base=base, cap=cap, factor=factor), 20):
        assert bound / 2 <= delay <= bound
        bound = min(bound * factor, cap)


def test_delays_grow_to_the_cap_and_stay() -> None:
    tail = list(islice(delays(random.Random(7), base=1, cap=8), 4, 50))
    assert all(4 <= delay <= 8 for delay in tail)


def test_the_same_seed_gives_the_same_delays_and_another_does_not() -> None:
    first, again, other = (list(islice(delays(random.Random(seed)), 5)) for seed in (1, 1, 2))
    assert first == again != other
