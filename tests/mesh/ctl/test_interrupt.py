"""Signals end what runs, and its clean-up goes on undisturbed."""

from __future__ import annotations

import os
import signal

import pytest
import trio
import trio.testing

from mesh.ctl.interrupt import run_until_interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_and_a_second_one_changes_nothing(number: int) -> None:
    steps = []

    async def serve() -> int:
        try:
            os.kill(os.getpid(), number)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                os.kill(os.getpid(), number)
                await trio.testing.wait_all_tasks_blocked()
                steps.append("cleaned up")
        return 1

    assert run_until_interrupted(serve) == 0
    assert steps == ["cleaned up"]


def test_an_end_of_its_own_gives_its_status_and_errors_pass() -> None:
    async def serve() -> int:
        return 3

    async def fail() -> None:
        raise ZeroDivisionError

    assert run_until_interrupted(serve) == 3
    with pytest.RaisesGroup(ZeroDivisionError):
        run_until_interrupted(fail)
