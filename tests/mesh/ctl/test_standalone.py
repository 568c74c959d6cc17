"""A gateway told by files, in one process; what a person sees of it from outside is in tests/sockets."""

from __future__ import annotations

import gc
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.ctl.agent import main
from mesh.ctl.processes import parse_ready
from mesh.telemetry import log
from tests.ports import unused_port
from tests.sockets.mesh_rig import ask, until

YAML = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: away}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{redirect: {authority: elsewhere.test}}]
"""


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """The command tunes the collector and the log of its process, which is ours here."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
    log.setup()


class Visitor:
    """Asks the gateway from another thread, then has it end: `main` holds the main one until then."""

    def __init__(self) -> None:
        self.admin = ("127.0.0.1", unused_port())
        self.port = unused_port()
        self.location = ""
        self._thread = threading.Thread(target=self._visit)

    def flags(self) -> list[str]:
        where = f"{self.admin[0]}:{self.admin[1]}"
        return ["--admin", where, "--bind", "127.0.0.1", "--port-map", f"80={self.port}", "--set", "drain_time=0"]

    def run(self, *words: str) -> int:
        self._thread.start()
        status = main(["gateway", *words, *self.flags()])
        self._thread.join()
        return status

    def _visit(self) -> None:
        try:
            until(self._is_live)
            self.location = ask(("127.0.0.1", self.port), "/here").headers["location"]
        finally:
            ask(self.admin, "/quitquitquit", method="POST")

    def _is_live(self) -> bool:
        try:
            return ask(self.admin, "/ready").status == 200
        except OSError:
            return False


def test_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "edge.yaml").write_text(YAML)
    visitor = Visitor()
    assert visitor.run("-f", str(tmp_path)) == 0
    assert visitor.location == "http://elsewhere.test/here"
    ready = parse_ready(capsys.readouterr().out)
    assert ready == {
        "admin": f"http://127.0.0.1:{visitor.admin[1]}",
        "listen": f"127.0.0.1:{visitor.port}",
    }


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(YAML))
    visitor = Visitor()
    assert visitor.run("-f", "-") == 0
    assert visitor.location == "http://elsewhere.test/here"


def test_what_is_not_there_and_what_is_not_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateway", "-f", str(tmp_path / "none")]) == 2
    assert "none does not exist; -f takes a file or a folder of YAML" in capsys.readouterr().err
    (tmp_path / "bad.yaml").write_text(YAML.replace("servers", "serwers") + "---\nkind: Thing\n")
    assert main(["gateway", "-f", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "bad.yaml:6:3 Gateway/default/edge spec.serwers: unknown field; did you mean servers?" in told
    assert told.count("bad.yaml:") == 3  # kind and apiVersion of the second document
