"""One soak: warm up, note what the gateway holds, load it and change its configuration, see that it holds no more."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from tests.bench import programs
from tests.bench.process import Program, open_files, rss_bytes
from tests.soak import traffic

_N = "networking.istio.io/v1"
RSS_ALLOWANCE = 24 * 2**20
"""Bytes that allocator, caches and garbage waiting for the agent's seldom collector may still take after the warm-up;
a leak of 100 bytes a request shows in minutes."""
_SETTLE = 20.0


@dataclass(frozen=True)
class Held:
    """What a process holds at rest."""

    tasks: int
    files: int
    rss: int


@dataclass(frozen=True)
class Outcome:
    """Before and after the load, what the clients saw, and what is wrong with it."""

    before: Held
    after: Held
    seen: Counter[str]

    def complaints(self) -> list[str]:
        found = []
        if self.after.tasks > self.before.tasks:
            found.append(f"tasks grew from {self.before.tasks} to {self.after.tasks}")
        if self.after.files > self.before.files:
            found.append(f"descriptors grew from {self.before.files} to {self.after.files}")
        if self.after.rss > self.before.rss + RSS_ALLOWANCE:
            found.append(f"memory grew from {self.before.rss // 1024} KiB to {self.after.rss // 1024} KiB")
        bad = [name for name in self.seen if name[-4:] == "hung" or "whole" in name or "truncated" in name]
        found += [f"{name}: {self.seen[name]} times" for name in bad]
        wrong = sum(count for name, count in self.seen.items() if name.startswith("polite ") and name != "polite 200")
        if wrong or not self.seen["polite 200"]:
            found.append(f"polite requests: {self.seen['polite 200']} good, {wrong} not")
        return found


async def soak(seconds: float, folder: Path) -> Outcome:
    """Run one. Raises Died when the gateway does not start or does not survive."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, traffic.serve_app, 0, host="127.0.0.1"))
        app_port = listeners[0].socket.getsockname()[1]
        config = folder / "soak.yaml"
        _configure(config, app_port, 0)
        argv = [programs.ours("mesh-agent"), "gateway", "-f", str(config), "--bind", "127.0.0.1", "--port-map", "80=0"]
        argv += ["--set", f"access_log_file={folder / 'access.log'}", "--log-level", "error"]
        with Program("gateway", argv, folder) as gateway:
            ready = await trio.to_thread.run_sync(gateway.ready_line)
            port = int(ready["listen"].split(",")[0].rpartition(":")[2])
            read = partial(_held, gateway, ready["admin"])
            outcome = await _compare(seconds, port, read, partial(_configure, config, app_port))
            gateway.alive()
        nursery.cancel_scope.cancel()
    return outcome


async def _compare(
    seconds: float, port: int, read: Callable[[], Awaitable[Held]], configure: Callable[[int], None]
) -> Outcome:
    await traffic.drive(port, max(2.0, seconds / 10), Counter(), seed=0)
    before = await _settled(read, None)
    seen: Counter[str] = Counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(traffic.drive, port, seconds, seen)
        for number in range(1, max(2, int(seconds / 3))):
            await trio.sleep(min(3.0, seconds / 3))
            configure(number)
    return Outcome(before, await _settled(read, before), seen)


async def _settled(read: Callable[[], Awaitable[Held]], aim: Held | None) -> Held:
    """What is held once it no longer shrinks, or is back at `aim`; at most twenty seconds later."""
    deadline = trio.current_time() + _SETTLE
    last = await read()
    still = 0
    while trio.current_time() < deadline and still < 4:
        await trio.sleep(0.5)
        now = await read()
        if aim is not None and now.tasks <= aim.tasks and now.files <= aim.files:
            return now
        still = still + 1 if (now.tasks, now.files) == (last.tasks, last.files) and aim is None else 0
        last = now
    return last


async def _held(gateway: Program, admin: str) -> Held:
    gateway.alive()

    def tasks() -> int:
        with urllib.request.urlopen(f"{admin}/tasks", timeout=5) as answer:
            return sum(1 for line in answer.read().splitlines() if line.strip())

    return Held(await trio.to_thread.run_sync(tasks), open_files(gateway.pid), rss_bytes(gateway.pid))


def _configure(file: Path, app_port: int, number: int) -> None:
    """Another timeout, so that the gateway compiles another plan; the cluster stays, the pools with it."""
    destination = {"host": "up.soak.test", "port": {"number": app_port}}
    pool = {"http": {"idleTimeout": "1s"}}
    servers = [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]
    objects = [
        ("Gateway", "edge", {"selector": {"istio": "ingressgateway"}, "servers": servers}),
        (
            "ServiceEntry",
            "up",
            {
                "hosts": ["up.soak.test"],
                "location": "MESH_EXTERNAL",
                "resolution": "STATIC",
                "ports": [{"number": app_port, "name": "http", "protocol": "HTTP"}],
                "endpoints": [{"address": "127.0.0.1"}],
            },
        ),
        ("DestinationRule", "up", {"host": "up.soak.test", "trafficPolicy": {"connectionPool": pool}}),
        (
            "VirtualService",
            "all",
            {
                "hosts": ["*"],
                "gateways": ["edge"],
                "http": [{"timeout": f"{5 + number % 7}s", "route": [{"destination": destination}]}],
            },
        ),
    ]
    documents = [
        {"apiVersion": _N, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec}
        for kind, name, spec in objects
    ]
    new = file.with_suffix(".new")
    new.write_text("\n---\n".join(map(json.dumps, documents)) + "\n")
    new.replace(file)
