"""A mesh on this machine: pilot, gateway and workloads with their sidecars as supervised processes.

What `meshctl demo` and `meshctl up` share. The only place that knows the flags of mesh-pilot and mesh-agent.
Everything lives in one state folder, which goes when the mesh ends.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from mesh.ctl import api, current
from mesh.ctl.processes import LogSink, Process, Program, Supervisor, open_supervisor, program_argv, remove_tree
from mesh.errors import MeshError

PILOT = "pilot"
GATEWAY = "gateway"
START_TIME = 20.0
"""Seconds for one process to become ready; a cold start of all on two slow cores takes a third of it."""
_PUBLISH_PAUSE = 1.0
_DRAIN = "drain_time=1s"  # nobody waits for a local mesh to let go of its last connections
# The order of the end: workloads lose their callers before they go, and the pilot outlives its agents.
_STAGE_PILOT, _STAGE_WORKLOAD, _STAGE_GATEWAY = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Workload:
    """An app and what its sidecar says of it. `name` is the process's; `app_port` 0 takes a free one."""

    name: str
    service: str
    argv: tuple[str, ...]
    version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    app_port: int = 0
    restart: bool = False
    health: str = ""
    """How the sidecar checks the app: "tcp", a path, or not at all."""


class LocalMesh:
    """The running mesh. Made by open_local_mesh."""

    def __init__(self, supervisor: Supervisor, state_dir: Path) -> None:
        self.supervisor = supervisor
        self.state_dir = state_dir
        self.pilot_state = state_dir / "pilot"
        self._pilot: Process | None = None

    @property
    def token_file(self) -> Path:
        """The pilot's bootstrap token."""
        return self.pilot_state / "token"

    @property
    def pilot(self) -> Process:
        """The pilot's process."""
        if self._pilot is None:
            raise MeshError("the pilot has not been started")
        return self._pilot

    async def start_pilot(self, config_dirs: list[Path], *, restart_after: float) -> dict[str, str]:
        """Start the pilot and wait for it; when it dies it comes back at the same addresses."""

        def argv(feed: str, dashboard: str, metrics: str) -> tuple[str, ...]:
            words = [*program_argv("mesh-pilot"), "--state-dir", str(self.pilot_state)]
            for folder in config_dirs:
                words += ["--config-dir", str(folder)]
            return (*words, "--listen", feed, "--dashboard", dashboard, "--metrics", metrics)

        def pin(ready: Mapping[str, str]) -> tuple[str, ...]:
            return argv(*(host_and_port(ready[key]) for key in ("feed", "dashboard", "metrics")))

        free = "127.0.0.1:0"
        program = Program(
            PILOT,
            argv(free, free, free),
            stage=_STAGE_PILOT,
            restart=True,
            restart_after=restart_after,
            pin=pin,
        )
        self._pilot = self.supervisor.start(program)
        return await self._pilot.wait_ready(START_TIME)

    def start_gateway(self, port: int = 0) -> Process:
        """Start the ingress gateway: port 80 of the YAML becomes `port`, 0 a free one."""
        argv = [*program_argv("mesh-agent"), "gateway", *self._agent_flags(), "--label", "istio=ingressgateway"]
        argv += ["--label", "app=istio-ingressgateway", "--bind", "127.0.0.1", "--port-map", f"80={port}"]
        return self.supervisor.start(Program(GATEWAY, tuple(argv), stage=_STAGE_GATEWAY, restart=True))

    async def wait_gateway(self, gateway: Process, port: int = 0) -> str:
        """The address at which the gateway listens for the YAML's port 80. Raises MeshError when it has none."""
        ready = await gateway.wait_ready(START_TIME)
        address = ready["listen"].partition(",")[0]
        if not address:
            words = "\n".join(f"  {line}" for line in gateway.tail)
            taken = f"port {port} cannot be had; choose another, or none for a free one" if port else "no port"
            raise MeshError(f"the gateway does not listen: {taken}\n{words}")
        return address

    def start_workload(self, workload: Workload) -> Process:
        """Start a sidecar, which starts the app."""
        argv = [*program_argv("mesh-agent"), "sidecar", *self._agent_flags(), "--service", workload.service]
        argv += ["--namespace", "default", "--service-account", workload.service]
        argv += ["--app-port", str(workload.app_port)]
        if workload.health:
            argv += ["--health-check", workload.health]
        if workload.version:
            argv += ["--version", workload.version]
        for key, value in workload.labels.items():
            argv += ["--label", f"{key}={value}"]
        return self.supervisor.start(
            Program(
                workload.name,
                (*argv, "--", *workload.argv),
                env=workload.env,
                cwd=workload.cwd,
                stage=_STAGE_WORKLOAD,
                restart=workload.restart,
            )
        )

    async def publish(self, page: str = "") -> None:
        """Make this the mesh that meshctl finds by itself."""
        running = {}
        for name, process in self.supervisor.processes.items():
            admin = process.ready.get("admin", "")
            port = await app_port(admin) if process.program.stage == _STAGE_WORKLOAD and admin else 0
            running[name] = current.Running(process.pid, admin, port)
        dashboard = self.pilot.ready["dashboard"]
        current.publish(
            current.Current(dashboard, str(self.token_file), os.getpid(), str(self.state_dir), page, running)
        )

    async def keep_published(self, page: str = "") -> None:
        """Publish, and again whenever a process was started anew under another id; ends by cancellation only."""
        known: dict[str, int] = {}
        while True:
            starts = {name: process.starts for name, process in self.supervisor.processes.items() if process.is_ready}
            if any(known.get(name) != count for name, count in starts.items()):
                await self.publish(page)
                known.update(starts)
            await trio.sleep(_PUBLISH_PAUSE)

    def _agent_flags(self) -> list[str]:
        pilot = self.pilot.ready["feed"]
        secrets = ["--token-file", str(self.token_file), "--ca", str(self.pilot_state / "root-cert.pem")]
        return ["--pilot", pilot, *secrets, "--set", _DRAIN]


def host_and_port(url: str) -> str:
    """`HOST:PORT` of a URL."""
    return url.partition("://")[2].partition("/")[0]


async def app_port(admin: str) -> int:
    """The port of the app behind the sidecar with this admin URL; 0 when it does not tell."""
    try:
        answer = await trio.to_thread.run_sync(api.fetch, f"{admin}/server_info", abandon_on_cancel=True)
        ports = json.loads(answer)["node"].get("ports", [])
    except MeshError:
        return 0
    return int(ports[0]["app_port"]) if ports else 0


@asynccontextmanager
async def open_local_mesh(log: LogSink, *, prefix: str) -> AsyncIterator[LocalMesh]:
    """A mesh for the length of the block, without a process yet. Leaves no process, pointer or file behind."""
    state_dir = Path(tempfile.mkdtemp(prefix=f"trioweave-{prefix}-"))
    try:
        async with open_supervisor(log) as supervisor:
            supervisor.promise_removal(state_dir)
            yield LocalMesh(supervisor, state_dir)
    finally:
        current.withdraw()
        remove_tree(state_dir)
