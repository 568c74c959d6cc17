"""The pointer to the mesh that runs here, so that `meshctl apply` needs no address.

`meshctl demo` and `meshctl up` publish it as ${XDG_RUNTIME_DIR:-/tmp}/trioweave-UID/current.json, readable by its
owner alone, and withdraw it at their end; the last one started wins. --pilot and --token-file, or MESH_PILOT and
MESH_TOKEN_FILE, stand above it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from mesh.errors import MeshError
from mesh.private_file import write_private

_REMEDY = "start `meshctl demo` or `meshctl up`, or give --pilot URL and --token-file FILE"


class Running(msgspec.Struct, frozen=True, omit_defaults=True):
    """One process of the mesh: its id, the agent's admin URL, and the port of the app behind it."""

    pid: int
    admin: str = ""
    app_port: int = 0


class Current(msgspec.Struct, frozen=True, omit_defaults=True):
    """The mesh that runs: the pilot's door, who started it, and what else it prints at its start."""

    dashboard: str
    token_file: str
    pid: int
    state_dir: str = ""
    page: str = ""
    processes: dict[str, Running] = {}


class PilotAddress(msgspec.Struct, frozen=True):
    """Where the pilot's API is, and the token that it wants."""

    url: str
    token: str


def pointer_file(runtime_dir: str = "") -> Path:
    """Where the pointer lies (for another runtime folder than ours when given); its folder may not be there."""
    return (
        Path(runtime_dir or os.environ.get("XDG_RUNTIME_DIR") or "/tmp") / f"trioweave-{os.getuid()}" / "current.json"
    )


def publish(current: Current) -> None:
    """Make this the current mesh. Raises MeshError when the folder is not ours alone."""
    file = pointer_file()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = file.parent.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise MeshError(f"{file.parent} is open to others; remove it, or set XDG_RUNTIME_DIR to a folder of yours")
    write_private(file, msgspec.json.encode(current))


def withdraw() -> None:
    """Remove the pointer if it is this process's, and its folder if nothing else is in it."""
    file = pointer_file()
    try:
        if msgspec.json.decode(file.read_bytes(), type=Current).pid == os.getpid():
            file.unlink()
            file.parent.rmdir()
    except (OSError, msgspec.DecodeError):
        return


def read() -> Current:
    """The current mesh. Raises MeshError when there is none or its process is gone."""
    file = pointer_file()
    try:
        current = msgspec.json.decode(file.read_bytes(), type=Current)
    except FileNotFoundError:
        raise MeshError(f"no mesh runs here; {_REMEDY}") from None
    except (OSError, msgspec.DecodeError) as exc:
        raise MeshError(f"{file} cannot be read: {exc}; remove it, then {_REMEDY}") from exc
    try:
        os.kill(current.pid, 0)
    except ProcessLookupError:
        raise MeshError(f"the mesh of process {current.pid} has ended without a word; {_REMEDY}") from None
    return current


def find_pilot(url: str | None, token_file: str | None) -> PilotAddress:
    """The pilot to talk to, from the options, else the pointer. Raises MeshError."""
    if url and not token_file:
        raise MeshError("--pilot needs the pilot's token: give --token-file FILE or set MESH_TOKEN_FILE")
    if not url:
        current = read()
        url, token_file = current.dashboard, token_file or current.token_file
    if not url.startswith(("http://", "https://")):
        raise MeshError(f"{url} is no URL of a pilot's API; write the `dashboard=` URL of its ready line")
    try:
        token = Path(str(token_file)).read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise MeshError(f"token file {token_file}: {exc.strerror}; the pilot writes it into its state dir") from exc
    return PilotAddress(url.rstrip("/"), token)
