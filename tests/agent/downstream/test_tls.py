"""Who gets past the inbound handshake, and the token under which a refusal is counted."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trio
import trio.testing

from agent.downstream.tls import HANDSHAKE_TIMEOUT, HandshakeFailed, accept_mesh_tls
from mesh.identity.spiffe import SpiffeId
from mesh.net.tls import TlsTransport
from tests.rig import mesh_identity, tcp_pair


async def accepted(client: ssl.SSLContext | bytes, trust_domains: tuple[str, ...] = ()) -> SpiffeId:
    """Who the peer is; `client` handshakes, or sends those bytes and ends its stream."""
    outcome: SpiffeId | HandshakeFailed
    with trio.fail_after(5):
        async with tcp_pair() as (near, far), trio.open_nursery() as nursery:

            async def come() -> None:
                if isinstance(client, bytes):
                    await near.send(client)
                    await near.send_eof()
                else:
                    try:
                        await TlsTransport(near, client, server_side=False).handshake()
                    except (ssl.SSLError, trio.BrokenResourceError):
                        pass  # the other side is what is tested

            nursery.start_soon(come)
            try:
                _, outcome = await accept_mesh_tls(far, mesh_identity("server").server_context, trust_domains)
            except HandshakeFailed as exc:
                outcome = exc  # told outside the nursery, which would wrap it
            nursery.cancel_scope.cancel()
    if isinstance(outcome, HandshakeFailed):
        raise outcome
    return outcome


def anonymous() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("trust_domains", [(), ("cluster.local",), ("other", "cluster.local")])
async def test_a_mesh_peer_is_known(trust_domains: tuple[str, ...]) -> None:
    peer = await accepted(mesh_identity("reviews").client_context, trust_domains)
    assert str(peer) == "spiffe://cluster.local/ns/default/sa/reviews"


@pytest.mark.parametrize(
    ("client", "trust_domains", "reason"),
    [
        (anonymous, (), "peer_did_not_return_a_certificate"),
        (lambda: mesh_identity("reviews", root="elsewhere").client_context, (), "peer_closed|alert|ca"),
        (lambda: mesh_identity("reviews").client_context, ("other",), "foreign_trust_domain"),
        (lambda: mesh_identity("x", uri="https://not.spiffe/").client_context, (), "no_spiffe_id"),
        (lambda: b"GET / HTTP/1.1\r\n\r\n", (), "http_request"),
        (lambda: b"\x16\x03\x01", (), "peer_closed"),
        (lambda: b"\x16\x03\x01\x00\x05hello", (), "_"),
    ],
)
async def test_others_are_refused(client: Any, trust_domains: tuple[str, ...], reason: str) -> None:
    with pytest.raises(HandshakeFailed, match=reason):
        await accepted(client(), trust_domains)


async def test_a_peer_that_stalls_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with tcp_pair() as (near, far):
        await near.send(b"\x16\x03\x01")
        started = trio.current_time()
        with pytest.raises(HandshakeFailed, match="handshake_timeout"):
            await accept_mesh_tls(far, mesh_identity("server").server_context, ())
        assert trio.current_time() - started == HANDSHAKE_TIMEOUT
