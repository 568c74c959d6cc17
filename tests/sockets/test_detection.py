"""Ports that declare no protocol, through real sidecars: requests are routed, other bytes relayed, both under mTLS."""

from __future__ import annotations

import http.client
import os
import socket
import sys
from collections.abc import Iterator

import pytest

from tests.sockets.mesh_rig import APP, DEADLINE, Program, SmallMesh, ask, until
from tests.sockets.test_tcp import APP as TCP_APP
from tests.sockets.test_tcp import reaches, read_all, upstream

YAML = """apiVersion: v1
kind: Service
metadata: {name: %(name)s}
spec: {selector: {app: %(name)s}, ports: [{port: 7000%(more)s}]}
"""


def serve(mesh: SmallMesh, name: str, app: str, *words: str, more: str = "") -> Iterator[tuple[str, int]]:
    """A service with a PERMISSIVE sidecar; the loopback port by which the client's side reaches it."""
    mesh.write(f"{name}.yaml", YAML % {"name": name, "more": more})
    flags = [*mesh.secrets(), "--service", name, "--app-port", "0", "--set", "drain_time=0"]
    argv = ["sidecar", "--pilot", mesh.pilot.ready["feed"], *flags, "--", sys.executable, str(app), *words]
    sidecar = Program("agent", *argv)
    try:
        sidecar.wait_ready()
        yield upstream(mesh, f"{name}.default.svc.cluster.local:7000")
    finally:
        sidecar.stop()
        sidecar.kill()
        (mesh.folder / f"{name}.yaml").unlink()


def inbound(mesh: SmallMesh, name: str) -> tuple[str, int]:
    """Where the service's sidecar listens for peers."""
    [server] = [proxy for proxy in mesh.api("/api/proxies") if proxy["service"] == name]
    page = mesh.api(f"/api/proxies/{server['id']}/config?kind=listeners")
    found = page["listeners"] if isinstance(page, dict) else page
    [port] = [each["port"] for each in found if each["name"].startswith("inbound|")]
    return "127.0.0.1", port


@pytest.fixture(scope="module")
def web(mesh: SmallMesh) -> Iterator[tuple[str, int]]:
    yield from serve(mesh, "plainweb", str(APP), "plainweb")


@pytest.fixture(scope="module")
def summer(mesh: SmallMesh) -> Iterator[tuple[str, int]]:
    yield from serve(mesh, "plainsummer", str(TCP_APP), "summer")


@pytest.fixture(scope="module")
def greeter(mesh: SmallMesh) -> Iterator[tuple[str, int]]:
    yield from serve(mesh, "plaingreeter", str(TCP_APP), "greeter", more=", appProtocol: mysql")


def answers(where: tuple[str, int]) -> bool:
    try:
        return ask(where, "/x").status == 200
    except (OSError, http.client.HTTPException):
        return False


def test_requests_are_routed_by_either_door(mesh: SmallMesh, web: tuple[str, int]) -> None:
    until(lambda: answers(web))
    told = ask(web, "/by-loopback").json
    assert told["path"] == "/by-loopback"
    assert "x-request-id" in told["headers"]
    assert "client" in told["headers"]["x-forwarded-client-cert"]
    assert mesh.call("/by-name", host="plainweb:7000").json["path"] == "/by-name"


def test_requests_in_plaintext_are_told_apart_from_the_meshs(mesh: SmallMesh, web: tuple[str, int]) -> None:
    until(lambda: answers(web))
    told = ask(inbound(mesh, "plainweb"), "/plain").json
    assert told["path"] == "/plain"
    assert "x-forwarded-client-cert" not in told["headers"]


def test_other_bytes_are_relayed(mesh: SmallMesh, summer: tuple[str, int]) -> None:
    until(lambda: reaches(summer))
    data = b"\x00" + os.urandom(1_000_000)
    for where in (summer, inbound(mesh, "plainsummer")):
        with socket.create_connection(where, DEADLINE) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b"%d" % sum(data)


def test_a_server_of_a_declared_port_may_speak_first(mesh: SmallMesh, greeter: tuple[str, int]) -> None:
    until(lambda: reaches(greeter))
    for where in (greeter, inbound(mesh, "plaingreeter")):
        with socket.create_connection(where, DEADLINE) as sock:
            assert sock.recv(100) == b"220 greeter\r\n"
            sock.sendall(b"quit\r\n")
            assert read_all(sock) == b"221 quit\r\n"
