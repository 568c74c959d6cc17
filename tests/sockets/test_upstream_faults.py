"""Upstreams that break off, say nothing or say nonsense, behind a gateway process; and clients that leave meanwhile."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.sockets.mesh_rig import DEADLINE, Fleet, Program, ask, fleet, until
from tests.sockets.test_gateway import FLAGS, GATEWAY_YAML

ROUTE_YAML = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: app}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - timeout: 0.5s
    retries: {attempts: 0}
    match: [{uri: {prefix: /late}}]
    route: [{destination: {host: app.test}}]
  - retries: {attempts: 0}
    route: [{destination: {host: app.test}}]
"""
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"

# What the upstream says to a request for such a path, and whether it then resets, closes or waits.
SAYS = {
    b"/reset": (b"", "reset"),
    b"/close": (b"", "close"),
    b"/late": (b"", "wait"),
    b"/reset-in-head": (HEAD[:30], "reset"),
    b"/close-in-head": (HEAD[:30], "close"),
    b"/nonsense": (b"SPAM / 1.0 \x00\r\n\r\n", "wait"),
    b"/reset-in-body": (HEAD + b"12345", "reset"),
    b"/close-in-body": (HEAD + b"12345", "close"),
    b"/bad-chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\nzz\r\n", "wait"),
    b"/well": (HEAD + b"1234567890", "close"),
}


class FakeUpstream:
    """Answers one request on each connection as SAYS has it; `left` counts those whose peer went first."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.asked = 0
        self.left = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(DEADLINE)
        with connection:
            asked = b""
            while b"\r\n\r\n" not in asked:
                asked += connection.recv(65536)
            self.asked += 1
            answer, then = SAYS[asked.split()[1]]
            connection.sendall(answer)
            if then == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            elif then == "wait":
                try:
                    gone = not connection.recv(1)
                except ConnectionResetError:
                    gone = True
                self.left += gone

    def close(self) -> None:
        self._listening.close()


@contextmanager
def upstream() -> Iterator[FakeUpstream]:
    made = FakeUpstream()
    try:
        yield made
    finally:
        made.close()


class Rig:
    def __init__(self, programs: Fleet, app: FakeUpstream) -> None:
        self.app = app
        programs.write("gateway.yaml", GATEWAY_YAML % app.port)
        programs.write("route.yaml", ROUTE_YAML)
        self.program: Program = programs.start("agent", "gateway", "-f", str(programs.folder), *FLAGS).wait_ready()
        self.address = self.program.address("listen")
        until(lambda: ask(self.address, "/well").status == 200)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with upstream() as app, fleet(tmp_path_factory.mktemp("faults")) as programs:
        yield Rig(programs, app)


def exchange(rig: Rig, path: bytes) -> bytes:
    """All that the gateway sends until it closes."""
    with socket.create_connection(rig.address, DEADLINE) as client:
        client.sendall(b"GET %b HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n" % path)
        return b"".join(iter(lambda: client.recv(65536), b""))


def quiet(rig: Rig) -> bool:
    """No exchange of the gateway is under way, and none has ended in an internal error."""
    told = rig.program
    return not told.metric("envoy_http_downstream_rq_active{") and not told.metric(
        'trioweave_refused_total{where="connection",reason="internal_error"'
    )


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (b"/reset", 503),
        (b"/close", 503),
        (b"/late", 504),
        (b"/reset-in-head", 503),
        (b"/close-in-head", 503),
        (b"/nonsense", 502),
    ],
)
def test_a_fault_before_the_response_is_an_answer(rig: Rig, path: bytes, status: int) -> None:
    assert exchange(rig, path).startswith(b"HTTP/1.1 %d " % status)
    assert exchange(rig, b"/well").endswith(b"\r\n\r\n1234567890")


@pytest.mark.parametrize("path", [b"/reset-in-body", b"/close-in-body"])
def test_a_body_that_breaks_off_is_seen_to_be_cut(rig: Rig, path: bytes) -> None:
    try:
        head, _, body = exchange(rig, path).partition(b"\r\n\r\n")
    except ConnectionResetError:
        return
    assert b"content-length: 10" in head.lower()
    assert len(body) < 10


def test_a_broken_chunk_is_seen_to_be_cut(rig: Rig) -> None:
    try:
        assert not exchange(rig, b"/bad-chunk").endswith(b"0\r\n\r\n")
    except ConnectionResetError:
        return


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_leaves_takes_the_upstream_s_connection_with_it(rig: Rig, leave: str) -> None:
    before, left = rig.app.asked, rig.app.left
    client = socket.create_connection(rig.address, DEADLINE)
    client.sendall(b"GET /late HTTP/1.1\r\nHost: app.test\r\n\r\n")
    until(lambda: rig.app.asked > before)
    if leave == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    until(lambda: rig.app.left > left)
    assert exchange(rig, b"/well").endswith(b"1234567890")
    until(lambda: quiet(rig))
