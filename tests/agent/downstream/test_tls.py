"""Who gets past the inbound handshake, and the token under which a refusal is counted."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trio
import trio.testing

from agent.downstream.tls import HANDSHAKE_TIMEOUT, HandshakeFailed, accept_mesh_tls
from mesh import config
from mesh.identity.contexts import origination_context
from mesh.identity.spiffe import SpiffeId
from mesh.net.tcp import connect
from mesh.net.tls import TlsTransport
from tests.rig import LOOPBACK, ScriptedUpstream, Wire, mesh_identity, serving, snapshot, tcp_pair, web
from tests.tls_material import certificate, client_context, roots


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


# Gateways


GATEWAY = config.DownstreamTls("istio_mutual", trust_domains=("cluster.local",), alpn=("h2", "http/1.1"))


def behind(tls: config.DownstreamTls) -> config.Listener:
    chain = config.FilterChain("https", "tls", tls=tls, http=config.HttpChain("web", use_remote_address=True))
    return config.Listener("edge", "gateway", LOOPBACK, 0, (chain,))


async def heard(tls: config.DownstreamTls, client: ssl.SSLContext, *secrets: config.Secret) -> dict[bytes, bytes]:
    """What the upstream is told in headers of a request that came under this TLS."""
    upstream = ScriptedUpstream()
    async with upstream.running():
        given = web(upstream.port, listener=behind(tls))
        given = snapshot(*(each for _, _, each in given.items()), *secrets)
        async with serving(given, identity=mesh_identity("gateway")) as served:
            transport = TlsTransport(
                await connect(LOOPBACK, served.port()), client, server_side=False, server_name="a.test"
            )
            await transport.handshake()
            assert transport.alpn == "http/1.1"
            forged = b"x-forwarded-client-cert: By=me\r\nx-forwarded-proto: http\r\n"
            assert (await Wire(transport).ask(extra=forged)).status == 200
            [downstream] = served.dataplane.connections
            assert (downstream.tls, downstream.alpn, downstream.server_name) == (True, "http/1.1", "a.test")
            transport.close()
            await served.settled()
    return upstream.requests[0].headers


async def test_a_gateway_of_the_mesh_names_both_ends() -> None:
    client = mesh_identity("client").client_context_for(("http/1.1",))
    headers = await heard(GATEWAY, client)
    assert headers[b"x-forwarded-proto"] == b"https"
    element = headers[b"x-forwarded-client-cert"].decode()
    assert element.startswith("By=spiffe://cluster.local/ns/default/sa/gateway;Hash=")
    assert element.endswith(';Subject="";URI=spiffe://cluster.local/ns/default/sa/client')


async def test_a_client_without_certificate_is_https_all_the_same() -> None:
    tls = config.DownstreamTls("simple", ("web",), alpn=("h2", "http/1.1"))
    headers = await heard(tls, client_context(alpn=("http/1.1",)), certificate("web", "a.test"))
    assert headers[b"x-forwarded-proto"] == b"https"
    assert b"x-forwarded-client-cert" not in headers


async def test_a_workload_at_a_mutual_server_is_known_by_its_spiffe_id() -> None:
    identity = mesh_identity("client")
    trusted = config.Secret("clients", roots=identity.roots_pem.decode())
    tls = config.DownstreamTls("mutual", ("web",), "clients", alpn=("http/1.1",))
    leaf = identity.certificate
    context = origination_context(
        pair=(leaf.chain_pem, leaf.key_pem), roots_pem=roots().encode(), verify_host=True, alpn=("http/1.1",)
    )
    headers = await heard(tls, context, certificate("web", "a.test"), trusted)
    assert b";URI=spiffe://cluster.local/ns/default/sa/client" in headers[b"x-forwarded-client-cert"]


async def test_a_chain_without_its_secret_is_refused_with_the_reason() -> None:
    given = snapshot(behind(config.DownstreamTls("simple", ("gone",))))
    async with serving(given) as served:
        async with served.connect() as wire:
            tls = TlsTransport(wire.transport, client_context(), server_side=False, server_name="a.test")
            with pytest.raises((ssl.SSLError, trio.BrokenResourceError)):
                await tls.handshake()
        await served.settled()
        assert served.refused() == {("tls", "secret_missing"): 1}
