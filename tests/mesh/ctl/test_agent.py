"""The command mesh-agent: flags, its ready line, the app, and how it ends. Processes are in tests/sockets."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from agent.agent import Agent
from agent.bootstrap import Bootstrap, Ready, Settings
from agent.websocket import Unreachable
from mesh.ctl.agent import app_environment, main, serve_agent
from mesh.ctl.processes import parse_ready
from mesh.errors import MeshError
from mesh.feed.node import Node
from mesh.feed.transport import Transport
from mesh.telemetry import log
from tests.mesh.ctl.small_mesh import SmallMesh, small_mesh

PILOT = ("--pilot", "wss://127.0.0.1:1/feed")
SIDECAR = ("sidecar", *PILOT, "--service", "app", "--app-port", "1")


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command tunes the collector and the log of its process, which is ours here."""
    for name in ("MESH_TOKEN_FILE", "MESH_CA_FILE", "MESH_CODEC"):
        monkeypatch.delenv(name, raising=False)
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
    log.setup()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallMesh]:
    with small_mesh(tmp_path_factory.mktemp("pilot")) as made:
        yield made


def joining(mesh: SmallMesh, *words: str) -> list[str]:
    secrets = ["--token-file", str(mesh.state_dir / "token"), "--ca", str(mesh.state_dir / "root-cert.pem")]
    return ["sidecar", "--pilot", mesh.ready["feed"], *secrets, "--service", "app", "--set", "drain_time=0", *words]


# Flags


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((*SIDECAR,), "give --token-file FILE"),
        ((*SIDECAR, "--token-file", "t"), "give --ca FILE"),
        (("sidecar", "--service", "a", "--app-port", "1"), "give --pilot wss://127.0.0.1:15012/feed\n"),
        (("gateway",), "or -f FILE"),
        (("gateway", "-f", "x", *PILOT), "exclude each other"),
        (("gateway", "-f", "x", "--", "app"), "a gateway starts no app"),
        (("gateway", "-f", "x", "--port-map", "a=1"), "for example --port-map 80=8080"),
        (("gateway", "-f", "x", "--label", "version"), "is not KEY=VALUE; write for example --label app=reviews"),
        (("gateway", "-f", "x", "--admin", "here"), "--admin"),
        (("gateway", "-f", "x", "--set", "drain_tme=1"), "did you mean drain_time?"),
        (("gateway", *PILOT, "--token-file", "t", "--ca", "c", "--log-level", "loud"), "loud"),
        (("sidecar", *PILOT, "--service", "a", "--app-port", "70000"), "--app-port"),
        ((*SIDECAR, "--health-check", "ready"), "write tcp, grpc, or a path such as /health"),
        ((*SIDECAR, "--health-check", "/a b"), "--health-check '/a b'"),
        (
            ("sidecar", "--pilot", "http://here", "--token-file", "t", "--service", "a", "--app-port", "1"),
            "no feed URL",
        ),
    ],
)
def test_wrong_usage_ends_with_2_and_the_remedy(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_a_codec_from_the_environment_is_checked_as_a_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_CODEC", "fastest")
    assert main(["gateway", "-f", "x"]) == 2
    assert "one of auto, fast, reference" in capsys.readouterr().err


def test_help_lists_the_settings_with_their_defaults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["mesh-agent", "sidecar", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    told = capsys.readouterr().out
    assert "drain_time=5.0" in told
    assert "MESH_TOKEN_FILE" in told


# Running


def test_the_apps_status_is_the_commands_and_its_environment_tells_of_the_mesh(
    mesh: SmallMesh, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = tmp_path / "told.json"
    app = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w')); sys.exit(5)"
    words = joining(mesh, "--app-port", "0", "--version", "v1", "--", sys.executable, "-c", app, str(told))
    assert main(words) == 5
    ready = parse_ready(capsys.readouterr().out)
    environment = json.loads(told.read_text())
    assert ready is not None
    assert environment["HTTP_PROXY"] == environment["http_proxy"] == ready["http_proxy"]
    assert environment["NO_PROXY"] == environment["no_proxy"] == "127.0.0.1,localhost"
    assert int(environment["PORT"]) > 0
    assert ready["inbound"].startswith("127.0.0.1:")


def test_a_signals_death_of_the_app_is_told_as_shells_do(mesh: SmallMesh) -> None:
    assert main(joining(mesh, "--app-port", "1", "--", "sh", "-c", "kill -TERM $$")) == 128 + signal.SIGTERM


def test_a_command_that_is_not_there(mesh: SmallMesh, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(joining(mesh, "--app-port", "1", "--", "/no/such/program")) == 2
    assert "cannot start /no/such/program: No such file or directory; check the command" in capsys.readouterr().err


def test_a_signal_ends_the_app_too(mesh: SmallMesh, tmp_path: Path) -> None:
    """The app signals its sidecar; then it gets SIGTERM, which it notes."""
    noted = tmp_path / "noted"
    app = f"trap 'touch {noted}; exit 0' TERM; kill -TERM {os.getpid()}; while :; do sleep 0.01; done"
    assert main(joining(mesh, "--app-port", "1", "--", "sh", "-c", app)) == 0
    assert noted.exists()


@pytest.mark.slow
def test_an_app_that_does_not_end_is_killed(mesh: SmallMesh) -> None:
    app = f"trap '' TERM; kill -TERM {os.getpid()}; while :; do sleep 0.01; done"
    assert main(joining(mesh, "--app-port", "1", "--", "sh", "-c", app)) == 0


def test_what_the_app_is_told() -> None:
    bootstrap = Bootstrap(Node("sidecar~a.default", "sidecar"), app_port=8080)
    ready = Ready("127.0.0.1:1", {"http_proxy": "127.0.0.1:2"}, {"db:5432": "127.0.0.1:3"})
    told = app_environment(bootstrap, ready)
    assert told["PORT"] == "8080"
    assert told["HTTP_PROXY"] == "http://127.0.0.1:2"
    assert json.loads(told["MESH_UPSTREAMS"]) == {"db:5432": "127.0.0.1:3"}


# Waiting for a pilot


@asynccontextmanager
async def no_pilot() -> AsyncIterator[Transport]:
    raise Unreachable("unreachable", "no pilot answers at wss://here", "start the pilot")
    yield


@asynccontextmanager
async def silent_pilot() -> AsyncIterator[Transport]:
    await trio.sleep_forever()
    yield


def lonely(connect: object = no_pilot) -> tuple[Agent, Bootstrap]:
    bootstrap = Bootstrap(Node("sidecar~a.default", "sidecar"), Settings(drain_time=0.0))
    wall = time.time  # noqa: TID251
    return Agent(bootstrap, connect, wall=wall, rng=random.Random(1), needs_identity=False), bootstrap  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("connect", "told"), [(no_pilot, "no pilot answers at wss://here; start the pilot"), (silent_pilot, "no session")]
)
async def test_waiting_has_an_end_that_says_why(autojump_clock: MockClock, connect: object, told: str) -> None:
    agent, bootstrap = lonely(connect)
    with pytest.RaisesGroup(
        pytest.RaisesExc(MeshError, match=f"not ready within 300 s: .*{told}"), flatten_subgroups=True
    ):
        await serve_agent(agent, bootstrap)


async def test_a_signal_ends_the_wait(capsys: pytest.CaptureFixture[str]) -> None:
    agent, bootstrap = lonely()
    status = []
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                status.append(await serve_agent(agent, bootstrap))

            nursery.start_soon(serve)
            await trio.testing.wait_all_tasks_blocked(0.05)
            os.kill(os.getpid(), signal.SIGTERM)
    assert status == [0]
    assert capsys.readouterr().out == ""
