"""Opening connections to endpoints: who may answer, and what each failure is called."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from agent.credentials import Credentials
from agent.exchange.faults import ProxyFault
from agent.identity import Identity
from agent.upstream.connect import NOBODY, holds_name, open_connection, wants_mesh_tls
from agent.upstream.resumption import Resumption
from mesh import config
from mesh.identity.contexts import edge_server_context
from mesh.net.proxy_protocol import parse_header
from mesh.net.tcp import TcpTransport, Transport
from mesh.net.tls import TlsTransport
from tests.rig import (
    LOOPBACK,
    FakeLog,
    ScriptedUpstream,
    Wire,
    cluster,
    endpoint,
    listening,
    mesh_identity,
    mirror,
    snapshot,
    until,
)
from tests.tls_material import certificate, pair, roots, trust

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
        transport = await open_connection(settings, endpoint(upstream.port), mesh_identity("front"), client=client)
        await transport.send(b"hello")
        assert await transport.receive() == b"hello"
        transport.close()
    assert seen[0].startswith(begins)


# ALPN towards the mesh


@pytest.mark.parametrize(
    ("protocol", "server", "agreed"),
    [
        ("http1", ("istio-h2", "istio-http/1.1", "istio"), "istio-http/1.1"),
        ("http2", ("istio-h2", "istio-http/1.1", "istio"), "istio-h2"),
        ("tcp", ("istio-h2", "istio-http/1.1", "istio"), "istio"),
        ("http1", ("h2", "http/1.1"), "http/1.1"),
        ("http2", ("h2", "http/1.1"), "h2"),
        ("http2", ("istio",), "istio"),
    ],
)
async def test_what_is_offered_follows_the_protocol(protocol: Any, server: tuple[str, ...], agreed: str) -> None:
    upstream = ScriptedUpstream(mirror, mesh_identity("reviews", alpn=server))
    async with upstream.running():
        settings = cluster(tls=MUTUAL, protocol=protocol)
        transport = await open_connection(settings, endpoint(upstream.port), mesh_identity("client"))
        assert isinstance(transport, TlsTransport)
        assert transport.alpn == agreed
        transport.close()


async def test_a_second_connection_resumes_the_session() -> None:
    upstream, resumption = ScriptedUpstream(mirror, mesh_identity("reviews")), Resumption()
    tls = config.UpstreamTls("istio_mutual", subject_alt_names=(REVIEWS,))
    other = config.UpstreamTls("istio_mutual", subject_alt_names=("spiffe://cluster.local/ns/default/sa/other",))
    async with upstream.running():
        for resumed in (False, True):
            made = await open_connection(
                cluster(tls=tls), endpoint(upstream.port), mesh_identity("client"), None, resumption
            )
            assert isinstance(made, TlsTransport)
            assert made.resumed is resumed
            await made.send(b"x")
            await made.receive()
            made.close()
        with pytest.raises(ProxyFault) as refused:  # a resumed session proves no more than its certificate did
            await open_connection(
                cluster(tls=other), endpoint(upstream.port), mesh_identity("client"), None, resumption
            )
        assert refused.value.transport.startswith(f"TLS: peer is {REVIEWS}")


# Originated TLS


class OutsideServer:
    """A server's context, in the place of an identity."""

    def __init__(self, *hosts: str, alpn: tuple[str, ...] = (), client: bool = False) -> None:
        chain, key = pair(*hosts)
        self.server_context = edge_server_context(
            [(chain.encode(), key.encode())],
            roots_pem=roots("clients").encode(),
            client=ssl.CERT_REQUIRED if client else ssl.CERT_NONE,
            alpn=alpn,
        )


def outside(tls: config.UpstreamTls, **fields: Any) -> tuple[config.Cluster, Credentials]:
    """A cluster of originated TLS, and its secrets."""
    made = Credentials(FakeLog())
    settings = cluster(tls=tls, service="api.test", **fields)
    made.apply(
        snapshot(settings, trust("roots"), trust("foreign", of="clients"), certificate("me", "me", of="clients"))
    )
    return settings, made


async def originate(server: OutsideServer, tls: config.UpstreamTls, **fields: Any) -> TlsTransport:
    upstream = ScriptedUpstream(mirror, server)  # type: ignore[arg-type]
    settings, credentials = outside(tls, **fields)
    async with upstream.running():
        transport = await open_connection(settings, endpoint(upstream.port), None, credentials)
        assert isinstance(transport, TlsTransport)
        await transport.send(b"hello")
        assert await transport.receive() == b"hello"
        transport.close()
        return transport


async def not_originated(server: OutsideServer | None, tls: config.UpstreamTls) -> str:
    upstream = ScriptedUpstream(mirror, server)  # type: ignore[arg-type]
    settings, credentials = outside(tls)
    async with upstream.running():
        with pytest.raises(ProxyFault) as refused:
            await open_connection(settings, endpoint(upstream.port), None, credentials)
    assert refused.value.flag == "UF"
    return refused.value.transport


def simple(sni: str = "api.test", **fields: Any) -> config.UpstreamTls:
    return config.UpstreamTls("simple", sni, trust="roots", **fields)


async def test_the_servers_name_is_verified() -> None:
    await originate(OutsideServer("api.test"), simple(verify_host=True))
    refused = await not_originated(OutsideServer("other.test"), simple(verify_host=True))
    assert refused == "TLS: CERTIFICATE_VERIFY_FAILED"
    await originate(OutsideServer("other.test"), simple())


async def test_the_servers_authority_is_verified() -> None:
    tls = config.UpstreamTls("simple", "api.test", trust="foreign")
    assert await not_originated(OutsideServer("api.test"), tls) == "TLS: CERTIFICATE_VERIFY_FAILED"


async def test_without_roots_the_systems_are_trusted() -> None:
    assert await not_originated(OutsideServer("api.test"), config.UpstreamTls("simple", "api.test")) == (
        "TLS: CERTIFICATE_VERIFY_FAILED"
    )


async def test_nothing_is_verified_when_asked() -> None:
    await originate(OutsideServer("other.test"), config.UpstreamTls("simple", "api.test", skip_verify=True))


async def test_names_that_are_given() -> None:
    await originate(OutsideServer("b.test", "c.test"), simple(subject_alt_names=("a.test", "b.test")))
    refused = await not_originated(OutsideServer("c.test"), simple(subject_alt_names=("a.test", "b.test")))
    assert refused == "TLS: the certificate holds none of a.test, b.test"


async def test_a_certificate_is_shown_where_it_is_asked_for() -> None:
    server = OutsideServer("api.test", client=True)
    await originate(server, config.UpstreamTls("mutual", "api.test", trust="roots", certificate="me"))


async def test_a_missing_secret_keeps_the_connection_closed() -> None:
    tls = config.UpstreamTls("mutual", "api.test", trust="roots", certificate="nobody")
    assert await not_originated(OutsideServer("api.test"), tls) == "TLS: secret nobody is not there"


async def test_a_name_is_needed_to_verify_one() -> None:
    tls = config.UpstreamTls("simple", trust="roots", verify_host=True)
    assert await not_originated(None, tls) == "TLS: no name to verify for api.test; set tls.sni"


@pytest.mark.parametrize(("protocol", "agreed"), [("http1", "http/1.1"), ("http2", "h2"), ("tcp", None)])
async def test_one_protocol_is_offered(protocol: str, agreed: str | None) -> None:
    made = await originate(OutsideServer("api.test", alpn=("h2", "http/1.1")), simple(), protocol=protocol)
    assert made.alpn == agreed


@pytest.mark.parametrize(
    ("held", "allowed", "expected"),
    [
        (("DNS", "a.test"), "a.test", True),
        (("URI", "spiffe://a"), "spiffe://a", True),
        (("DNS", "*.test"), "a.test", True),
        (("DNS", "*.test"), "A.TEST", True),
        (("DNS", "*.test"), "a.b.test", False),
        (("DNS", "*.test"), ".test", False),
        (("URI", "*.test"), "a.test", False),
        (("DNS", "b.test"), "a.test", False),
    ],
)
def test_names_of_certificates(held: tuple[str, str], allowed: str, expected: bool) -> None:
    assert holds_name({"subjectAltName": (held,)}, (allowed,)) is expected
