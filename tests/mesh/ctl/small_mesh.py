"""A real pilot, and beside it a real sidecar, as processes, for the tests of commands that talk to them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner, Result

from mesh.ctl.main import cli
from mesh.ctl.processes import parse_ready, program_argv

CONFIG = Path(__file__).parents[3] / "examples" / "bookstore" / "mesh"
DEADLINE = 20.0


class SmallMesh(NamedTuple):
    """What the pilot said when it was ready, and where its secrets are."""

    ready: dict[str, str]
    state_dir: Path

    @property
    def options(self) -> list[str]:
        return ["--pilot", self.ready["dashboard"], "--token-file", str(self.state_dir / "token")]

    def meshctl(self, *words: str, input: bytes | None = None) -> Result:
        """Run one command against this pilot."""
        return CliRunner().invoke(cli, [*words, *self.options], input=input)


@contextmanager
def running(argv: list[str]) -> Iterator[dict[str, str]]:
    """A program until the block ends; gives the pairs of its ready line."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    with process.stdout:
        try:
            ready = parse_ready(process.stdout.readline())
            assert ready is not None, f"{argv[0]} is not ready"
            yield ready
        finally:
            process.terminate()
            process.wait(DEADLINE)


@contextmanager
def small_mesh(state_dir: Path) -> Iterator[SmallMesh]:
    """A pilot that reads the bookstore's configuration."""
    argv = [*program_argv("mesh-pilot"), "--config-dir", str(CONFIG), "--state-dir", str(state_dir)]
    with running(argv) as ready:
        yield SmallMesh(ready, state_dir)


@contextmanager
def sidecar(mesh: SmallMesh, service: str, version: str) -> Iterator[dict[str, str]]:
    """A sidecar of that mesh, without an app."""
    secrets = ["--token-file", str(mesh.state_dir / "token"), "--ca", str(mesh.state_dir / "root-cert.pem")]
    argv = [*program_argv("mesh-agent"), "sidecar", "--pilot", mesh.ready["feed"], *secrets, "--service", service]
    with running([*argv, "--app-port", "0", "--version", version]) as ready:
        yield ready
