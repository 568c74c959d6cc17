"""ssl.SSLContext for each use of a mesh certificate. Built once per certificate, swapped whole at rotation.

The mesh checks SPIFFE ids, not host names: contexts verify the chain against the mesh's roots, and callers
compare `peer_spiffe_id` with whom they expected. Private keys reach OpenSSL through a memory file, never a disk.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from mesh.errors import MeshError
from mesh.identity.spiffe import SpiffeError, SpiffeId, parse


class ContextError(MeshError):
    """A certificate, key or root that OpenSSL does not take."""


def mesh_server_context(chain_pem: bytes, key_pem: bytes, roots_pem: bytes, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Inbound mesh mTLS: a client certificate of the mesh's roots is required."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, alpn)
    context.verify_mode = ssl.CERT_REQUIRED
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


def _load(context: ssl.SSLContext, chain_pem: bytes, key_pem: bytes) -> None:
    try:
        descriptor = os.memfd_create("mesh-key", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        _load_from_file(context, chain_pem + key_pem)
        return
    try:
        os.write(descriptor, chain_pem + key_pem)
        _load_path(context, f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _load_from_file(context: ssl.SSLContext, pem: bytes) -> None:
    # No memory files here (not Linux): mkstemp makes the file 0600.
    descriptor, path = tempfile.mkstemp(prefix="mesh-key-")
    try:
        os.write(descriptor, pem)
        os.close(descriptor)
        _load_path(context, path)
    finally:
        os.unlink(path)


def _load_path(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_cert_chain(path)
    except ssl.SSLError as exc:
        raise ContextError(f"certificate and key cannot be used: {exc}") from exc
