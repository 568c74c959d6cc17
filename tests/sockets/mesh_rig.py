"""Pilot, sidecars and gateways as real processes, and a plain HTTP client, for the tests that look from outside.

Everything waits under DEADLINE, everything started is ended, and what was said is kept to be looked at.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from mesh.ctl.processes import parse_ready

DEADLINE = 30.0
APP = Path(__file__).parent / "app.py"
SERVER_YAML = """apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{port: 9080, name: http}]}
"""
STRICT_YAML = """apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: server}
spec: {selector: {matchLabels: {app: server}}, mtls: {mode: STRICT}}
"""


class Program:
    """A process in a group of its own. `lines` is all it said; `ready` the pairs of its ready line."""

    def __init__(self, module: str, *words: str, env: Mapping[str, str] | None = None, stdin: str = "") -> None:
        self.lines: list[str] = []
        self.ready: dict[str, str] = {}
        self._heard = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"mesh.ctl.{module}", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            env={**os.environ, **(env or {})},
        )
        self.pid = self.process.pid
        assert self.process.stdin is not None
        with self.process.stdin as pipe:
            pipe.write(stdin)
        self._readers = [
            threading.Thread(target=self._listen, args=(stream,), daemon=True)
            for stream in (self.process.stdout, self.process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def _listen(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                pairs = parse_ready(line) if stream is self.process.stdout else None
                with self._heard:
                    self.lines.append(line.rstrip("\n"))
                    self.ready = pairs or self.ready
                    self._heard.notify_all()

    @property
    def said(self) -> str:
        """All of its output so far."""
        return "\n".join(self.lines)

    def wait_ready(self) -> Program:
        """Until the ready line."""
        self._wait(lambda: bool(self.ready), "ready")
        return self

    def wait_line(self, *parts: str) -> str:
        """The first line that has all the parts."""
        found: list[str] = []

        def heard() -> bool:
            found.extend(line for line in self.lines if all(part in line for part in parts))
            return bool(found)

        self._wait(heard, f"saying {parts}")
        return found[0]

    def _wait(self, true: Callable[[], bool], what: str) -> None:
        with self._heard:
            done = self._heard.wait_for(lambda: true() or self.process.poll() is not None, DEADLINE)
            assert done, f"not {what} in time:\n{self.said}"
        for reader in self._readers if not true() else ():  # it ended: its last words may be on their way
            reader.join(DEADLINE)
        assert true(), f"ended with {self.process.poll()} before {what}:\n{self.said}"

    def address(self, key: str) -> tuple[str, int]:
        """Host and port of a value of the ready line: a URL, an address, or the first of several."""
        host, _, port = self.ready[key].rpartition("://")[2].partition("/")[0].partition(",")[0].rpartition(":")
        return host, int(port)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status, all of its output read."""
        status = self.process.wait(DEADLINE)
        for reader in self._readers:
            reader.join(DEADLINE)
        return status

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it and whatever it started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.wait()

    def admin(self, path: str, method: str = "GET") -> Answer:
        """Ask the agent's admin port."""
        return ask(self.address("admin"), path, method=method)

    def metric(self, line: str) -> float:
        """The sum of the samples of the agent that begin with `line`."""
        page = self.admin("/stats/prometheus").text
        return sum(float(text.rsplit(" ", 1)[1]) for text in page.splitlines() if text.startswith(line))


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(where: tuple[str, int], path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(*where, timeout=DEADLINE)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        data = response.read()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)
    finally:
        connection.close()


def until(true: Callable[[], object]) -> None:
    """Look again and again until `true()`."""
    pause = threading.Event()
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end, f"not so within {DEADLINE:.0f} s"
        pause.wait(0.02)


class Fleet:
    """Programs of one test, ended with it. `folder` holds the configuration, `state` the pilot's state."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "config"
        self.state = root / "state"
        self.folder.mkdir()
        self.programs: list[Program] = []
        self.pilot: Program

    def write(self, name: str, text: str) -> None:
        """Put a file into the configuration."""
        (self.folder / name).write_text(text)

    def start(self, module: str, *words: str, env: Mapping[str, str] | None = None, stdin: str = "") -> Program:
        """A command; the caller waits for what it should say."""
        program = Program(module, *words, env=env, stdin=stdin)
        self.programs.append(program)
        return program

    def start_pilot(self, *words: str) -> Program:
        """The pilot, ready."""
        self.pilot = self.start("pilot", "--config-dir", str(self.folder), "--state-dir", str(self.state), *words)
        return self.pilot.wait_ready()

    def secrets(self) -> list[str]:
        """Flags of an agent that may join."""
        return ["--token-file", str(self.state / "token"), "--ca", str(self.state / "root-cert.pem")]

    def sidecar(self, service: str, *words: str, app: bool = False, app_port: int = 0, pilot: str = "") -> Program:
        """A sidecar, not waited for; with `app` it starts app.py."""
        argv = ["sidecar", "--pilot", pilot or self.pilot.ready["feed"], *self.secrets(), "--service", service]
        argv += ["--app-port", str(app_port), *words]
        return self.start("agent", *argv, *(["--", sys.executable, str(APP), service] if app else []))

    def api(self, path: str) -> Any:
        """Ask the pilot's API with the token."""
        token = (self.state / "token").read_text().strip()
        return ask(self.pilot.address("dashboard"), path, Authorization=f"Bearer {token}").json

    def end(self) -> None:
        """End everything; whoever does not end by itself is killed."""
        alive = [program for program in reversed(self.programs) if program.process.poll() is None]
        for program in alive:
            program.signal(signal.SIGTERM)
        for program in alive:
            try:
                program.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                pass
        for program in self.programs:
            program.kill()


@contextmanager
def fleet(root: Path) -> Iterator[Fleet]:
    """Programs that end with the block."""
    made = Fleet(root)
    try:
        yield made
    finally:
        made.end()


class SmallMesh(Fleet):
    """A pilot, the service `server` (an app, STRICT) and the sidecar `client` through whose proxy tests call it."""

    client: Program
    server: Program

    def begin(self) -> None:
        self.write("server.yaml", SERVER_YAML)
        self.write("strict.yaml", STRICT_YAML)
        self.start_pilot()
        quick = ("--set", "drain_time=1s")
        self.server = self.sidecar("server", *quick, app=True)
        self.client = self.sidecar("client", *quick)
        for each in (self.server, self.client):
            each.wait_ready()
        until(lambda: self.call("/").status == 200)

    def call(
        self, path: str = "/", *, host: str = "server:9080", method: str = "GET", body: bytes | None = None
    ) -> Answer:
        """A request through the client's sidecar."""
        return ask(self.client.address("http_proxy"), f"http://{host}{path}", method=method, body=body, Host=host)


@contextmanager
def small_mesh(root: Path) -> Iterator[SmallMesh]:
    """That mesh, serving."""
    made = SmallMesh(root)
    try:
        made.begin()
        yield made
    finally:
        made.end()
