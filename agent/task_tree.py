"""The live tree of Trio tasks as text: what the process is doing at this moment, without a debugger."""

from __future__ import annotations

import re

import trio


def task_tree(root: trio.lowlevel.Task) -> list[str]:
    """One line a task, nested by nursery: its name, where it stands, its deadline if it has one."""
    lines: list[str] = []
    pending: list[tuple[trio.lowlevel.Task, int]] = [(root, 0)]
    now = trio.current_time()
    while pending:
        task, depth = pending.pop()
        lines.append(f"{'  ' * depth}{_short(task.name)} ({_task_state(task, now)})")
        for nursery in task.child_nurseries:
            pending.extend((child, depth + 1) for child in sorted(nursery.child_tasks, key=lambda each: each.name))
    return lines


def _short(name: str) -> str:
    return re.sub(r"<locals>\.", "", name)


def _task_state(task: trio.lowlevel.Task, now: float) -> str:
    where = "running"
    for frame, line in task.iter_await_frames():
        folder, _, file = frame.f_code.co_filename.rpartition("/")
        # Trio's own frames say how it waits; the last one outside of Trio says what it waits for.
        if "/trio/" not in f"{folder}/" or where == "running":
            where = f"at {file}:{line}"
    nearest = task.parent_nursery.cancel_scope.deadline if task.parent_nursery is not None else float("inf")
    return where if nearest == float("inf") else f"{where}, deadline in {nearest - now:.1f} s"
