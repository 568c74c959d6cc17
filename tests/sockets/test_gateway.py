"""`mesh-agent gateway -f`: a gateway without a mesh, told by files."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import unused_port
from tests.sockets.mesh_rig import Answer, Fleet, Program, ask, fleet, until
from tests.sockets.test_faults import an_app

GATEWAY_YAML = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: app}
spec:
  hosts: [app.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: %d}}]
"""
ROUTES_YAML = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - match: [{uri: {prefix: /%s}}]
    route: [{destination: {host: app.test}}]
"""
FLAGS = ("--bind", "127.0.0.1", "--port-map", "80=0", "--set", "drain_time=0")


class Edge:
    """A running gateway and its files."""

    def __init__(self, programs: Fleet, app_port: int) -> None:
        self.programs = programs
        programs.write("gateway.yaml", GATEWAY_YAML % app_port)
        self.route("first")
        self.program = programs.start("agent", "gateway", "-f", str(programs.folder), *FLAGS).wait_ready()

    def route(self, prefix: str) -> None:
        self.programs.write("routes.yaml", ROUTES_YAML % prefix)

    def get(self, path: str) -> Answer:
        return ask(self.program.address("listen"), path)


@pytest.fixture(scope="module")
def app() -> Iterator[int]:
    """The port of an app that answers."""
    port = unused_port()
    with an_app(port):
        yield port


@pytest.fixture(scope="module")
def edge(app: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with fleet(tmp_path_factory.mktemp("edge")) as programs:
        yield Edge(programs, app)


def test_routes_and_refuses(edge: Edge) -> None:
    until(lambda: edge.get("/first").status == 200)
    assert edge.get("/first/deep?a=b").json["path"] == "/first/deep?a=b"
    assert edge.get("/elsewhere").status == 404


def test_a_change_is_taken_and_a_bad_one_is_not(edge: Edge) -> None:
    edge.route("second")
    until(lambda: edge.get("/second").status == 200)
    assert edge.get("/first").status == 404
    edge.programs.write("routes.yaml", (ROUTES_YAML % "third").replace("route:", "rout:"))
    told = edge.program.wait_line("configuration fault; the last good version stays", "routes.yaml:9:5")
    assert "route" in told
    assert edge.get("/second").status == 200
    edge.route("first")
    until(lambda: edge.get("/first").status == 200)


def test_the_admin_port_answers(edge: Edge) -> None:
    until(lambda: edge.get("/first").status == 200)
    admin = edge.program.admin
    assert (admin("/ready").status, admin("/ready").text) == (200, "LIVE\n")
    assert re.search(r'istio_requests_total\{[^}]*response_code="200"[^}]*\} [1-9]', admin("/stats/prometheus").text)
    dump = json.dumps(admin("/config_dump").json)
    assert "outbound|80||app.test" in dump
    assert "outbound|80||app.test::127.0.0.1" in admin("/clusters").text
    host, port = edge.program.address("listen")
    assert f"{host}:{port}" in admin("/listeners").text
    explained = admin("/explain?url=http://any/first").json
    assert explained["chosen"] == "outbound|80||app.test"
    assert admin("/drain").status == 400
    assert admin("/nothing").status == 404


def test_drain_and_quit_over_the_admin_port(programs: Fleet, app: int) -> None:
    edge = Edge(programs, app)
    until(lambda: edge.get("/first").status == 200)
    assert edge.program.admin("/drain", "POST").text == "OK\n"
    assert edge.get("/first").headers["connection"] == "close"
    assert edge.program.admin("/quitquitquit", "POST").text == "OK\n"
    assert edge.program.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_without_a_trace(programs: Fleet, number: int) -> None:
    edge = Edge(programs, 1)
    where = edge.program.address("listen")
    edge.program.signal(number)
    assert edge.program.wait() == 0
    assert "Traceback" not in edge.program.said
    with pytest.raises(ConnectionRefusedError):
        ask(where, "/")


def test_standard_input(programs: Fleet, app: int) -> None:
    yaml = GATEWAY_YAML % app + "---\n" + ROUTES_YAML % "piped"
    gateway = programs.start("agent", "gateway", "-f", "-", *FLAGS, stdin=yaml).wait_ready()
    until(lambda: ask(gateway.address("listen"), "/piped").status == 200)


def test_a_file_that_is_not_valid_at_the_start(programs: Fleet) -> None:
    gateway = programs.start("agent", "gateway", "-f", "-", stdin="kind: [")
    assert gateway.wait() == 2
    assert "the configuration is not valid" in gateway.said
    assert "Traceback" not in gateway.said


def test_a_listeners_port_in_use_is_told_and_the_others_serve(programs: Fleet, app: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        two = GATEWAY_YAML.replace(
            'hosts: ["*"]}]', 'hosts: ["*"]}, {port: {number: 81, name: http-other, protocol: HTTP}, hosts: ["*"]}]'
        )
        programs.write("gateway.yaml", two % app)
        programs.write("routes.yaml", ROUTES_YAML % "first")
        flags = ("--bind", "127.0.0.1", "--port-map", f"80={port}", "--port-map", "81=0")
        gateway = programs.start("agent", "gateway", "-f", str(programs.folder), *flags)
        gateway.wait_line(f"port {port} on 127.0.0.1 is in use", "--port-map 80=0")
        gateway.wait_ready()
        assert gateway.address("listen")[1] != port
        until(lambda: ask(gateway.address("listen"), "/first").status == 200)


def test_a_port_map_gives_that_very_port(programs: Fleet, app: int) -> None:
    port = unused_port()
    programs.write("gateway.yaml", GATEWAY_YAML % app)
    gateway = programs.start(
        "agent", "gateway", "-f", str(programs.folder), "--bind", "127.0.0.1", "--port-map", f"80={port}"
    ).wait_ready()
    assert gateway.ready["listen"] == f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--set", "drain_tme=1"), "did you mean drain_time?"),
        (("--set", "drain_time"), "is not KEY=VALUE"),
        (("--port-map", "80=http"), "write for example --port-map 80=8080"),
        (("--port-map", "80=70000"), "write for example --port-map 80=8080"),
        (("--admin", "nowhere"), "--admin"),
        (("--log-level", "loud"), "loud"),
        (("--pilot", "wss://127.0.0.1:1/feed"), "-f and --pilot exclude each other"),
        (("--", "sleep", "9"), "a gateway starts no app"),
    ],
)
def test_wrong_usage_is_told_with_the_remedy(programs: Fleet, words: tuple[str, ...], told: str) -> None:
    programs.write("gateway.yaml", GATEWAY_YAML % 1)
    gateway: Program = programs.start("agent", "gateway", "-f", str(programs.folder), *words)
    assert gateway.wait() == 2
    assert told in gateway.said
    assert "Traceback" not in gateway.said


def test_no_source_at_all(programs: Fleet) -> None:
    gateway = programs.start("agent", "gateway")
    assert gateway.wait() == 2
    assert "--pilot wss://127.0.0.1:15012/feed or -f FILE" in gateway.said


def test_a_path_that_is_not_there(programs: Fleet, tmp_path: Path) -> None:
    gateway = programs.start("agent", "gateway", "-f", str(tmp_path / "none"))
    assert gateway.wait() == 2
    assert "none does not exist; -f takes a file or a folder of YAML" in gateway.said
