"""What is left of a program."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.ctl import leftovers


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc here")
def test_descendants_are_found_through_all_generations() -> None:
    code = "import subprocess, sys; c = subprocess.Popen(['sleep', '60']); print(c.pid, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}; c.kill(); c.wait()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        assert {parent.pid, grandchild} <= leftovers.descendants(os.getpid())
        assert leftovers.descendants(parent.pid) == {grandchild}
        assert leftovers.is_alive(grandchild)
        parent.stdin.close()
        parent.wait(20)
    assert not leftovers.is_alive(grandchild)


def test_processes_ports_and_files_that_are_left_are_named(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server, subprocess.Popen(["sleep", "60"]) as process:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        left = leftovers.still_there([process.pid], [address], tmp_path)
        process.kill()
        process.wait(20)
    assert left == [f"process {process.pid}", f"a listener at {address}", f"the file {tmp_path / 'token'}"]
    (tmp_path / "token").unlink()
    assert leftovers.still_there([process.pid], [address], tmp_path) == []
