"""meshctl up with two real apps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from mesh.ctl import current, leftovers, volley
from mesh.ctl.local_mesh import host_and_port
from mesh.ctl.main import cli
from mesh.ctl.processes import parse_ready, program_argv

BOOKSTORE = Path(__file__).parents[3] / "examples" / "bookstore"
DEADLINE = 60.0


def test_a_faulty_file_is_told_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "mesh.yaml"
    file.write_text("services:\n  web: {run: '', prot: 1}\n")
    done = CliRunner().invoke(cli, ["up", str(file)])
    assert done.exit_code == 2
    assert f"meshctl: {file} is not valid:\n{file}:2:18 services.web.prot: unknown field" in done.output


@pytest.mark.slow
def test_two_services_call_each_other_and_a_dead_one_comes_back(tmp_path: Path) -> None:
    runtime, output = tmp_path / "runtime", tmp_path / "output"
    runtime.mkdir()
    (tmp_path / "mesh.yaml").write_text(
        "services:\n"
        f"  reviews: {{run: '{sys.executable} {BOOKSTORE}/reviews.py v2', service_port: 9080}}\n"
        f"  ratings: {{run: '{sys.executable} {BOOKSTORE}/ratings.py', service_port: 9080}}\n"
        "expose: reviews\n"
    )
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "TMPDIR": str(runtime)}
    argv = [*program_argv("meshctl"), "up"]
    with output.open("wb") as errors:
        up = subprocess.Popen(argv, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert up.stdout is not None
    with up.stdout:
        try:
            ready = parse_ready(up.stdout.readline())
            assert ready is not None, output.read_text()
            gateway = host_and_port(ready["url"])
            assert patient(gateway, '"stars": 5').status == 200
            pids = leftovers.descendants(up.pid)
            (app,) = leftovers.descendants(pid_of(current.pointer_file(str(runtime)), "ratings"))
            os.kill(app, signal.SIGKILL)
            assert patient(gateway, "ratings are unavailable").status == 200
            assert patient(gateway, '"stars": 5').status == 200
        finally:
            up.send_signal(signal.SIGINT)
            assert up.wait(DEADLINE) == 0
    assert leftovers.still_there(pids, [gateway], runtime) == []
    assert "ratings  | ended with status" in output.read_text()


def pid_of(file: Path, name: str) -> int:
    return msgspec.json.decode(file.read_bytes(), type=current.Current).processes[name].pid


def patient(gateway: str, wanted: str) -> volley.Reply:
    """Ask until the answer holds `wanted`; every question waits for its answer, and there is a last one."""
    for _ in range(2000):
        reply = volley.ask(gateway, "/reviews/0")
        if wanted in reply.text:
            return reply
    raise AssertionError(f"never {wanted}; last: {reply}")
