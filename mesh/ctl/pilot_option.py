"""The options by which a command finds the pilot; without them it takes the mesh that runs here (current.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from mesh.ctl.api import PilotApi
from mesh.ctl.current import find_pilot


def with_pilot(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --pilot and --token-file; the command gets a PilotApi as `api`."""

    @wraps(command)
    def called(*args: Any, pilot: str | None, token_file: str | None, **kwargs: Any) -> Any:
        return command(*args, api=PilotApi(find_pilot(pilot, token_file)), **kwargs)

    called = click.option(
        "--token-file", envvar="MESH_TOKEN_FILE", metavar="FILE", help="The pilot's token; $MESH_TOKEN_FILE."
    )(called)
    return click.option("--pilot", envvar="MESH_PILOT", metavar="URL", help="The pilot's dashboard URL; $MESH_PILOT.")(
        called
    )
