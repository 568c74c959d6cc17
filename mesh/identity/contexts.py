"""ssl.SSLContext for each use of a certificate. Built once per certificate, swapped whole at rotation.

The mesh checks SPIFFE ids, not host names: its contexts verify the chain against the mesh's roots, and callers
compare `peer_spiffe_id` with whom they expected. Private keys reach OpenSSL through a memory file, never a disk.
All connections of a context share the keys of its session tickets, so a client of one can resume at another.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from mesh.errors import MeshError
from mesh.identity.spiffe import SpiffeError, SpiffeId, parse

_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_MESH_TICKETS: Final = 1  # a sidecar keeps the newest session only; each further ticket costs a write and an encryption


class ContextError(MeshError):
    """A certificate, key or root that OpenSSL does not take."""


def mesh_server_context(chain_pem: bytes, key_pem: bytes, roots_pem: bytes, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Inbound mesh mTLS: a client certificate of the mesh's roots is required."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, alpn)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = _MESH_TICKETS
    _trust(context, roots_pem)
    _load(context, chain_pem, key_pem)
    return context


def mesh_client_context(chain_pem: bytes, key_pem: bytes, roots_pem: bytes, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Outbound mesh mTLS: chain verified, name left to `peer_spiffe_id`."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, alpn)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    _trust(context, roots_pem)
    _load(context, chain_pem, key_pem)
    return context


def feed_server_context(chain_pem: bytes, key_pem: bytes, roots_pem: bytes) -> ssl.SSLContext:
    """The pilot's port: a client certificate is optional (a token may stand in), a foreign one ends the handshake."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, ("http/1.1",))
    context.verify_mode = ssl.CERT_OPTIONAL
    _trust(context, roots_pem)
    _load(context, chain_pem, key_pem)
    return context


def feed_client_context(roots_pem: bytes, chain_pem: bytes = b"", key_pem: bytes = b"") -> ssl.SSLContext:
    """An agent's way to the pilot: host name checked, the own certificate shown where there is one."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, ("http/1.1",))
    _trust(context, roots_pem)
    if chain_pem:
        _load(context, chain_pem, key_pem)
    return context


def edge_server_context(
    pairs: Sequence[tuple[bytes, bytes]],
    *,
    roots_pem: bytes = b"",
    crl_pem: bytes = b"",
    client: ssl.VerifyMode = ssl.CERT_NONE,
    alpn: Sequence[str] = (),
    versions: tuple[str, str] = ("TLSv1.2", "TLSv1.3"),
    ciphers: Sequence[str] = (),
) -> ssl.SSLContext:
    """A gateway's port: (chain, key) for each type of key, and whether clients show certificates of these roots.

    `ciphers` rules TLS 1.2; those of 1.3 are all good. Raises ContextError.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, alpn)
    context.minimum_version, context.maximum_version = _VERSIONS[versions[0]], _VERSIONS[versions[1]]
    context.verify_mode = client
    if client is not ssl.CERT_NONE:
        _trust(context, roots_pem)
        _revoke(context, crl_pem)
    for chain_pem, key_pem in pairs:
        _load(context, chain_pem, key_pem)
    if ciphers:
        try:
            context.set_ciphers(":".join(ciphers))
        except ssl.SSLError as exc:
            raise ContextError(f"OpenSSL knows none of the cipher suites {', '.join(ciphers)}") from exc
    return context


def origination_context(
    *,
    pair: tuple[bytes, bytes] | None = None,
    roots_pem: bytes = b"",
    crl_pem: bytes = b"",
    verify: bool = True,
    verify_host: bool = False,
    alpn: Sequence[str] = (),
) -> ssl.SSLContext:
    """TLS to a server outside of the mesh. Without `roots_pem` the system's roots are trusted. Raises ContextError."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, alpn)
    context.check_hostname = verify and verify_host
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if verify and roots_pem:
        _trust(context, roots_pem)
        _revoke(context, crl_pem)
    elif verify:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if pair is not None:
        _load(context, *pair)
    return context


def peer_spiffe_id(certificate: Mapping[str, Any] | ssl.SSLObject | ssl.SSLSocket | None) -> SpiffeId | None:
    """The SPIFFE id of a verified peer: getpeercert()'s dict, or the object that has it.

    None without a certificate, and for one that has not exactly one URI name of a workload.
    """
    if isinstance(certificate, ssl.SSLObject | ssl.SSLSocket):
        certificate = certificate.getpeercert()
    names: Any = (certificate or {}).get("subjectAltName", ())
    uris = [value for kind, value in names if kind == "URI"]
    if len(uris) != 1:
        return None
    try:
        return parse(uris[0])
    except SpiffeError:
        return None


def _context(protocol: int, alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _trust(context: ssl.SSLContext, roots_pem: bytes) -> None:
    try:
        context.load_verify_locations(cadata=roots_pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as exc:
        raise ContextError(f"the trust bundle holds no usable certificate: {exc}") from exc


def _revoke(context: ssl.SSLContext, crl_pem: bytes) -> None:
    if not crl_pem:
        return
    with _as_file(crl_pem) as path:
        try:
            context.load_verify_locations(cafile=path)
        except ssl.SSLError as exc:
            raise ContextError(f"the revocation list cannot be used: {exc}") from exc
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def _load(context: ssl.SSLContext, chain_pem: bytes, key_pem: bytes) -> None:
    with _as_file(chain_pem + b"\n" + key_pem) as path:
        try:
            context.load_cert_chain(path, password=_no_password)
        except (ssl.SSLError, ValueError) as exc:
            raise ContextError(f"certificate and key cannot be used: {exc}") from exc


def _no_password() -> str:
    """OpenSSL would ask the terminal for the password of an encrypted key."""
    return ""


@contextmanager
def _as_file(pem: bytes) -> Iterator[str]:
    """A path under which OpenSSL reads `pem`."""
    try:
        descriptor = os.memfd_create("mesh-key", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        with _temporary(pem) as path:
            yield path
        return
    try:
        os.write(descriptor, pem)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@contextmanager
def _temporary(pem: bytes) -> Iterator[str]:
    # No memory files here (not Linux): mkstemp makes the file 0600.
    descriptor, path = tempfile.mkstemp(prefix="mesh-key-")
    try:
        os.write(descriptor, pem)
        os.close(descriptor)
        yield path
    finally:
        os.unlink(path)
