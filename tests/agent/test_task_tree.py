from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agent.task_tree import task_tree


async def waiting_for_ever() -> None:
    await trio.sleep_forever()


async def parent(task_status: trio.TaskStatus[trio.lowlevel.Task]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiting_for_ever, name="child b")
        nursery.start_soon(waiting_for_ever, name="child a")
        task_status.started(trio.lowlevel.current_task())


async def test_children_stand_below_their_parent_with_the_place_they_wait_at(nursery: trio.Nursery) -> None:
    task = await nursery.start(parent)
    await wait_all_tasks_blocked()
    lines = task_tree(task)
    assert [line.split(" (")[0] for line in lines][1:] == ["  child b", "  child a"]
    assert lines[0].split(" (")[0].endswith("parent")
    assert all("(at test_task_tree.py:" in line for line in lines)
    nursery.cancel_scope.cancel()


async def test_a_deadline_is_shown(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 5
        nursery.start_soon(waiting_for_ever, name="bounded")
        await wait_all_tasks_blocked()
        lines = task_tree(trio.lowlevel.current_task())
        nursery.cancel_scope.cancel()
    assert "bounded" in lines[1]
    assert lines[1].endswith("deadline in 5.0 s)")


async def test_the_running_task_is_said_to_run() -> None:
    (line,) = task_tree(trio.lowlevel.current_task())
    assert line.endswith("(running)") or "(at " in line
