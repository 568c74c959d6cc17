"""A gateway without a mesh: a pilot and an agent in one Trio run over an in-memory feed, the same code as apart."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import trio

from agent.agent import Agent
from agent.bootstrap import Bootstrap
from agent.doors import Doors
from mesh.ctl.agent import Announce, serve_agent
from mesh.errors import MeshError
from mesh.telemetry.log import get_logger
from pilot.options import Options
from pilot.pilot import run_in_memory
from pilot.translate.proxy import Proxy


async def serve_standalone(
    bootstrap: Bootstrap, files: tuple[str, ...], doors: Doors | None = None, announce: Announce | None = None
) -> int:
    """Serve the Gateways in `files` until a signal; the files are re-read when they change.

    Raises MeshError, one line per defect, when they are not valid at the start: there is no last good version yet.
    """
    wall = time.time  # noqa: TID251 - the program's own clock, handed down from here
    with tempfile.TemporaryDirectory(prefix="trioweave-gateway-") as folder:
        paths = tuple(_path(text, Path(folder)) for text in files)
        _check(paths)
        options = Options(config_dirs=paths, state_dir=Path(folder))
        make_proxy = partial(Proxy, bind=bootstrap.bind, match_all_gateways=True)
        async with trio.open_nursery() as nursery:
            feed = await nursery.start(
                partial(run_in_memory, options, log=get_logger("pilot"), wall=wall, make_proxy=make_proxy)
            )
            agent = Agent(bootstrap, feed.connect, wall=wall, rng=random.Random(), needs_identity=False, doors=doors)
            status = await serve_agent(agent, bootstrap, announce)
            nursery.cancel_scope.cancel()
    return status


def _path(text: str, folder: Path) -> Path:
    """`-` is standard input, kept in a file; anything else must exist."""
    if text == "-":
        kept = folder / "stdin.yaml"
        kept.write_text(sys.stdin.read(), encoding="utf-8")
        return kept
    path = Path(text)
    if not path.exists():
        raise MeshError(f"{text} does not exist; -f takes a file or a folder of YAML")
    return path


def _check(paths: tuple[Path, ...]) -> None:
    from mesh.ctl.files import load

    loaded = load([str(path) for path in paths])
    if loaded.errors:
        raise MeshError("the configuration is not valid\n" + "\n".join(str(error) for error in loaded.errors))
