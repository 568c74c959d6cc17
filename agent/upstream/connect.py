"""Open a connection to an endpoint: TCP, a PROXY header if one is wanted, then the mesh's TLS where the endpoint
speaks it, all under one deadline."""

from __future__ import annotations

import socket
import ssl
from typing import Final, Protocol, TypeAlias

import trio

from agent.exchange import faults
from mesh import config
from mesh.identity.contexts import peer_spiffe_id
from mesh.net.proxy_protocol import encode_header
from mesh.net.tcp import TcpTransport, Transport, connect
from mesh.net.tls import TlsTransport

Client: TypeAlias = tuple[str, str]
"""On whose behalf a connection is opened: the client's address, and the one that it came to."""
NOBODY: Final[Client] = ("", "")
"""This agent itself."""


class ClientIdentity(Protocol):
    """What the data path needs of the workload's identity."""

    @property
    def client_context(self) -> ssl.SSLContext: ...


def wants_mesh_tls(tls: config.UpstreamTls, endpoint: config.Endpoint) -> bool:
    """Whether connections to this endpoint are mesh mTLS (Istio's auto mTLS decides per endpoint)."""
    return tls.mode == "istio_mutual" or (tls.mode == "auto" and endpoint.tls == "istio")


async def open_connection(
    cluster: config.Cluster,
    endpoint: config.Endpoint,
    identity: ClientIdentity | None,
    client: Client = NOBODY,
) -> Transport:
    """A connected transport, a PROXY header that tells of `client` already sent where the cluster wants one.

    Raises ProxyFault with flag UF within `connect_timeout` seconds.
    """
    with trio.move_on_after(cluster.connection.connect_timeout):
        return await _open(cluster, endpoint, identity, client)
    raise faults.connect_failed("", timeout=True)


async def _open(
    cluster: config.Cluster, endpoint: config.Endpoint, identity: ClientIdentity | None, client: Client
) -> Transport:
    if cluster.tls.mode in ("simple", "mutual"):
        # never in the clear what was asked to be encrypted
        raise faults.connect_failed(f"TLS: mode {cluster.tls.mode.upper()} is not served")
    try:
        tcp = await connect(endpoint.address, endpoint.port)
    except OSError as exc:
        raise faults.connect_failed(f"{exc.strerror or exc}") from exc
    if cluster.connection.tcp_keepalive is not None:
        _keep_alive(tcp, cluster.connection.tcp_keepalive)
    try:
        if cluster.proxy_protocol != "off":
            await _send_header(tcp, encode_header(cluster.proxy_protocol, *client))
        if not wants_mesh_tls(cluster.tls, endpoint):
            return tcp
        return await _secure(tcp, cluster, identity)
    except BaseException:
        tcp.close()
        raise


async def _send_header(tcp: TcpTransport, header: bytes) -> None:
    try:
        await tcp.send(header)
    except trio.BrokenResourceError as exc:
        raise faults.connect_failed(f"PROXY header: {exc}") from exc


async def _secure(tcp: TcpTransport, cluster: config.Cluster, identity: ClientIdentity | None) -> Transport:
    if identity is None:
        raise faults.connect_failed("TLS: no certificate yet")
    tls = TlsTransport(tcp, identity.client_context, server_side=False, server_name=cluster.tls.sni or None)
    try:
        await tls.handshake()
    except ssl.SSLError as exc:
        raise faults.connect_failed(f"TLS: {exc.reason or exc}") from exc
    except trio.BrokenResourceError as exc:
        raise faults.connect_failed(f"TLS: {exc}") from exc
    peer = peer_spiffe_id(tls.peer_certificate())
    allowed = cluster.tls.subject_alt_names
    if peer is None or (allowed and str(peer) not in allowed):
        raise faults.connect_failed(f"TLS: peer is {peer}, not one of {', '.join(allowed) or 'the mesh'}")
    return tls


def _keep_alive(tcp: TcpTransport, settings: tuple[int, float, float]) -> None:
    probes, time, interval = settings
    tcp.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    tcp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes or 9)
    tcp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(time) or 7200)
    tcp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, int(interval) or 75)
