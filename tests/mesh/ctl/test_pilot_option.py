"""The options that find the pilot."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mesh.ctl.api import PilotApi
from mesh.ctl.pilot_option import with_pilot
from mesh.errors import MeshError


@click.command()
@click.argument("word")
@with_pilot
def command(word: str, api: PilotApi) -> None:
    click.echo(f"{word} {type(api).__name__}")


def test_options_and_environment_lead_to_the_pilot(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    words = ["hello", "--pilot", "http://127.0.0.1:1", "--token-file", str(token)]
    assert CliRunner().invoke(command, words).output == "hello PilotApi\n"
    environment = {"MESH_PILOT": "http://127.0.0.1:1", "MESH_TOKEN_FILE": str(token)}
    assert CliRunner().invoke(command, ["hello"], env=environment).output == "hello PilotApi\n"


def test_without_either_and_without_a_mesh_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    error = CliRunner().invoke(command, ["hello"]).exception
    assert isinstance(error, MeshError)
    assert "no mesh runs here" in str(error)
