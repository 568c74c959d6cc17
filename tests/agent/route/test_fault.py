"""Injected faults roll with steps of a ten-thousandth of a percent."""

from __future__ import annotations

import random

import pytest

from agent.route.fault import compile_fault
from mesh.config import Fault, FaultAbort, FaultDelay


class FixedRolls(random.Random):
    def __init__(self, *rolls: float) -> None:
        super().__init__(0)
        self.rolls = list(rolls)

    def random(self) -> float:
        return self.rolls.pop(0)


@pytest.mark.parametrize(
    "fault",
    [None, Fault(), Fault(delay=FaultDelay(2.0)), Fault(abort=FaultAbort(500)), Fault(FaultDelay(1.0, 0.00001))],
)
def test_what_can_never_happen_compiles_to_nothing(fault: Fault | None) -> None:
    assert compile_fault(fault) is None


def test_a_hundred_percent_rolls_no_dice() -> None:
    fault = compile_fault(Fault(FaultDelay(2.0, 100.0), FaultAbort(500, percent=100.0)))
    assert fault is not None
    delay, abort = fault.roll(FixedRolls())
    assert delay == 2.0
    assert abort is not None
    assert (abort.status, abort.grpc_status) == (500, None)


def test_the_smallest_step_is_one_in_a_million() -> None:
    fault = compile_fault(Fault(abort=FaultAbort(503, percent=0.0001)))
    assert fault is not None
    assert fault.roll(FixedRolls(0.0000009))[1] is not None
    assert fault.roll(FixedRolls(0.000001))[1] is None


def test_both_parts_roll_by_themselves() -> None:
    fault = compile_fault(Fault(FaultDelay(1.0, 50.0), FaultAbort(grpc_status=14, percent=50.0)))
    assert fault is not None
    assert fault.roll(FixedRolls(0.4, 0.6)) == (1.0, None)
    delay, abort = fault.roll(FixedRolls(0.6, 0.4))
    assert delay == 0.0
    assert abort is not None
    assert (abort.status, abort.grpc_status) == (200, 14)
    assert fault.roll(FixedRolls(0.5, 0.5)) == (0.0, None)
