"""`meshctl tasks` against a real gateway, and against none."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from mesh.ctl.main import cli
from tests.mesh.ctl.small_mesh import program_argv, running

GATEWAY = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
"""


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = tmp_path_factory.mktemp("edge") / "edge.yaml"
    file.write_text(GATEWAY)
    argv = [*program_argv("mesh-agent"), "gateway", "-f", str(file), "--bind", "127.0.0.1", "--port-map", "80=0"]
    with running(argv) as ready:
        yield ready["admin"]


@pytest.fixture(autouse=True)
def _no_current_mesh(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))


def tasks(*words: str) -> Result:
    return CliRunner().invoke(cli, ["tasks", "edge", *words])


def test_the_tree_names_what_runs(admin: str) -> None:
    shown = tasks("--admin", admin)
    assert shown.exit_code == 0
    for name in ("sweeper (at ", "deadlines of tries (at ", "admin port (at ", "listener "):
        assert name in shown.stdout


def test_a_limit_tells_the_remainder(admin: str) -> None:
    shown = tasks("--admin", admin, "--limit", "1")
    assert len(shown.stdout.splitlines()) == 1
    assert "more tasks; --limit shows more" in shown.stderr


def test_json_is_what_the_agent_says(admin: str) -> None:
    assert json.loads(tasks("--admin", admin, "-o", "json").stdout)["trees"][0]["nurseries"]
    assert (
        json.loads(tasks("--admin", admin, "--exchanges", "--min-age", "2.5", "-o", "json").stdout)["exchanges"] == []
    )


def test_exchanges_are_a_table(admin: str) -> None:
    assert tasks("--admin", admin, "--exchanges").stdout.split("  ")[0] == "AGE"


def test_an_agent_that_is_not_known_is_refused_with_the_remedy() -> None:
    shown = tasks()
    assert shown.exit_code == 2
    assert "give --admin URL" in shown.output
