"""meshctl version."""

from __future__ import annotations

import json

from click.testing import CliRunner

import mesh
from mesh.build import build
from mesh.ctl.main import cli


def test_the_version_as_text_and_as_json() -> None:
    assert f"trioweave {mesh.__version__} build {build()} python 3." in CliRunner().invoke(cli, ["version"]).output
    told = json.loads(CliRunner().invoke(cli, ["version", "-o", "json"]).output)
    assert (told["trioweave"], told["build"]) == (mesh.__version__, build())
