"""Injected faults: whether this request is delayed or aborted. The exchange does the waiting and the answering."""

from __future__ import annotations

import random

from mesh import config

_STEPS = 1_000_000
"""Percentages have steps of 0.0001 (Envoy's FractionalPercent with denominator MILLION)."""


class Abort:
    """The answer to give instead of routing: an HTTP `status`, or 200 with `grpc_status` when that is set."""

    __slots__ = ("grpc_status", "status")

    def __init__(self, status: int, grpc_status: int | None = None) -> None:
        self.status = status
        self.grpc_status = grpc_status


class Fault:
    """A route's compiled faults; both parts roll by themselves."""

    __slots__ = ("_abort_below", "_delay_below", "abort", "delay")

    def __init__(self, delay: config.FaultDelay | None, abort: config.FaultAbort | None) -> None:
        self.delay = delay.seconds if delay else 0.0
        self.abort = _compile_abort(abort) if abort else None
        self._delay_below = round(delay.percent * _STEPS / 100) if delay else 0
        self._abort_below = round(abort.percent * _STEPS / 100) if abort else 0

    def roll(self, rng: random.Random) -> tuple[float, Abort | None]:
        """(seconds to wait first, answer to give then); (0.0, None) leaves the request alone."""
        delay = self.delay if _hits(self._delay_below, rng) else 0.0
        abort = self.abort if _hits(self._abort_below, rng) else None
        return delay, abort


def compile_fault(fault: config.Fault | None) -> Fault | None:
    """None when nothing can ever happen (no part, or 0 percent)."""
    if fault is None:
        return None
    compiled = Fault(fault.delay, fault.abort)
    never = compiled._delay_below == 0 and compiled._abort_below == 0
    return None if never else compiled


def _compile_abort(abort: config.FaultAbort) -> Abort:
    if abort.grpc_status is not None:
        return Abort(200, abort.grpc_status)
    return Abort(abort.status)


def _hits(below: int, rng: random.Random) -> bool:
    return below > 0 and (below >= _STEPS or rng.random() * _STEPS < below)
