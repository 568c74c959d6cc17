"""TLS contexts of gateways and of originated TLS: made once for each setting, made anew when a secret of it changes.

A context is exchanged, never altered: open connections keep theirs, the next handshake takes the new one. Secrets
whose content lies in files are read here, and looked at again and again.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import trio
from msgspec import Struct

from mesh import config
from mesh.errors import MeshError
from mesh.feed.log import Log
from mesh.feed.message import Rejected
from mesh.identity.contexts import ContextError, edge_server_context, origination_context

_LOOK: Final = 5.0  # seconds between looks at certificate files
_VERIFY: Final = {"simple": ssl.CERT_NONE, "mutual": ssl.CERT_REQUIRED, "optional_mutual": ssl.CERT_OPTIONAL}


class Unusable(MeshError):
    """No handshake with these settings now; `reason` is a short token for the refusal counter."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Material(Struct, frozen=True):
    """A secret's content in PEM, wherever it came from."""

    certificate: bytes = b""
    key: bytes = b""
    roots: bytes = b""
    crl: bytes = b""


_Server = config.DownstreamTls
_Client = tuple[config.UpstreamTls, tuple[str, ...]]


class Credentials:
    """Secrets in force, and the contexts made of them."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._secrets: dict[str, config.Secret] = {}
        self._materials: dict[str, Material | Unusable] = {}
        self._servers: dict[_Server, ssl.SSLContext | Unusable] = {}
        self._clients: dict[_Client, ssl.SSLContext | Unusable] = {}

    def apply(self, snapshot: config.Snapshot) -> list[Rejected]:
        """Take the secrets of a snapshot and make the contexts of its listeners; returns the secrets that OpenSSL
        does not take. What files hold is judged at the handshake: it may be mended without a push."""
        rejected = []
        changed = set()
        for name in self._secrets.keys() | snapshot.secrets.keys():
            secret = snapshot.secrets.get(name)
            if secret == self._secrets.get(name):
                continue
            changed.add(name)
            self._materials.pop(name, None)
            if secret is None:
                continue
            self._materials[name] = material = _read(secret)
            fault = _fault(material)
            if fault and not _files(secret):
                rejected.append(Rejected("secret", name, fault))
            elif fault:
                self._log.warning("a certificate file cannot be used yet", secret=name, reason=fault)
        self._secrets = dict(snapshot.secrets)
        self._forget(changed)
        self._prepare(snapshot)
        return rejected

    def _forget(self, names: Iterable[str]) -> None:
        gone = set(names)
        self._servers = {tls: made for tls, made in self._servers.items() if gone.isdisjoint(tls.secrets())}
        self._clients = {key: made for key, made in self._clients.items() if gone.isdisjoint(key[0].secrets())}

    def _prepare(self, snapshot: config.Snapshot) -> None:
        wanted = {
            chain.tls
            for listener in snapshot.listeners.values()
            for chain in listener.chains
            if chain.tls is not None and chain.tls.mode != "istio_mutual"
        }
        self._servers = {tls: made for tls, made in self._servers.items() if tls in wanted}
        clients = {cluster.tls for cluster in snapshot.clusters.values()}
        self._clients = {key: made for key, made in self._clients.items() if key[0] in clients}
        for tls in wanted:
            try:
                self.server_context(tls)
            except Unusable as exc:
                self._log.warning("handshakes of a listener will be refused", reason=str(exc))

    def server_context(self, tls: config.DownstreamTls) -> ssl.SSLContext:
        """The context of a terminating chain, shared by all its connections. Raises Unusable."""
        made = self._servers.get(tls)
        if made is None:
            made = self._servers[tls] = self._make_server(tls)
        if isinstance(made, Unusable):
            raise Unusable(made.reason, str(made))  # a new one: each keeps the stack of who raised it
        return made

    def client_context(self, tls: config.UpstreamTls, alpn: tuple[str, ...]) -> ssl.SSLContext:
        """The context of originated TLS. Raises Unusable."""
        key = (tls, alpn)
        made = self._clients.get(key)
        if made is None:
            made = self._clients[key] = self._make_client(tls, alpn)
        if isinstance(made, Unusable):
            raise Unusable(made.reason, str(made))
        return made

    def secrets(self) -> Iterable[tuple[config.Secret, Material | None]]:
        """Every secret with its content, None where there is none that can be used."""
        for name, secret in self._secrets.items():
            material = self._materials.get(name)
            yield secret, material if isinstance(material, Material) else None

    async def keep_files(self) -> None:
        """Look at certificate files every few seconds until cancelled."""
        while True:
            await trio.sleep(_LOOK)
            await self.look_at_files()

    async def look_at_files(self) -> None:
        """Read certificate files again; what has changed is used from the next handshake on."""
        for name, secret in tuple(self._secrets.items()):
            if not _files(secret):
                continue
            material = await trio.to_thread.run_sync(_read, secret)
            if self._secrets.get(name) is not secret or _same(material, self._materials.get(name)):
                continue
            if fault := _fault(material):
                self._log.warning("certificate files cannot be used; the last good stay", secret=name, reason=fault)
                continue
            self._materials[name] = material
            self._forget({name})
            self._log.info("certificate files read again", secret=name)

    def _material(self, name: str) -> Material:
        material = self._materials.get(name)
        if material is None:
            raise Unusable("secret_missing", f"secret {name} is not there")
        if isinstance(material, Unusable):
            raise Unusable(material.reason, str(material))
        return material

    def _make_server(self, tls: config.DownstreamTls) -> ssl.SSLContext | Unusable:
        try:
            trust = self._material(tls.trust) if tls.trust else Material()
            return edge_server_context(
                [_pair(self._material(name), name) for name in tls.certificates],
                roots_pem=trust.roots,
                crl_pem=trust.crl,
                client=_VERIFY[tls.mode],
                alpn=tls.alpn,
                versions=(tls.min_version, tls.max_version),
                ciphers=tls.ciphers,
            )
        except Unusable as exc:
            return exc
        except ContextError as exc:
            return Unusable("context_unusable", f"{', '.join(tls.secrets())}: {exc}")

    def _make_client(self, tls: config.UpstreamTls, alpn: tuple[str, ...]) -> ssl.SSLContext | Unusable:
        try:
            trust = self._material(tls.trust) if tls.trust else Material()
            return origination_context(
                pair=_pair(self._material(tls.certificate), tls.certificate) if tls.certificate else None,
                roots_pem=trust.roots,
                crl_pem=trust.crl,
                verify=not tls.skip_verify,
                verify_host=tls.verify_host,
                alpn=alpn,
            )
        except Unusable as exc:
            return exc
        except ContextError as exc:
            return Unusable("context_unusable", f"{', '.join(tls.secrets())}: {exc}")


def _pair(material: Material, name: str) -> tuple[bytes, bytes]:
    if not material.certificate or not material.key:
        raise Unusable("secret_unusable", f"secret {name} holds no certificate with its key")
    return material.certificate, material.key


def _files(secret: config.Secret) -> bool:
    return bool(secret.certificate_file or secret.key_file or secret.roots_file or secret.crl_file)


def _same(one: Material | Unusable, other: Material | Unusable | None) -> bool:
    return one == other or (isinstance(one, Unusable) and isinstance(other, Unusable) and str(one) == str(other))


def _read(secret: config.Secret) -> Material | Unusable:
    def content(text: str, file: str) -> bytes:
        return Path(file).read_bytes() if file else text.encode()

    try:
        return Material(
            content(secret.certificate, secret.certificate_file),
            content(secret.key, secret.key_file),
            content(secret.roots, secret.roots_file),
            content(secret.crl, secret.crl_file),
        )
    except OSError as exc:
        return Unusable("secret_missing", f"{exc.filename}: {exc.strerror}")


def _fault(material: Material | Unusable) -> str:
    """Why OpenSSL does not take it; "" when it does."""
    if isinstance(material, Unusable):
        return str(material)
    if not (material.certificate or material.key or material.roots):
        return "it holds no certificate, key or roots"
    try:
        if material.certificate or material.key:
            edge_server_context([(material.certificate, material.key)])
        if material.roots:
            origination_context(roots_pem=material.roots, crl_pem=material.crl)
    except ContextError as exc:
        return str(exc)
    return ""
