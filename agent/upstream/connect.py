"""Open a connection to an endpoint: TCP, a PROXY header if one is wanted, then the mesh's TLS or originated TLS where
it is asked for, all under one deadline."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeAlias

import trio

from agent.exchange import faults
from agent.upstream.resumption import Resumption
from mesh import config
from mesh.errors import MeshError
from mesh.identity.contexts import peer_spiffe_id
from mesh.net.proxy_protocol import encode_header
from mesh.net.tcp import TcpTransport, Transport, connect
from mesh.net.tls import TlsTransport

Client: TypeAlias = tuple[str, str]
"""On whose behalf a connection is opened: the client's address, and the one that it came to."""
NOBODY: Final[Client] = ("", "")
"""This agent itself."""
_MESH_ALPN: Final = {
    "http1": ("istio-http/1.1", "istio", "http/1.1"),
    "http2": ("istio-h2", "istio", "h2"),
    "tcp": ("istio",),
}
"""What a sidecar offers for a cluster's protocol: the mesh's own names first (Istio's ALPN filter)."""
_ALPN: Final[dict[str, tuple[str, ...]]] = {"http1": ("http/1.1",), "http2": ("h2",), "tcp": ()}


class ClientIdentity(Protocol):
    """What the data path needs of the workload's identity."""

    def client_context_for(self, alpn: tuple[str, ...]) -> ssl.SSLContext: ...


class ClientCredentials(Protocol):
    """Contexts of originated TLS."""

    def client_context(self, tls: config.UpstreamTls, alpn: tuple[str, ...]) -> ssl.SSLContext:
        """Raises MeshError."""


def wants_mesh_tls(tls: config.UpstreamTls, endpoint: config.Endpoint) -> bool:
    """Whether connections to this endpoint are mesh mTLS (Istio's auto mTLS decides per endpoint)."""
    return tls.mode == "istio_mutual" or (tls.mode == "auto" and endpoint.tls == "istio")


async def open_connection(
    cluster: config.Cluster,
    endpoint: config.Endpoint,
    identity: ClientIdentity | None,
    credentials: ClientCredentials | None = None,
    resumption: Resumption | None = None,
    *,
    client: Client = NOBODY,
) -> Transport:
    """A connected transport, a PROXY header that tells of `client` already sent where the cluster wants one; `alpn` of
    a TlsTransport tells what was agreed on.

    Raises ProxyFault with flag UF within `connect_timeout` seconds.
    """
    context = _context(cluster, endpoint, identity, credentials)
    with trio.move_on_after(cluster.connection.connect_timeout):
        return await _open(cluster, endpoint, context, resumption, client)
    raise faults.connect_failed("", timeout=True)


def _context(
    cluster: config.Cluster,
    endpoint: config.Endpoint,
    identity: ClientIdentity | None,
    credentials: ClientCredentials | None,
) -> ssl.SSLContext | None:
    """None for plaintext; never in the clear what was asked to be encrypted."""
    tls = cluster.tls
    if wants_mesh_tls(tls, endpoint):
        if identity is None:
            raise faults.connect_failed("TLS: no certificate yet")
        return identity.client_context_for(tls.alpn or _MESH_ALPN.get(cluster.protocol, _MESH_ALPN["http1"]))
    if tls.mode not in ("simple", "mutual"):
        return None
    if credentials is None:
        raise faults.connect_failed("TLS: no secrets here")
    if tls.verify_host and not tls.sni:
        raise faults.connect_failed(f"TLS: no name to verify for {cluster.service or cluster.name}; set tls.sni")
    try:
        return credentials.client_context(tls, tls.alpn or _ALPN.get(cluster.protocol, _ALPN["http1"]))
    except MeshError as exc:
        raise faults.connect_failed(f"TLS: {exc}") from exc


async def _open(
    cluster: config.Cluster,
    endpoint: config.Endpoint,
    context: ssl.SSLContext | None,
    resumption: Resumption | None,
    client: Client,
) -> Transport:
    try:
        tcp = await connect(endpoint.address, endpoint.port)
    except OSError as exc:
        raise faults.connect_failed(f"{exc.strerror or exc}") from exc
    if cluster.connection.tcp_keepalive is not None:
        _keep_alive(tcp, cluster.connection.tcp_keepalive)
    try:
        if cluster.proxy_protocol != "off":
            await _send_header(tcp, encode_header(cluster.proxy_protocol, *client))
        if context is None:
            return tcp
        return await _secure(tcp, cluster, context, resumption or Resumption())
    except BaseException:
        tcp.close()
        raise


async def _send_header(tcp: TcpTransport, header: bytes) -> None:
    try:
        await tcp.send(header)
    except trio.BrokenResourceError as exc:
        raise faults.connect_failed(f"PROXY header: {exc}") from exc


async def _secure(
    tcp: TcpTransport, cluster: config.Cluster, context: ssl.SSLContext, resumption: Resumption
) -> Transport:
    name = cluster.tls.sni or None
    session = resumption.session(context)
    tls = TlsTransport(tcp, context, server_side=False, server_name=name, session=session)
    try:
        await tls.handshake()
        _check_peer(cluster.tls, tls)
    except ssl.SSLError as exc:
        resumption.forget()
        raise faults.connect_failed(f"TLS: {exc.reason or exc}") from exc
    except (trio.BrokenResourceError, faults.ProxyFault) as exc:
        resumption.forget()
        if isinstance(exc, faults.ProxyFault):
            raise
        raise faults.connect_failed(f"TLS: {exc}") from exc
    resumption.established(tls, context)
    return tls


def _check_peer(tls: config.UpstreamTls, transport: TlsTransport) -> None:
    """The names that OpenSSL has not compared. Raises ProxyFault."""
    allowed = tls.subject_alt_names
    if tls.mode in ("simple", "mutual"):
        if allowed and not tls.skip_verify and not holds_name(transport.peer_certificate(), allowed):
            raise faults.connect_failed(f"TLS: the certificate holds none of {', '.join(allowed)}")
        return
    peer = peer_spiffe_id(transport.peer_certificate())
    if peer is None or (allowed and str(peer) not in allowed):
        raise faults.connect_failed(f"TLS: peer is {peer}, not one of {', '.join(allowed) or 'the mesh'}")


def holds_name(certificate: Mapping[str, Any], allowed: tuple[str, ...]) -> bool:
    """Whether a subject alternative name is one of `allowed`; `*.x` in a certificate stands for one label."""
    names: Any = certificate.get("subjectAltName", ())
    for kind, value in names:
        if value in allowed:
            return True
        if kind == "DNS" and value.startswith("*."):
            suffix = value[1:].lower()
            if any(name.lower().partition(".")[2] == suffix[1:] and not name.startswith(".") for name in allowed):
                return True
    return False


def _keep_alive(tcp: TcpTransport, settings: tuple[int, float, float]) -> None:
    probes, time, interval = settings
    tcp.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    tcp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes or 9)
    tcp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(time) or 7200)
    tcp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, int(interval) or 75)
