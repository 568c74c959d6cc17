"""Opening connections to endpoints: who may answer, and what each failure is called."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from agent.exchange.faults import ProxyFault
from agent.identity import Identity
from agent.upstream.connect import NOBODY, open_connection, wants_mesh_tls
from mesh import config
from mesh.net.proxy_protocol import parse_header
from mesh.net.tcp import TcpTransport, Transport
from mesh.net.tls import TlsTransport
from tests.rig import LOOPBACK, ScriptedUpstream, Wire, cluster, endpoint, listening, mesh_identity, mirror, until

MUTUAL = config.UpstreamTls("istio_mutual")
REVIEWS = "spiffe://cluster.local/ns/default/sa/reviews"


async def nothing(upstream: ScriptedUpstream, wire: Wire) -> None:
    """Close at once."""


async def grumble(upstream: ScriptedUpstream, wire: Wire) -> None:
    """A plaintext server that answers whatever comes with an error."""
    await wire.transport.receive()
    await wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@asynccontextmanager
async def opened(
    upstream: ScriptedUpstream, tls: config.UpstreamTls, identity: Identity | None = None, **connection: object
) -> AsyncIterator[Transport]:
    async with upstream.running():
        settings = cluster(tls=tls, connection=connection)
        transport = await open_connection(settings, endpoint(upstream.port), identity)
        yield transport
        transport.close()


async def failure(
    upstream: ScriptedUpstream, tls: config.UpstreamTls, identity: Identity | None = None, **connection: object
) -> ProxyFault:
    """How opening fails; the upstream sees its connection end."""
    found: ProxyFault | None = None
    with trio.fail_after(60):
        async with upstream.running():
            try:
                await open_connection(cluster(tls=tls, connection=connection), endpoint(upstream.port), identity)
            except ProxyFault as fault:
                found = fault
            await until(lambda: upstream.open == 0)
    assert found is not None
    assert (found.flag, found.origin, found.status) == ("UF", "upstream", 503)
    return found


@pytest.mark.parametrize(
    ("mode", "endpoint_tls", "expected"),
    [
        ("auto", "", False),
        ("auto", "istio", True),
        ("istio_mutual", "", True),
        ("disable", "istio", False),
    ],
)
def test_auto_mtls_looks_at_the_endpoint(mode: str, endpoint_tls: str, expected: bool) -> None:
    tls = config.UpstreamTls(mode)  # type: ignore[arg-type]
    assert wants_mesh_tls(tls, endpoint(1, tls=endpoint_tls)) is expected


async def test_plaintext() -> None:
    async with opened(ScriptedUpstream(mirror), config.UpstreamTls()) as transport:
        await transport.send(b"hello")
        assert await transport.receive() == b"hello"


@pytest.mark.parametrize("allowed", [(), (REVIEWS,), ("spiffe://x/ns/a/sa/b", REVIEWS)])
async def test_mesh_tls(allowed: tuple[str, ...]) -> None:
    upstream = ScriptedUpstream(mirror, mesh_identity("reviews"))
    tls = config.UpstreamTls("istio_mutual", sni="outbound_.80_._.reviews", subject_alt_names=allowed)
    async with opened(upstream, tls, mesh_identity("client")) as transport:
        assert isinstance(transport, TlsTransport)
        await transport.send(b"hello")
        assert await transport.receive() == b"hello"


async def test_keep_alive_is_set_on_the_socket() -> None:
    async with opened(ScriptedUpstream(mirror), config.UpstreamTls(), tcp_keepalive=(3, 60.0, 0.0)) as transport:
        assert isinstance(transport, TcpTransport)
        sock = transport.sock
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 75


async def test_the_wrong_identity() -> None:
    tls = config.UpstreamTls("istio_mutual", subject_alt_names=("spiffe://cluster.local/ns/default/sa/other",))
    fault = await failure(ScriptedUpstream(mirror, mesh_identity("reviews")), tls, mesh_identity("client"))
    assert fault.transport == f"TLS: peer is {REVIEWS}, not one of spiffe://cluster.local/ns/default/sa/other"
    assert fault.reason == "remote_connection_failure"


async def test_a_peer_that_is_no_workload() -> None:
    upstream = ScriptedUpstream(mirror, mesh_identity("reviews", uri="https://not.spiffe/"))
    fault = await failure(upstream, MUTUAL, mesh_identity("client"))
    assert fault.transport == "TLS: peer is None, not one of the mesh"


async def test_a_foreign_authority() -> None:
    upstream = ScriptedUpstream(mirror, mesh_identity("reviews", root="elsewhere"))
    fault = await failure(upstream, MUTUAL, mesh_identity("client"))
    assert fault.transport == "TLS: CERTIFICATE_VERIFY_FAILED"
    assert b"transport failure reason: TLS: CERTIFICATE_VERIFY_FAILED" in fault.body


async def test_a_plaintext_peer() -> None:
    fault = await failure(ScriptedUpstream(grumble), MUTUAL, mesh_identity("client"))
    assert fault.transport == "TLS: WRONG_VERSION_NUMBER"


async def test_a_peer_that_closes_during_the_handshake() -> None:
    fault = await failure(ScriptedUpstream(nothing), MUTUAL, mesh_identity("client"))
    assert fault.transport.startswith("TLS: ")


async def test_no_certificate_yet() -> None:
    fault = await failure(ScriptedUpstream(mirror), MUTUAL)
    assert fault.transport == "TLS: no certificate yet"


async def test_nobody_listens() -> None:
    async with listening() as listener:
        port = listener.port
    with pytest.raises(ProxyFault) as refused:
        await open_connection(cluster(), endpoint(port), None)
    assert refused.value.transport == "Connection refused"


async def test_a_peer_that_never_answers_the_handshake(autojump_clock: trio.testing.MockClock) -> None:
    async def stall(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.transport.receive()
        assert await wire.transport.receive() == b"", "the client gives up by closing"

    started = trio.current_time()
    fault = await failure(ScriptedUpstream(stall), MUTUAL, mesh_identity("client"), connect_timeout=3.0)
    assert fault.reason == "connection_timeout"
    assert trio.current_time() - started < 4
    assert fault.body.endswith(b"reset reason: connection timeout")


async def test_a_cancelled_handshake_closes_the_connection() -> None:
    async with listening() as listener:
        with trio.move_on_after(0.05) as scope:
            await open_connection(cluster(tls=MUTUAL), endpoint(listener.port), mesh_identity("client"))
        assert scope.cancelled_caught
        peer = await listener.accept()
        while await peer.receive():
            pass
        assert peer.remote.startswith(LOOPBACK)
        peer.close()


@pytest.mark.parametrize(
    ("version", "client", "begins"),
    [
        ("v1", ("192.0.2.1:1234", "198.51.100.7:443"), b"PROXY TCP4 192.0.2.1 198.51.100.7 1234 443\r\n"),
        ("v2", ("192.0.2.1:1234", "198.51.100.7:443"), b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"),
        ("v1", NOBODY, b"PROXY UNKNOWN\r\n"),
    ],
)
@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_proxy_header_goes_before_all_else(
    version: str, client: tuple[str, str], begins: bytes, encrypted: bool
) -> None:
    seen: list[bytes] = []

    async def read_header(upstream: ScriptedUpstream, wire: Wire) -> None:
        transport = wire.transport
        header = None
        data = b""
        while header is None:
            data += await transport.receive()
            header = parse_header(data)
        seen.append(data[: header.size])
        transport.unread(data[header.size :])
        if encrypted:
            transport = TlsTransport(transport, mesh_identity("reviews").server_context, server_side=True)
            await transport.handshake()
        await transport.send(await transport.receive())

    upstream = ScriptedUpstream(read_header)
    async with upstream.running():
        settings = cluster(proxy_protocol=version, tls=MUTUAL if encrypted else config.UpstreamTls())
        transport = await open_connection(settings, endpoint(upstream.port), mesh_identity("front"), client)
        await transport.send(b"hello")
        assert await transport.receive() == b"hello"
        transport.close()
    assert seen[0].startswith(begins)
