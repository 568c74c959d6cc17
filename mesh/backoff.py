"""Jittered exponential delays; nothing here sleeps."""

from __future__ import annotations

import random
from collections.abc import Iterator


def delays(rng: random.Random, *, base: float = 0.1, cap: float = 10.0, factor: float = 2.0) -> Iterator[float]:
    """Yield delays in seconds for ever: uniform in [bound / 2, bound], bound growing from `base` to `cap`.

    Half of the bound is kept as a floor, so that a crowd of agents spreads out and none of them spins.
    """
    bound = base
    while True:
        yield bound * (0.5 + rng.random() / 2)
        bound = min(bound * factor, cap)
