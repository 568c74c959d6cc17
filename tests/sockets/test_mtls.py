"""Mutual TLS between sidecars, proven from outside with the standard library's own TLS, and by a tap on the wire."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh.identity.contexts import mesh_client_context, peer_spiffe_id
from mesh.identity.pki import Issuer, make_csr, make_key, make_root
from tests.sockets.mesh_rig import DEADLINE, SERVER_YAML, Fleet, SmallMesh, ask, until

NOW = time.time()  # noqa: TID251  OpenSSL checks certificates against the real clock
SERVER_ID = "spiffe://cluster.local/ns/default/sa/server"
STRANGER_ID = "spiffe://cluster.local/ns/default/sa/stranger"
REQUEST = b"GET /plain HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n"
TAPPED_YAML = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: tapped}
spec:
  hosts: [tapped.test]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: 127.0.0.1, ports: {http: %d}, serviceAccount: server, labels: {security.istio.io/tlsMode: %s}}
"""


def bare_context(alpn: tuple[str, ...] = ("istio",)) -> ssl.SSLContext:
    """A client that checks nothing and shows nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    return context


def certified_context(root: bytes, issuer: Issuer, trusted: bytes) -> ssl.SSLContext:
    """A client with a certificate of `issuer` that says it is STRANGER_ID."""
    key = make_key()
    chain = issuer.sign_workload(make_csr(key), STRANGER_ID, now=NOW, ttl=3600)
    return mesh_client_context(chain, key, trusted, ("istio",))


def speak(where: tuple[str, int], context: ssl.SSLContext | None, message: bytes = REQUEST) -> bytes:
    """Send, and read to the end; in TLS 1.3 a refusal shows at the first read."""
    with socket.create_connection(where, DEADLINE) as raw:
        if context is None:
            raw.sendall(message)
            return read_all(raw)
        with context.wrap_socket(raw) as secured:
            secured.sendall(message)
            return read_all(secured)


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while more := sock.recv(65536):
        data += more
    return data


@pytest.fixture
def inbound(mesh: SmallMesh) -> tuple[str, int]:
    """The STRICT sidecar's inbound port."""
    return mesh.server.address("inbound")


@pytest.mark.parametrize("alpn", [("istio",), ("http/1.1",)])
def test_a_client_without_a_certificate_is_refused(
    mesh: SmallMesh, inbound: tuple[str, int], alpn: tuple[str, ...]
) -> None:
    before = mesh.server.metric('trioweave_refused_total{where="tls"')
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
        speak(inbound, bare_context(alpn))
    assert mesh.server.metric('trioweave_refused_total{where="tls"') == before + 1


@pytest.mark.parametrize("first", [REQUEST, b"\x00\x01binary", b"\x16\x03\x01\x00\x05hello"])
def test_plaintext_and_rubbish_get_nothing(inbound: tuple[str, int], first: bytes) -> None:
    try:
        answer = speak(inbound, None, first)
    except ConnectionResetError:
        answer = b""
    # at most a TLS alert (record type 21), never a response
    assert not answer or (answer[0] == 21 and len(answer) == 7)


def test_plaintext_is_counted(mesh: SmallMesh, inbound: tuple[str, int]) -> None:
    line = 'trioweave_refused_total{where="listener",reason="filter_chain_not_found"}'
    before = mesh.server.metric(line)
    try:
        assert speak(inbound, None) == b""
    except ConnectionResetError:
        pass
    assert mesh.server.metric(line) == before + 1


def test_a_certificate_of_another_authority_is_refused(mesh: SmallMesh, inbound: tuple[str, int]) -> None:
    root, key = make_root("cluster.local", now=NOW, lifetime=3600)
    trusted = (mesh.state / "root-cert.pem").read_bytes()
    with pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca|certificate"):
        speak(inbound, certified_context(root, Issuer(root, key), trusted))


def test_the_peers_name_is_its_spiffe_id(mesh: SmallMesh, inbound: tuple[str, int]) -> None:
    root = (mesh.state / "root-cert.pem").read_bytes()
    context = certified_context(root, Issuer(root, (mesh.state / "root-key.pem").read_bytes()), root)
    with (
        socket.create_connection(inbound, DEADLINE) as raw,
        context.wrap_socket(raw) as secured,
    ):
        assert str(peer_spiffe_id(secured)) == SERVER_ID
        names = (secured.getpeercert() or {}).get("subjectAltName")
        assert names == (("URI", SERVER_ID),)
        secured.sendall(REQUEST)
        answer = read_all(secured)
    assert answer.startswith(b"HTTP/1.1 200")
    assert STRANGER_ID.encode() in answer  # the app hears who called


class Tap:
    """Relays connections to `target` and keeps every byte of both ways."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.seen = {"up": b"", "down": b""}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self._stop, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def running(self) -> Iterator[Tap]:
        self._thread.start()
        try:
            yield self
        finally:
            self._wake.close()
            self._thread.join(DEADLINE)

    def _run(self) -> None:
        ways: dict[socket.socket, tuple[str, socket.socket]] = {}
        with self._stop, self.listener:
            while self._stop not in (readable := select.select([self._stop, self.listener, *ways], [], [])[0]):
                for sock in readable:
                    if sock is self.listener:
                        near, far = sock.accept()[0], socket.create_connection(self.target, DEADLINE)
                        ways[near], ways[far] = ("up", far), ("down", near)
                    elif sock in ways:
                        way, other = ways[sock]
                        if data := sock.recv(65536):
                            self.seen[way] += data
                            other.sendall(data)
                        else:
                            for end in (sock, other):
                                del ways[end]
                                end.close()
            for sock in ways:
                sock.close()


@pytest.mark.parametrize("tls_mode", ["istio", "disabled"])
def test_a_tap_between_sidecars(mesh: SmallMesh, tls_mode: str) -> None:
    """With mTLS it sees nothing of what passes. Without, the same tap sees all of it, so it does look."""
    target = mesh.server.address("inbound") if tls_mode == "istio" else app_address(mesh)
    secret = b"attack-at-dawn " * 100
    with Tap(target).running() as tap:
        mesh.write("tapped.yaml", TAPPED_YAML % (tap.port, tls_mode))
        try:
            until(lambda: mesh.call("/attack-plan", host="tapped.test").status == 200)
            answer = mesh.call("/attack-plan", host="tapped.test", method="POST", body=secret)
        finally:
            (mesh.folder / "tapped.yaml").unlink()
    assert answer.status == 200
    assert answer.body == secret
    for way, words in (("up", (b"attack", b"POST", b"HTTP/1.1")), ("down", (b"attack", b"200 OK"))):
        assert len(tap.seen[way]) > len(secret)
        for word in words:
            assert (word in tap.seen[way]) == (tls_mode == "disabled")


def app_address(mesh: SmallMesh) -> tuple[str, int]:
    """Where the app itself listens, behind its sidecar."""
    told = mesh.call("/environment").json
    return "127.0.0.1", int(told["PORT"])


@pytest.mark.slow
def test_certificates_rotate_under_traffic(programs: Fleet, tmp_path: Path) -> None:
    programs.write("server.yaml", SERVER_YAML)
    programs.start_pilot()
    short = ("--set", "certificate_ttl=4s", "--set", "drain_time=1s")
    server = programs.sidecar("server", *short, app=True)
    client = programs.sidecar("client", *short)
    for each in (server, client):
        each.wait_ready()
    where = client.address("http_proxy")

    def serial() -> str:
        [certificates] = server.admin("/certs").json["certificates"]
        return str(certificates["cert_chain"][0]["serial_number"])

    def call() -> int:
        return ask(where, "http://server:9080/", Host="server:9080").status

    until(lambda: call() == 200)
    seen, statuses = {serial()}, []
    for _ in range(20_000):
        statuses.append(call())
        if len(statuses) % 10 == 0:
            seen.add(serial())
        if len(seen) == 4:
            break
    assert len(seen) == 4, "the certificate was not renewed"
    assert set(statuses) == {200}
    event = 'trioweave_agent_certificate_events_total{event="renewed"}'
    assert client.metric(event) >= 2
