"""Real gRPC peers, each a process of its own: a server that a test may ask, and a client that it may make call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.sockets.mesh_rig import DEADLINE, until

HERE = Path(__file__).parent
APP = HERE / "grpc_app.py"
CLIENT = HERE / "grpc_client.py"


class Outcome(NamedTuple):
    """How a call ended; `text` and `same` are of the answer, `same` that it was what had been sent."""

    code: str
    details: str
    initial: dict[str, str]
    trailing: dict[str, str]
    same: bool = False
    text: str = ""
    count: int = 0

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Caller:
    """A client process with one channel."""

    def __init__(self, target: str, proxy: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(CLIENT), target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **({"grpc_proxy": proxy, "no_proxy": ""} if proxy else {})},
        )

    def __call__(self, kind: str, method: str, **how: Any) -> Outcome:
        """One call, to its end; `method` may leave `/test.App/` out."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        path = method if method.startswith("/") else f"/test.App/{method}"
        self.process.stdin.write(json.dumps({"kind": kind, "method": path, **how}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the client ended with {self.process.wait(DEADLINE)}"
        return Outcome(**json.loads(line))

    def counts(self) -> tuple[dict[str, int], int]:
        """What the server has begun, and how many calls were ended from outside."""
        told = self("unary", "Counts").json
        return told["begun"], len(told["cancelled"])

    def until_reached(self) -> None:
        """Wait until calls get through."""
        until(lambda: self("unary", "Unary", text="x").code == "OK")


@contextmanager
def caller(target: str, proxy: str = "") -> Iterator[Caller]:
    """A client for the block, which goes by CONNECT where there is a proxy's URL."""
    made = Caller(target, proxy)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate(timeout=DEADLINE)


@contextmanager
def grpc_app(name: str, port: int = 0) -> Iterator[int]:
    """A server for the block; its port."""
    process = subprocess.Popen(
        [sys.executable, str(APP), name], stdout=subprocess.PIPE, text=True, env={**os.environ, "PORT": str(port)}
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().removeprefix("port "))
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)
