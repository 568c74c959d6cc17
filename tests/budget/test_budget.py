"""What one keep-alive GET costs in steady state, in counts that are the same in every run; never in seconds.

Counted over real loopback sockets: scheduler steps of the proxy's tasks, tasks, our own objects, transport calls.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from mesh.net.tcp import TcpTransport
from tests.rig import Message, ScriptedUpstream, Serving, Wire, serving, settle, web

ROOT = Path(__file__).resolve().parents[2]
WARM_UP = 20
ASKED = 50

MAX_STEPS = 2  # the request wakes the connection's task, the response wakes it again
MAX_OBJECTS = 10  # heads and their fields both ways, record, body, tries and retries of one exchange
MAX_RECEIVES = 2
MAX_SENDS = 2


@asynccontextmanager
async def steady() -> AsyncIterator[tuple[Serving, Wire]]:
    """A gateway whose connections, pools and caches are warm."""
    async with ScriptedUpstream().running() as upstream, serving(web(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            for _ in range(WARM_UP):
                await ask(wire)
            await settle()
            yield proxy, wire
        assert upstream.accepted == 1


async def ask(wire: Wire) -> Message:
    with trio.fail_after(30):
        return await wire.ask()


class Steps(trio.abc.Instrument):
    """Steps of tasks that serve a connection of the proxy, and every task that was born."""

    def __init__(self) -> None:
        self.steps = 0
        self.born = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name == "connection":
            self.steps += 1

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.born += 1


async def test_scheduler_steps_and_tasks() -> None:
    async with steady() as (_proxy, wire):
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        for _ in range(ASKED):
            await ask(wire)
        trio.lowlevel.remove_instrument(steps)
    assert 0 < steps.steps <= MAX_STEPS * ASKED + 1
    assert steps.born == 0


async def test_transport_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with steady() as (proxy, wire):
        ends = {id(connection.transport) for connection in proxy.dataplane.connections}
        (endpoint,) = proxy.cluster().endpoints.values()
        ends |= {id(connection.transport) for connection in endpoint.pool.idle}
        assert len(ends) == 2
        calls: Counter[str] = Counter()
        for name in ("receive", "send"):
            monkeypatch.setattr(TcpTransport, name, counting(getattr(TcpTransport, name), name, ends, calls))
        for _ in range(ASKED):
            await ask(wire)
    assert 0 < calls["receive"] <= MAX_RECEIVES * ASKED + 1
    assert 0 < calls["send"] <= MAX_SENDS * ASKED


async def test_system_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message is read and written by one call: none finds nothing, none only looks."""
    async with steady() as (proxy, wire):
        (endpoint,) = proxy.cluster().endpoints.values()
        calls: Counter[str] = Counter()
        for connection in (*proxy.dataplane.connections, *endpoint.pool.idle):
            for name in ("_recv", "_send"):
                monkeypatch.setattr(
                    connection.transport, name, counted(getattr(connection.transport, name), name, calls)
                )
        for _ in range(ASKED):
            await ask(wire)
    assert calls == {"_recv": 2 * ASKED, "_send": 2 * ASKED}


def counted(original: Any, name: str, calls: Counter[str]) -> Any:
    """The function, counted."""

    def call(*args: Any) -> Any:
        calls[name] += 1
        return original(*args)

    return call


def counting(original: Any, name: str, ends: set[int], calls: Counter[str]) -> Any:
    """The method, counted for some transports."""

    async def method(self: TcpTransport, *args: Any) -> Any:
        if id(self) in ends:
            calls[name] += 1
        return await original(self, *args)

    return method


def objects_made(version: str) -> dict[str, int]:
    """In a process of its own: a class whose `__new__` was replaced cannot be put back as it was."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.budget.objects", version, str(WARM_UP), str(ASKED)],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=True,
    )
    made: dict[str, int] = json.loads(done.stdout)
    return made


def test_objects() -> None:
    made = objects_made("http1")
    assert made["RequestHead"] == made["ResponseHead"] == made["Record"] == ASKED
    per_request = {name: count / ASKED for name, count in made.items()}
    assert sum(per_request.values()) <= MAX_OBJECTS, per_request
