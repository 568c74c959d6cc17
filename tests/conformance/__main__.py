"""python -m tests.conformance: score the commands on the corpora beside the repository, where they are.

The corpora are not part of this repository; each brings a score.py of its own that starts our commands as black
boxes and prints a score with the ids that fail.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
# Folder of the corpus -> the command that answers it.
ASKS = {"validate": "validate", "samples": "validate", "routing": "route", "analyze": "analyze", "authz": "authz"}
HTTP2_NEEDS = ("hyperframe", "hpack")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description="Scores on the corpora.")
    parser.add_argument("--shared", type=Path, default=os.environ.get("MESH_CORPUS") or ROOT.parent / "shared")
    parser.add_argument("--every", type=int, default=1, help="take every Nth case of the YAML corpora")
    arguments = parser.parse_args()
    shared = arguments.shared.resolve()
    ran = [_yaml(shared, arguments.every), _attacks(shared)]
    if not any(ran):
        print(f"no corpora in {shared}: nothing to score. They are optional; name their folder with SHARED=DIR.")
    return 0


def _yaml(shared: Path, every: int) -> bool:
    score = shared / "corpus" / "score.py"
    if not score.exists():
        return False
    known = subprocess.run([BIN / "meshctl", "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    commands = {line.split()[0] for line in known.splitlines() if line.startswith("  ") and line.split()}
    asked = [folder for folder, command in ASKS.items() if command in commands]
    for folder in ASKS.keys() - set(asked):
        print(f"{folder}: not scored, meshctl has no command `{ASKS[folder]}` yet")
    _run([score, "--meshctl", shlex.quote(str(BIN / "meshctl")), "--only", ",".join(asked), "--every", str(every)])
    return True


def _attacks(shared: Path) -> bool:
    score = shared / "reliability" / "score.py"
    if not score.exists():
        return False
    suites = ["requests", "responses"]
    if all(importlib.util.find_spec(name) for name in HTTP2_NEEDS):
        suites += ["http2", "http2_tls"]
    for codec in ("fast", "reference"):
        print(f"codec {codec}", flush=True)
        agent = shlex.quote(str(BIN / "mesh-agent"))
        _run([score, "--agent", agent, "--codec", codec, "--suites", ",".join(suites)])
        beside = [suite for suite in suites if suite != "http2_tls"]
        _run(
            ["-m", "tests.conformance.sidecar", "--cases", score.parent, "--codec", codec, "--suites", ",".join(beside)]
        )
    return True


def _run(arguments: list[str | Path]) -> None:
    sys.stdout.flush()
    subprocess.run([sys.executable, "-B", *map(str, arguments)], cwd=ROOT, check=False)


if __name__ == "__main__":
    sys.exit(main())
