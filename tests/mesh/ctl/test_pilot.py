"""The command mesh-pilot."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.ctl import pilot as command
from mesh.errors import MeshError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    return tmp_path


def arguments(folder: Path, *more: str) -> list[str]:
    return ["--config-dir", str(folder / "config"), "--state-dir", str(folder / "state"), *more]


class Running:
    """A mesh-pilot process that has said that it is ready."""

    def __init__(self, folder: Path, *more: str) -> None:
        argv = [sys.executable, "-m", "mesh.ctl.pilot", *arguments(folder, *more)]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        watchdog = threading.Timer(30, self.process.kill)
        watchdog.start()
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        watchdog.cancel()
        self.urls = dict(word.split("=", 1) for word in self.line.split()[1:])

    def end(self, number: int) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def started(folder: Path) -> Iterator[Running]:
    running = Running(folder, "--plaintext-feed", "127.0.0.1:0")
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.communicate()


def test_one_ready_line_and_a_clean_end(started: Running) -> None:
    assert started.line.startswith("ready feed=wss://127.0.0.1:")
    assert list(started.urls) == ["feed", "dashboard", "metrics", "plaintext_feed"]
    code, out, err = started.end(signal.SIGTERM)
    assert (code, out) == (0, "")
    assert "SIGTERM" in err


def test_killed_and_back_on_the_same_port(started: Running, folder: Path) -> None:
    token = (folder / "state" / "token").read_text()
    root = (folder / "state" / "root-cert.pem").read_bytes()
    started.end(signal.SIGKILL)
    listen = started.urls["feed"].removeprefix("wss://").removesuffix("/feed")
    again = Running(folder, "--listen", listen)
    assert again.urls["feed"] == started.urls["feed"]
    assert (folder / "state" / "token").read_text() == token
    assert (folder / "state" / "root-cert.pem").read_bytes() == root
    assert again.end(signal.SIGINT)[0] == 0


def test_a_port_in_use_is_exit_2_with_a_remedy(
    started: Running, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = started.urls["dashboard"].removeprefix("http://")
    assert command.main(arguments(folder, "--dashboard", taken)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{taken} is in use" in told.err
    assert "--dashboard" in told.err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--config-dir", "/nonexistent"], "/nonexistent is not there"),
        (["--listen", "here"], "HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "HOST:PORT"),
        (["--mesh-config", "/nonexistent"], "readable file"),
        (["--mesh-config", "{"], "not YAML"),
        (["--mesh-config", '{"trustDomian": "x"}'], "trustDomain"),
        (["--plaintext-feed", "0.0.0.0:0"], "loopback"),
        (["--log-level", "loud"], "log level"),
    ],
)
def test_wrong_usage_is_exit_2(folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str) -> None:
    assert command.main(arguments(folder, *more)) == 2
    assert says in capsys.readouterr().err


def test_mesh_config_from_a_file(folder: Path) -> None:
    file = folder / "mesh.yaml"
    file.write_text("trustDomain: from.file\n")
    assert command._mesh_settings(str(file)).trust_domain == "from.file"
    assert command._mesh_settings('{"trustDomain": "from.json"}').trust_domain == "from.json"
    assert command._mesh_settings("").trust_domain == "cluster.local"
    file.write_text("- a list\n")
    with pytest.raises(MeshError, match="mapping"):
        command._mesh_settings(str(file))
    file.write_text("")
    assert command._mesh_settings(str(file)).trust_domain == "cluster.local"


def test_state_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert command._default_state_dir() == Path("/somewhere/trioweave/pilot")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert command._default_state_dir().parts[-4:] == (".local", "state", "trioweave", "pilot")


def test_ipv6_addresses() -> None:
    assert command._address("--listen", "[::1]:80").host == "::1"


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(["--help"])
    assert end.value.code == 0
    assert "example:" in capsys.readouterr().out


def test_help_starts_without_the_runtime() -> None:
    code = "import sys, mesh.ctl.pilot; sys.exit('trio' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
