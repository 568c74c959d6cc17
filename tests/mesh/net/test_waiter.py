"""One task waits, another lets it go on."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mesh.net.waiter import Waiter


async def test_a_wake_lets_the_waiting_task_go_on_each_time() -> None:
    waiter = Waiter()
    rounds: list[int] = []

    async def wait() -> None:
        for number in range(3):
            await waiter.wait()
            rounds.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for expected in range(3):
            await wait_all_tasks_blocked()
            assert len(rounds) == expected
            waiter.wake()


async def test_a_wake_that_finds_nobody_is_lost() -> None:
    waiter = Waiter()
    waiter.wake()
    with trio.move_on_after(0) as scope:
        await waiter.wait()
    assert scope.cancelled_caught


async def test_two_wakes_are_one() -> None:
    waiter = Waiter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiter.wait)
        await wait_all_tasks_blocked()
        waiter.wake()
        waiter.wake()
    with trio.move_on_after(0) as scope:
        await waiter.wait()
    assert scope.cancelled_caught


async def test_two_tasks_may_not_wait() -> None:
    waiter = Waiter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiter.wait)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await waiter.wait()
        waiter.wake()


async def test_a_cancelled_wait_leaves_the_place_free() -> None:
    waiter = Waiter()
    with trio.move_on_after(0):
        await waiter.wait()
    waiter.wake()  # must not reach for the task that is gone
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiter.wait)
        await wait_all_tasks_blocked()
        waiter.wake()
