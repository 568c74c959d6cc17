"""Terminate TLS on an accepted connection: the mesh's own, or that of a gateway, and learn who the peer is."""

from __future__ import annotations

import ssl

import trio

from agent.credentials import Unusable
from agent.dataplane import Dataplane, Downstream
from agent.downstream.client_cert import forwarded_element, refusal
from mesh import config
from mesh.identity.contexts import peer_spiffe_id
from mesh.identity.spiffe import SpiffeId
from mesh.net.tcp import Transport
from mesh.net.tls import TlsTransport

HANDSHAKE_TIMEOUT = 10.0
"""Seconds; Envoy has none by default, and a peer that stalls here costs a task and a descriptor."""


class HandshakeFailed(Exception):
    """The connection is not to be served; `reason` is a short token for the refusal counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def secure(downstream: Downstream, tls: config.DownstreamTls, dataplane: Dataplane) -> None:
    """Put the connection under the chain's TLS and remember who came. Raises HandshakeFailed."""
    if tls.mode == "istio_mutual":
        await _mesh(downstream, tls, dataplane)
    else:
        await _edge(downstream, tls, dataplane)


async def _mesh(downstream: Downstream, tls: config.DownstreamTls, dataplane: Dataplane) -> None:
    identity = dataplane.identity
    if identity is None:
        raise HandshakeFailed("no_certificate_yet")
    context = identity.server_context_for(tls.alpn) if tls.alpn else identity.server_context
    secured, peer = await accept_mesh_tls(downstream.transport, context, tls.trust_domains)
    downstream.secure(secured, secured.alpn or "")
    downstream.identify(peer, identity.spiffe_id, secured.peer_certificate_der())
    if downstream.config.direction == "gateway":
        own = str(identity.spiffe_id)
        downstream.client_cert = forwarded_element(secured.peer_certificate(), secured.peer_certificate_der(), own)


async def _edge(downstream: Downstream, tls: config.DownstreamTls, dataplane: Dataplane) -> None:
    try:
        context = dataplane.credentials.server_context(tls)
    except Unusable as exc:
        raise HandshakeFailed(exc.reason) from exc
    secured = await accept_tls(downstream.transport, context)
    der = secured.peer_certificate_der()
    downstream.secure(secured, secured.alpn or "")
    if not der:
        return
    certificate = secured.peer_certificate()
    reason = refusal(certificate, der, tls)
    if reason:
        raise HandshakeFailed(reason)
    downstream.client_cert = forwarded_element(certificate, der)
    peer = peer_spiffe_id(certificate)
    if peer is not None:
        downstream.know(peer)


async def accept_tls(transport: Transport, context: ssl.SSLContext) -> TlsTransport:
    """Handshake under a deadline. Raises HandshakeFailed; the caller closes the transport."""
    tls = TlsTransport(transport, context, server_side=True)
    with trio.move_on_after(HANDSHAKE_TIMEOUT) as scope:
        try:
            await tls.handshake()
        except ssl.SSLError as exc:
            raise HandshakeFailed((exc.reason or "tls_error").lower()) from exc
        except trio.BrokenResourceError as exc:
            raise HandshakeFailed("peer_closed") from exc
    if scope.cancelled_caught:
        raise HandshakeFailed("handshake_timeout")
    return tls


async def accept_mesh_tls(
    transport: Transport, context: ssl.SSLContext, trust_domains: tuple[str, ...]
) -> tuple[TlsTransport, SpiffeId]:
    """Handshake with a required client certificate of the mesh. Raises HandshakeFailed."""
    tls = await accept_tls(transport, context)
    peer = peer_spiffe_id(tls.peer_certificate())
    if peer is None:
        raise HandshakeFailed("no_spiffe_id")
    if trust_domains and peer.trust_domain not in trust_domains:
        raise HandshakeFailed("foreign_trust_domain")
    return tls, peer
