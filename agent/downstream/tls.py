"""Terminate the mesh's TLS on an inbound connection and learn who the peer is."""

from __future__ import annotations

import ssl

import trio

from mesh.identity.contexts import peer_spiffe_id
from mesh.identity.spiffe import SpiffeId
from mesh.net.tcp import Transport
from mesh.net.tls import TlsTransport

HANDSHAKE_TIMEOUT = 10.0
"""Seconds; Envoy has none by default, and a peer that stalls here costs a task and a descriptor."""


class HandshakeFailed(Exception):
    """The peer did not prove a mesh identity; `reason` is a short token for the refusal counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def accept_mesh_tls(
    transport: Transport, context: ssl.SSLContext, trust_domains: tuple[str, ...]
) -> tuple[TlsTransport, SpiffeId]:
    """Handshake with a required client certificate. Raises HandshakeFailed; the caller closes the transport."""
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
    peer = peer_spiffe_id(tls.peer_certificate())
    if peer is None:
        raise HandshakeFailed("no_spiffe_id")
    if trust_domains and peer.trust_domain not in trust_domains:
        raise HandshakeFailed("foreign_trust_domain")
    return tls, peer
