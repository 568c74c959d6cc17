"""The parent of an agent's workers, as the command runs it: admin port, supervision, the app."""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import trio

from agent.bootstrap import Bootstrap, Ready
from agent.doors import OwnDoors
from mesh.ctl.agent import print_ready, serve_until_signal
from mesh.ctl.worker import PROGRAM, Orders
from mesh.errors import MeshError
from mesh.telemetry.log import Encoding, get_logger
from mesh.telemetry.metrics import Registry
from mesh.workers.admin import Admin
from mesh.workers.supervisor import Supervisor


class Workers:
    """All workers, run as one agent is."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.leave = supervisor.leave

    async def run(self, *, task_status: trio.TaskStatus[Ready | None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `leave`; started when all serve. Raises MeshError at start."""
        async with trio.open_nursery() as nursery:
            ready = await nursery.start(self._supervisor.run)
            task_status.started(msgspec.convert(ready, Ready) if ready is not None else None)


async def serve_workers(bootstrap: Bootstrap, files: tuple[str, ...], log_level: str, log_format: Encoding) -> int:
    """Run `bootstrap.workers` workers and, for a sidecar, its app; returns the exit status. Raises MeshError."""
    doors = OwnDoors(bootstrap.admin_address, bootstrap.admin_port)
    doors.open()
    with tempfile.TemporaryDirectory(prefix="trioweave-workers-") as folder:
        paths = tuple(_path(text, Path(folder)) for text in files)

        def orders(worker: int) -> Orders:
            told = msgspec.structs.replace(
                bootstrap, worker=worker, command=(), admin_port=int(doors.admin.rpartition(":")[2])
            )
            return Orders(msgspec.Raw(msgspec.msgpack.encode(told)), paths, log_level, log_format)

        registry = Registry()
        supervisor = Supervisor(
            PROGRAM,
            orders,
            workers=bootstrap.workers,
            drain_time=bootstrap.settings.drain_time,
            rng=random.Random(),
            log=get_logger("workers"),
            registry=registry,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(doors.serve_admin, Admin(supervisor, registry, _compile_full).handle)
            status = await serve_until_signal(Workers(supervisor), bootstrap, print_ready(bootstrap))
            nursery.cancel_scope.cancel()
    return status


def _path(text: str, folder: Path) -> str:
    """Standard input is read once, for all."""
    if text != "-":
        return text
    kept = folder / "stdin.yaml"
    kept.write_text(sys.stdin.read(), encoding="utf-8")
    return str(kept)


def _compile_full(pattern: str) -> Callable[[bytes], bool]:
    from agent.route.regex import compile_full

    return compile_full(pattern)


def check_platform() -> None:
    """Elsewhere SO_REUSEPORT gives all connections to one socket, or is missing. Raises MeshError."""
    if not sys.platform.startswith("linux"):
        raise MeshError("--workers needs Linux, whose kernel spreads connections over workers; leave it away")
