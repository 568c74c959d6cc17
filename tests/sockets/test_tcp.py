"""Services that are not HTTP through two sidecars: who speaks first does not matter, and half-close is kept."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sockets.mesh_rig import DEADLINE, Program, SmallMesh, until

APP = Path(__file__).parent / "tcp_app.py"
YAML = """apiVersion: v1
kind: Service
metadata: {name: %(name)s}
spec: {selector: {app: %(name)s}, ports: [{port: 7000, name: tcp}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: %(name)s}
spec: {selector: {matchLabels: {app: %(name)s}}, mtls: {mode: STRICT}}
"""


def serve(mesh: SmallMesh, name: str) -> Iterator[tuple[str, int]]:
    """A TCP service behind a STRICT sidecar; the loopback port by which the client's side reaches it."""
    file = f"{name}.yaml"
    mesh.write(file, YAML % {"name": name})
    flags = [*mesh.secrets(), "--service", name, "--app-port", "0", "--set", "drain_time=0"]
    argv = ["sidecar", "--pilot", mesh.pilot.ready["feed"], *flags, "--", sys.executable, str(APP), name]
    sidecar = Program("agent", *argv)
    try:
        sidecar.wait_ready()
        where = upstream(mesh, f"{name}.default.svc.cluster.local:7000")
        until(lambda: reaches(where))
        yield where
    finally:
        sidecar.stop()
        sidecar.kill()
        (mesh.folder / file).unlink()


def upstream(mesh: SmallMesh, service: str) -> tuple[str, int]:
    """Where the client's sidecar listens for a service."""
    found: dict[str, str] = {}

    def known() -> bool:
        found.update(
            line.rsplit("::", 1)
            for line in mesh.client.admin("/listeners").text.splitlines()  # type: ignore[arg-type]
        )
        return f"tcp_{service}" in found

    until(known)
    host, _, port = found[f"tcp_{service}"].rpartition(":")
    return host, int(port)


def reaches(where: tuple[str, int]) -> bool:
    """Whether a connection comes through to the app: both kinds of it answer a line."""
    try:
        with socket.create_connection(where, DEADLINE) as sock:
            sock.sendall(b"hello\n")
            sock.shutdown(socket.SHUT_WR)
            return bool(read_all(sock))
    except ConnectionError:
        return False


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while more := sock.recv(65536):
        data += more
    return data


@pytest.fixture(scope="module")
def greeter(mesh: SmallMesh) -> Iterator[tuple[str, int]]:
    yield from serve(mesh, "greeter")


@pytest.fixture(scope="module")
def summer(mesh: SmallMesh) -> Iterator[tuple[str, int]]:
    yield from serve(mesh, "summer")


def test_the_server_speaks_first(greeter: tuple[str, int]) -> None:
    with socket.create_connection(greeter, DEADLINE) as sock:
        assert sock.recv(100) == b"220 greeter\r\n"
        sock.sendall(b"quit\r\n")
        assert read_all(sock) == b"221 quit\r\n"


def test_the_client_speaks_first_and_the_answer_comes_after_its_end(summer: tuple[str, int]) -> None:
    """The app answers only when it has seen the end of the client's half."""
    data = os.urandom(3_000_000)
    with socket.create_connection(summer, DEADLINE) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"%d" % sum(data)


def test_bytes_are_counted_and_the_peer_is_known(mesh: SmallMesh, summer: tuple[str, int]) -> None:
    label = 'destination_service="summer.default.svc.cluster.local"'
    lines = mesh.client.admin("/stats/prometheus").text.splitlines()
    opened = [line for line in lines if line.startswith("istio_tcp_connections_opened_total{") and label in line]
    assert opened
    assert any('connection_security_policy="' in line for line in opened)
    endpoints = mesh.client.admin("/clusters").text
    assert "outbound|7000||summer.default.svc.cluster.local" in endpoints


def test_plaintext_is_refused_by_a_strict_tcp_port(mesh: SmallMesh, summer: tuple[str, int]) -> None:
    [server] = [proxy for proxy in mesh.api("/api/proxies") if proxy["service"] == "summer"]
    page = mesh.api(f"/api/proxies/{server['id']}/config?kind=listeners")
    [port] = [each["port"] for each in listeners(page) if each["name"].startswith("inbound|")]
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as sock:
        sock.sendall(b"plain\n")
        try:
            assert read_all(sock) == b""
        except ConnectionResetError:
            pass


def listeners(page: object) -> list[dict[str, object]]:
    return page["listeners"] if isinstance(page, dict) else page  # type: ignore[return-value]


@pytest.mark.slow
def test_an_app_learns_the_ports_of_such_services(mesh: SmallMesh, summer: tuple[str, int]) -> None:
    flags = [*mesh.secrets(), "--service", "reader", "--app-port", "0", "--set", "drain_time=0"]
    code = "import os; print(os.environ['MESH_UPSTREAMS'], flush=True)"
    argv = ["sidecar", "--pilot", mesh.pilot.ready["feed"], *flags, "--", sys.executable, "-c", code]
    reader = Program("agent", *argv)
    try:
        reader.wait_ready()
        told = json.loads(reader.wait_line("{", "summer"))
        assert reader.wait() == 0
    finally:
        reader.kill()
    host, _, port = told["summer.default.svc.cluster.local:7000"].rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0
