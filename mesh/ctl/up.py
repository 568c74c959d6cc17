"""`meshctl up`: one's own processes on a mesh. The file is up_file.py's, the processes local_mesh.py's business."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click
import trio

from mesh.ctl import up_file
from mesh.ctl.interrupt import run_until_interrupted
from mesh.ctl.local_mesh import open_local_mesh
from mesh.ctl.processes import LogSink, PrefixedLog, Process
from mesh.errors import MeshError

_PATIENCE = 600.0
"""Seconds for an app that cannot start yet: its author is editing it, and it is tried again and again."""


@click.command(
    epilog="""\b
Example: meshctl up mesh.yaml, where mesh.yaml says
  services:
    web: {run: python web.py, port: 8080}
    api: {run: python api.py}
  expose: web"""
)
@click.argument("file", required=False)
def command(file: str | None) -> None:
    """Run your own processes, each with a sidecar, from FILE (mesh.yaml or trioweave.yaml).

    Each app listens on `port`, or on $PORT where none is given, and calls the others by name through the proxy
    that $http_proxy names: http://api/. What dies is started again. Ctrl-C ends everything.
    """
    path = up_file.find_file(file, Path.cwd())
    mesh_file, errors = up_file.read(path)
    if mesh_file is None:
        raise MeshError(f"{path} is not valid:\n" + "\n".join(map(str, errors)))
    sys.exit(run_until_interrupted(partial(serve, mesh_file, path.parent, PrefixedLog(sys.stderr))))


async def serve(mesh_file: up_file.MeshFile, folder: Path, log: LogSink) -> None:
    """Run the mesh until cancelled."""
    async with open_local_mesh(log, prefix="up") as mesh:
        generated = mesh.state_dir / "config"
        generated.mkdir()
        (generated / "up.yaml").write_text(up_file.objects(mesh_file), encoding="utf-8")
        folders = [generated, *([folder / mesh_file.config] if mesh_file.config else [])]
        await mesh.start_pilot(folders, restart_after=1.0)
        processes = [mesh.start_workload(workload) for workload in up_file.workloads(mesh_file, folder)]
        words = []
        if mesh_file.expose:
            gateway = mesh.start_gateway(mesh_file.expose_port)
            words.append(f"url=http://{await mesh.wait_gateway(gateway, mesh_file.expose_port)}/")
        # Published before the apps are well: `meshctl get` helps to see why one is not.
        await mesh.publish()
        await _wait_all(processes)
        print("ready", *words, f"dashboard={mesh.pilot.ready['dashboard']}", flush=True)
        await mesh.keep_published()


async def _wait_all(processes: list[Process]) -> None:
    async with trio.open_nursery() as nursery:
        for process in processes:
            nursery.start_soon(partial(process.wait_ready, _PATIENCE, retry=process.program.restart))
