"""Certificates, Secrets and a TLS client for the tests of gateways: what a browser, or a machine with a certificate,
would see of them."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import trustme

from tests.sockets.mesh_rig import DEADLINE, Answer


class Leaf(NamedTuple):
    """A certificate with its key, PEM."""

    chain: bytes
    key: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the certificate in hex, as verifyCertificateHash wants it."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.chain.decode())).hexdigest()


class Authority:
    """A root of its own."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.pem = self._ca.cert_pem.bytes()

    def issue(self, *names: str, common_name: str | None = None) -> Leaf:
        leaf = self._ca.issue_cert(*names, common_name=common_name)
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        return Leaf(chain, leaf.private_key_pem.bytes())


def secret(name: str, **keys: bytes) -> str:
    """A Secret in YAML; `tls_crt` stands for tls.crt."""
    data = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in keys.items()}
    made: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
    return json.dumps(made)


def tls_secret(name: str, leaf: Leaf, **more: bytes) -> str:
    """The same of type kubernetes.io/tls."""
    return secret(name, tls_crt=leaf.chain, tls_key=leaf.key, **more)


def client(
    authority: Authority, leaf: Leaf | None = None, *, alpn: tuple[str, ...] = ("http/1.1",), version: str = ""
) -> ssl.SSLContext:
    """A client that trusts `authority`, and shows `leaf`."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.set_alpn_protocols(list(alpn))
    if version:
        context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    if leaf is not None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "leaf.pem"
            file.write_bytes(leaf.chain + leaf.key)
            context.load_cert_chain(file)
    return context


class TlsClient:
    """One connection under TLS, kept open; `session` may be that of an earlier one."""

    def __init__(
        self, where: tuple[str, int], name: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> None:
        raw = socket.create_connection(where, DEADLINE)
        try:
            self.sock = context.wrap_socket(raw, server_hostname=name, session=session)
        except BaseException:
            raw.close()
            raise
        self._connection = http.client.HTTPConnection(name)
        self._connection.sock = self.sock

    def ask(self, path: str, *, host: str = "", **headers: str) -> Answer:
        """One request."""
        self._connection.request("GET", path, headers={**({"Host": host} if host else {}), **headers})
        response = self._connection.getresponse()
        body = response.read()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)

    def close(self) -> None:
        self._connection.close()
        self.sock.close()

    def __enter__(self) -> TlsClient:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


def ask_tls(
    where: tuple[str, int], name: str, context: ssl.SSLContext, path: str = "/", *, host: str = "", **headers: str
) -> Answer:
    """One request on a connection of its own."""
    with TlsClient(where, name, context) as made:
        return made.ask(path, host=host, **headers)


class OutsideApp:
    """An HTTPS server outside of any mesh: its certificate is for api.test, and clients may show theirs."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.clients = Authority(), Authority()
        self.served = 0
        leaf = self.authority.issue("api.test")
        file = folder / "outside.pem"
        file.write_bytes(leaf.chain + leaf.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        context.load_verify_locations(cadata=self.clients.pem.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        names: dict[ssl.SSLObject | ssl.SSLSocket, str] = {}

        def heard(sock: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
            names[sock] = name or ""

        context.sni_callback = heard
        app = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                app.served += 1
                sock: ssl.SSLSocket = self.connection  # type: ignore[assignment]
                subject: Any = (sock.getpeercert() or {}).get("subject", ())
                common = [value for part in subject for name, value in part if name == "commonName"]
                told = {
                    "path": self.path,
                    "host": self.headers["host"],
                    "sni": names.get(sock, ""),
                    "client": "".join(common),
                    "alpn": sock.selected_alpn_protocol(),
                }
                body = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> tuple[socket.socket, Any]:
                raw, address = self.socket.accept()
                raw.settimeout(DEADLINE)
                return context.wrap_socket(raw, server_side=True), address

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])

    @contextmanager
    def running(self) -> Iterator[OutsideApp]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join(DEADLINE)
