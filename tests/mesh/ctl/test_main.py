"""The table of commands and how errors leave it."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from mesh.ctl import main
from mesh.errors import MeshError


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(main.cli, [name, "--help"])
    assert shown.exit_code == 0
    assert f"xample: meshctl {name}" in shown.output


def test_help_lists_the_commands_without_importing_them() -> None:
    code = "import sys; from mesh.ctl.main import cli; cli(['--help'], standalone_mode=False)"
    code += "; print('mesh.ctl.demo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert "proxy-status" in done.stdout
    assert done.stdout.endswith("False\n")


def test_unknown_commands_and_options_are_wrong_usage() -> None:
    assert CliRunner().invoke(main.cli, ["nothing"]).exit_code == 2
    assert CliRunner().invoke(main.cli, ["version", "--nothing"]).exit_code == 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (MeshError("no pilot; start one"), "meshctl: no pilot; start one\n"),
        (
            ExceptionGroup("", [ExceptionGroup("", [MeshError("first")]), MeshError("second")]),
            "meshctl: first\nsecond\n",
        ),
    ],
)
def test_an_operators_error_is_its_message_and_status_2(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, message: str
) -> None:
    done = CliRunner().invoke(_failing(monkeypatch, fault), ["version"])
    assert (done.exit_code, done.output) == (2, message)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    for bug in (ZeroDivisionError("bug"), ExceptionGroup("", [MeshError("no"), ZeroDivisionError("bug")])):
        assert CliRunner().invoke(_failing(monkeypatch, bug), ["version"]).exception is bug


def _failing(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> click.Command:
    @click.command()
    def command() -> None:
        raise fault

    from mesh.ctl import version

    monkeypatch.setattr(version, "command", command)
    return main.cli


def test_a_reader_that_leaves_early_is_no_error() -> None:
    pipeline = f"{sys.executable} -m mesh.ctl.main version | true"
    done = subprocess.run(["sh", "-c", pipeline], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
