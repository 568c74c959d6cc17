"""`meshctl demo`: the bookstore on a mesh of its own, under a gentle load.

Starts pilot, ingress gateway and six services with their sidecars, prints where the page is and what to try next,
and leaves nothing behind. The acceptance script of --check is check.py.
"""

from __future__ import annotations

import http.client
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import trio

from mesh.ctl import endpoints, tour, traffic
from mesh.ctl.interrupt import run_until_interrupted
from mesh.ctl.local_mesh import START_TIME, LocalMesh, Workload, app_port, open_local_mesh
from mesh.ctl.processes import FileLog, LogSink, PrefixedLog, Process
from mesh.errors import MeshError

_PILOT_RETURNS_AFTER = 5.0
"""Seconds that a killed pilot stays away: long enough to see that traffic goes on without it."""
_LOAD_PAUSE = 0.2  # about five requests a second: enough to see shares move, little enough for a laptop
_STATUS_PAUSE = 2.0
_WHOLE_TIME = 20.0
"""Seconds, once all are ready, for the apps to be well and the agents to have heard of it."""
_LOOK_PAUSE = 0.1
_LOG_LIMIT = 5_000_000  # bytes for each process's log: a demo left running over night must not fill the disk

WORKLOADS = (
    ("details", "v1"),
    ("ratings", "v1"),
    ("reviews", "v1"),
    ("reviews", "v2"),
    ("reviews", "v3"),
    ("productpage", "v1"),
)


class Running(NamedTuple):
    """A demo that serves."""

    mesh: LocalMesh
    gateway: str
    """HOST:PORT of the ingress gateway."""

    @property
    def page(self) -> str:
        """URL of the product page."""
        return f"http://{self.gateway}/productpage"


@click.command(epilog="Example: meshctl demo --check")
@click.option("--check", is_flag=True, help="Drive the acceptance script against a demo of its own, and exit.")
@click.option("--port", default=0, metavar="N", help="Port of the page; by default a free one.")
@click.option("--no-load", is_flag=True, help="Do not make requests by itself.")
@click.option("--verbose", is_flag=True, help="Show the logs of all processes on stderr.")
def command(check: bool, port: int, no_load: bool, verbose: bool) -> None:
    """Run the bookstore: four services in six processes, each with its sidecar, behind a gateway.

    Needs no Docker, no root and no free port in particular. Prints the page's URL when it serves and five
    commands to try in another terminal. Ctrl-C ends it and leaves nothing behind.
    """
    if check:
        from mesh.ctl.check import run_check

        sys.exit(run_check())
    sys.exit(run_until_interrupted(partial(serve, port, with_load=not no_load, verbose=verbose)))


def bookstore() -> Path:
    """The bookstore's folder: inside the installed package, else in the source tree."""
    here = Path(__file__).resolve().parent
    for folder in (here / "bookstore", here.parents[1] / "examples" / "bookstore"):
        if (folder / "productpage.py").is_file():
            return folder
    raise MeshError(f"the bookstore is not where it is installed ({here / 'bookstore'}); install trioweave again")


async def serve(port: int, *, with_load: bool, verbose: bool) -> None:
    """Run the demo until cancelled."""
    store = bookstore()
    log = _Log(verbose)
    try:
        async with open_local_mesh(log, prefix="demo") as mesh:
            log.keep_in(mesh.state_dir / "logs")
            running = await start(mesh, store, port)
            await mesh.publish(running.page)
            print(f"ready page={running.page} dashboard={mesh.pilot.ready['dashboard']}", flush=True)
            v3 = await app_port(mesh.supervisor.processes["reviews-v3"].ready["admin"])
            print(tour.text(running.page, store / "samples", mesh.pilot.pid, v3), flush=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mesh.keep_published, running.page)
                nursery.start_soon(_tell_of_pilot, mesh)
                if with_load:
                    nursery.start_soon(_load, running.gateway)
                if sys.stdout.isatty():
                    nursery.start_soon(_show_traffic, mesh)
    finally:
        log.close()


async def start(mesh: LocalMesh, store: Path, port: int) -> Running:
    """Start everything; the agents at the same time, once there is a pilot. Raises MeshError."""
    await mesh.start_pilot([store / "mesh"], restart_after=_PILOT_RETURNS_AFTER)
    gateway = mesh.start_gateway(port)
    processes = [mesh.start_workload(_workload(store, service, version)) for service, version in WORKLOADS]
    address = await mesh.wait_gateway(gateway, port)
    for process in processes:
        await process.wait_ready(START_TIME)
    await _wait_whole([gateway, *processes])
    return Running(mesh, address)


async def _wait_whole(agents: list[Process]) -> None:
    """Wait until every agent may send requests to every version of every service. Raises MeshError.

    An agent is ready before its app is, and the others hear of either by way of the pilot: until then a request may
    find no endpoint, and a version may get no request at all.
    """
    lacks = {agent.name: "an answer" for agent in agents}
    with trio.move_on_after(_WHOLE_TIME):
        while lacks:
            for agent in agents:
                if agent.name in lacks:
                    lacks[agent.name] = await trio.to_thread.run_sync(_lack, agent, abandon_on_cancel=True)
            lacks = {name: lack for name, lack in lacks.items() if lack}
            await trio.sleep(_LOOK_PAUSE)
        return
    words = "".join(f"\n  {name} lacks {lack}" for name, lack in lacks.items())
    raise MeshError(f"after {_WHOLE_TIME:g} s not every agent can reach every service; --verbose shows why:{words}")


def _lack(agent: Process) -> str:
    """What the agent cannot reach yet."""
    try:
        seen = endpoints.endpoints(agent.ready["admin"])
    except MeshError as exc:
        return f"an answer: {exc}"
    reached = {(each.service, each.version) for each in seen if each.healthy}
    return ", ".join(f"{service}-{version}" for service, version in WORKLOADS if (service, version) not in reached)


def _workload(store: Path, service: str, version: str) -> Workload:
    return Workload(
        name=f"{service}-{version}",
        service=service,
        argv=(sys.executable, str(store / f"{service}.py")),
        version=version,
        labels={"app": service, "version": version},
        env={"SERVICE_VERSION": version},
        restart=True,
        health="/health",
    )


class _Log:
    """Every process's lines: into files of the state folder, and with --verbose to stderr as well."""

    def __init__(self, verbose: bool) -> None:
        self._shown: LogSink | None = PrefixedLog(sys.stderr) if verbose else None
        self._kept: FileLog | None = None

    def keep_in(self, folder: Path) -> None:
        self._kept = FileLog(folder, limit_bytes=_LOG_LIMIT)

    def __call__(self, name: str, line: str) -> None:
        if self._kept:
            self._kept(name, line)
        if self._shown:
            self._shown(name, line)

    def close(self) -> None:
        if self._kept:
            self._kept.close()


async def _tell_of_pilot(mesh: LocalMesh) -> None:
    """Say when the pilot goes and comes; the visitor was asked to kill it."""
    pilot = mesh.pilot
    while True:
        start = pilot.starts
        await pilot.wait_ended(start)
        print(f"the pilot is gone; it returns in {_PILOT_RETURNS_AFTER:g} s", file=sys.stderr, flush=True)
        await pilot.wait_ready(_PILOT_RETURNS_AFTER + START_TIME, start=start + 1, retry=True)
        print(f"the pilot is back as process {pilot.pid}", file=sys.stderr, flush=True)


async def _load(gateway: str) -> None:
    """Ask for the page again and again. A failing page is the visitor's finding, not a reason to stop."""
    host, _, port = gateway.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10.0)
    while True:
        await trio.to_thread.run_sync(_visit, connection, abandon_on_cancel=True)
        await trio.sleep(_LOAD_PAUSE)


def _visit(connection: http.client.HTTPConnection) -> None:
    try:
        connection.request("GET", "/productpage", headers={"user-agent": "bookstore-load"})
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        connection.close()


async def _show_traffic(mesh: LocalMesh) -> None:
    """One line that renews itself: requests to reviews by version, as the page's sidecar counted them."""
    admin = mesh.supervisor.processes["productpage-v1"].ready["admin"]
    before: dict[str, int] = {}
    while True:
        await trio.sleep(_STATUS_PAUSE)
        try:
            counts = await trio.to_thread.run_sync(traffic.counts, admin, abandon_on_cancel=True)
        except MeshError as exc:
            line = str(exc)
        else:
            now, errors = traffic.by_version(counts, "reviews"), traffic.by_version(counts, "reviews", errors=True)
            line = tour.status_line(now, before, errors, _STATUS_PAUSE, pilot_is_alive=mesh.pilot.is_alive)
            before = now
        sys.stdout.write(f"\r\x1b[K{line}")
        sys.stdout.flush()
