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
