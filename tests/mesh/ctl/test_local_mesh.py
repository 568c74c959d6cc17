"""A mesh of real processes on this machine."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest
import trio

from mesh.ctl import current
from mesh.ctl.local_mesh import Workload, app_port, host_and_port, open_local_mesh
from mesh.errors import MeshError

DEADLINE = 60.0
CONFIG = Path(__file__).parents[3] / "examples" / "bookstore"


def ignore(name: str, line: str) -> None:
    """A log that nobody reads."""


@pytest.fixture(autouse=True)
def _runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.slow
async def test_pilot_gateway_and_workload_come_up_and_leave_nothing() -> None:
    with trio.fail_after(DEADLINE):
        async with open_local_mesh(ignore, prefix="test") as mesh:
            first = await mesh.start_pilot([CONFIG / "mesh"], restart_after=0.0)
            gateway = mesh.start_gateway()
            app = (sys.executable, str(CONFIG / "details.py"))
            workload = mesh.start_workload(Workload("details-v1", "details", app, version="v1", labels={"a": "b"}))
            address = await mesh.wait_gateway(gateway)
            ready = await workload.wait_ready(DEADLINE)
            await mesh.publish("http://page/")
            published = current.read()
            assert published.page == "http://page/"
            assert published.processes["details-v1"].app_port == await app_port(ready["admin"]) > 0
            mesh.pilot.signal(signal.SIGKILL)
            assert await mesh.pilot.wait_ready(DEADLINE, start=2) == first
            state = mesh.state_dir
    assert not state.exists()
    assert not current.pointer_file().exists()
    host, _, port = address.rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=1)


@pytest.mark.slow
async def test_a_gateway_whose_port_is_taken_is_an_error_that_says_so() -> None:
    with trio.fail_after(DEADLINE), socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with open_local_mesh(ignore, prefix="test") as mesh:
            await mesh.start_pilot([CONFIG / "mesh"], restart_after=0.0)
            with pytest.raises(MeshError, match=f"port {port} cannot be had; choose another"):
                await mesh.wait_gateway(mesh.start_gateway(port), port)


async def test_without_a_pilot_there_is_no_mesh_to_ask_for() -> None:
    with trio.fail_after(DEADLINE):
        async with open_local_mesh(ignore, prefix="test") as mesh:
            with pytest.raises(MeshError, match="the pilot has not been started"):
                _ = mesh.pilot


async def test_an_agent_that_does_not_answer_has_no_known_app_port() -> None:
    assert await app_port("http://127.0.0.1:1") == 0
    assert host_and_port("http://127.0.0.1:80/metrics") == "127.0.0.1:80"
