"""The demo as a person starts it: `meshctl demo --check` passes, a SIGTERM leaves nothing."""

from __future__ import annotations

import io
import os
import signal
import subprocess
from pathlib import Path

import pytest

from mesh.ctl import leftovers, volley
from mesh.ctl.local_mesh import host_and_port
from mesh.ctl.processes import parse_ready, program_argv

DEADLINE = 180.0


@pytest.mark.slow
def test_the_acceptance_script_passes(tmp_path: Path) -> None:
    done = subprocess.run(
        [*program_argv("meshctl"), "demo", "--check"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") == 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_on_a_terminal_the_demo_shows_its_tour_and_traffic_and_ends_at_sigterm(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    terminal, theirs = os.openpty()
    try:
        argv = [*program_argv("meshctl"), "demo", "--verbose"]
        demo = subprocess.Popen(argv, stdout=theirs, stderr=subprocess.DEVNULL, env=environment)
    finally:
        os.close(theirs)
    with open(terminal, "rb", buffering=0) as screen:
        try:
            told = read_until(screen, b"Ctrl-C ends everything.")
            ready = parse_ready(told.decode().splitlines()[0])
            assert ready is not None
            gateway = host_and_port(ready["page"])
            assert volley.ask(gateway, "/productpage").status == 200
            read_until(screen, b"/s")
            pids = leftovers.descendants(demo.pid)
        finally:
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(DEADLINE) == 0
    assert b"kill -9" in told
    assert leftovers.still_there(pids, [gateway, host_and_port(ready["dashboard"])], tmp_path) == []


def read_until(screen: io.FileIO, wanted: bytes) -> bytes:
    """What the terminal shows up to `wanted`; the program's end is an OSError."""
    told = b""
    while wanted not in told:
        told += screen.read(4096) or b""
    return told
