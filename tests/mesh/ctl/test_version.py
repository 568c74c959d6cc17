"""meshctl version."""

from __future__ import annotations

import json

from click.testing import CliRunner

import mesh
from mesh.ctl.main import cli


def test_the_version_as_text_and_as_json() -> None:
    assert f"trioweave {mesh.__version__} python 3." in CliRunner().invoke(cli, ["version"]).output
    assert json.loads(CliRunner().invoke(cli, ["version", "-o", "json"]).output)["trioweave"] == mesh.__version__
