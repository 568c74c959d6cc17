"""The pointer to the mesh that runs here."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.ctl import current
from mesh.errors import MeshError


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def running(tmp_path: Path, pid: int = 0) -> current.Current:
    token = tmp_path / "token"
    token.write_text("secret\n")
    return current.Current("http://127.0.0.1:1234", str(token), pid or os.getpid(), page="http://page/")


def test_what_is_published_is_found_and_withdrawn(runtime: Path) -> None:
    mesh = running(runtime)
    current.publish(mesh)
    file = current.pointer_file()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert current.read() == mesh
    assert current.find_pilot(None, None) == current.PilotAddress("http://127.0.0.1:1234", "secret")
    current.withdraw()
    assert not file.parent.exists()
    current.withdraw()


def test_without_a_mesh_the_error_says_how_to_get_one() -> None:
    with pytest.raises(MeshError, match="no mesh runs here; start `meshctl demo`"):
        current.read()


def test_a_pointer_whose_process_is_gone_is_stale(runtime: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(20)
    current.publish(running(runtime, gone.pid))
    with pytest.raises(MeshError, match=f"process {gone.pid} has ended without a word"):
        current.read()


def test_the_pointer_of_another_mesh_is_left_alone(runtime: Path) -> None:
    current.publish(running(runtime, os.getppid()))
    current.withdraw()
    assert current.pointer_file().exists()


def test_a_damaged_pointer_is_named(runtime: Path) -> None:
    current.publish(running(runtime))
    current.pointer_file().write_text("{")
    with pytest.raises(MeshError, match=r"current\.json cannot be read: .*; remove it"):
        current.read()
    current.withdraw()


def test_a_folder_that_others_may_read_is_refused(runtime: Path) -> None:
    current.pointer_file().parent.mkdir(mode=0o755)
    current.pointer_file().parent.chmod(0o755)
    with pytest.raises(MeshError, match="is open to others; remove it"):
        current.publish(running(runtime))


def test_flags_stand_above_the_pointer(runtime: Path) -> None:
    token = runtime / "other"
    token.write_text("other-secret")
    assert current.find_pilot("http://h:1/", str(token)) == current.PilotAddress("http://h:1", "other-secret")
    with pytest.raises(MeshError, match="--pilot needs the pilot's token"):
        current.find_pilot("http://h:1", None)
    with pytest.raises(MeshError, match="h:1 is no URL"):
        current.find_pilot("h:1", str(token))
    with pytest.raises(MeshError, match=r"token file .*none: No such file"):
        current.find_pilot("http://h:1", str(runtime / "none"))
