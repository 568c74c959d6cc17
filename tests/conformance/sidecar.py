"""python -m tests.conformance.sidecar: the attack cases against a sidecar's inbound port, plaintext, PERMISSIVE.

The runners beside the repository bring the recording upstream, which stands where the sidecar's application would.
Exit 1 when a `must` or `interop` case fails.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

BIN = Path(sys.executable).parent
SUITES = ("requests", "responses", "http2")
HARDENING = (
    "request_headers_timeout=5s",
    "stream_idle_timeout=3s",
    "headers_with_underscores_action=reject",
    "path_with_escaped_slashes_action=reject",
    "merge_slashes=true",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.sidecar")
    parser.add_argument("--cases", type=Path, required=True, help="folder of the runners and their cases")
    parser.add_argument("--codec", default="fast", choices=("fast", "reference"))
    parser.add_argument("--only", default="", help="regular expression of case ids")
    parser.add_argument("--suites", default=",".join(SUITES))
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.cases))
    http1 = importlib.import_module("run_http1")
    recorder = http1.Recorder(0)
    good = True
    with tempfile.TemporaryDirectory(prefix="mesh-attacks-") as name:
        with running(Path(name), recorder.port, arguments.codec) as (port, pid):
            for suite in arguments.suites.split(","):
                rows = _run(suite, http1, recorder, port, pid, arguments)
                good = _report(suite, http1, rows) and good
    return 0 if good else 1


def _run(
    suite: str, http1: ModuleType, recorder: Any, port: int, pid: int, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]]
    if suite == "http2":
        rows = importlib.import_module("http2_cases").run("127.0.0.1", port, pid=pid, only=arguments.only)
        return rows
    file = {"requests": "http1_cases.jsonl", "responses": "http1_response_cases.jsonl"}[suite]
    cases = [case for case in http1.load(str(arguments.cases / file)) if re.search(arguments.only, case["id"])]
    address = ("127.0.0.1", port)
    if suite == "requests":
        rows = http1.run_requests(address, recorder, cases, True)
    else:
        rows = http1.run_responses(address, recorder, cases)
    return rows


def _report(suite: str, http1: ModuleType, rows: list[dict[str, Any]]) -> bool:
    hard = [row for row in rows if row["level"] != "should" and row["verdict"] != "skip"]
    held = sum(row["verdict"] == "pass" for row in hard)
    passed = sum(row["verdict"] == "pass" for row in rows)
    print(f"sidecar {suite}: {passed}/{len(rows)}; must and interop {held}/{len(hard)}")
    for row in rows:
        if row["verdict"] == "fail":
            print("  FAIL", row["level"], row["id"], "; ".join(map(str, row.get("why", [])))[:220])
    sys.stdout.flush()
    return held == len(hard)


def _policy(app_port: int) -> list[dict[str, Any]]:
    """The policy that the cases are judged by, on the workload `app`."""
    meta = {"name": "app", "namespace": "default"}
    hosts = ["secret.example", "secret.example:*", "secret.example.", "secret.example.:*"]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"selector": {"app": "app"}, "ports": [{"name": "http", "port": 8080, "targetPort": app_port}]},
        },
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": meta,
            "spec": {
                "selector": {"matchLabels": {"app": "app"}},
                "action": "DENY",
                "rules": [
                    {"to": [{"operation": {"paths": ["/admin*"]}}]},
                    {"to": [{"operation": {"hosts": hosts}}]},
                    {"when": [{"key": "request.headers[x-role]", "values": ["admin"]}]},
                ],
            },
        },
    ]


@contextlib.contextmanager
def running(folder: Path, app_port: int, codec: str) -> Iterator[tuple[int, int]]:
    """A pilot and a sidecar before the app: the inbound port, and the sidecar's process."""
    config, state = folder / "config", folder / "state"
    config.mkdir()
    (config / "app.yaml").write_text("\n---\n".join(json.dumps(each) for each in _policy(app_port)))
    pilot = ["mesh-pilot", "--config-dir", str(config), "--listen", "127.0.0.1:0", "--state-dir", str(state)]
    with _program(folder, pilot, codec) as (told, _):
        agent = ["mesh-agent", "sidecar", "--pilot", told["feed"], "--service", "app", "--namespace", "default"]
        agent += ["--label", "app=app", "--app-port", str(app_port)]
        agent += ["--token-file", str(state / "token"), "--ca", str(state / "root-cert.pem")]
        for setting in HARDENING:
            agent += ["--set", setting]
        with _program(folder, agent, codec) as (served, pid):
            yield int(served["inbound"].rpartition(":")[2]), pid


@contextlib.contextmanager
def _program(folder: Path, command: list[str], codec: str) -> Iterator[tuple[dict[str, str], int]]:
    with (folder / f"{command[0]}.log").open("wb") as log:
        program = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            stdout=subprocess.PIPE,
            stderr=log,
            env=dict(os.environ, MESH_CODEC=codec),
        )
    assert program.stdout is not None
    try:
        words = program.stdout.readline().decode().split()
        if words[:1] != ["ready"]:
            raise SystemExit(f"{command[0]} did not start:\n{(folder / f'{command[0]}.log').read_text()[-2000:]}")
        yield dict(word.split("=", 1) for word in words[1:]), program.pid
    finally:
        program.terminate()
        try:
            program.wait(15)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


if __name__ == "__main__":
    sys.exit(main())
