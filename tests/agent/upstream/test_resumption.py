"""Sessions of TLS towards an endpoint: kept from one connection to the next, and forgotten when they should be."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from agent.upstream.resumption import Resumption
from mesh.net.tls import TlsTransport
from tests.rig import mesh_identity, tcp_pair

CLIENT, SERVER = mesh_identity("client"), mesh_identity("server")


@asynccontextmanager
async def connected(resumption: Resumption, context: ssl.SSLContext) -> AsyncIterator[TlsTransport]:
    """A client after its handshake and one byte each way, with which tickets come."""
    async with tcp_pair() as (near, far):
        client = TlsTransport(near, context, server_side=False, session=resumption.session(context))
        server = TlsTransport(far, SERVER.server_context, server_side=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.handshake)
            nursery.start_soon(server.handshake)
        resumption.established(client, context)
        await client.send(b"a")
        assert await server.receive() == b"a"
        await server.send(b"b")
        assert await client.receive() == b"b"
        yield client
        client.close()


@pytest.fixture
def resumption() -> Resumption:
    return Resumption()


async def test_a_session_is_taken_up_after_its_connection(resumption: Resumption) -> None:
    context = CLIENT.client_context
    assert resumption.session(context) is None
    async with connected(resumption, context) as first:
        assert not first.resumed
    for _ in range(2):
        async with connected(resumption, context) as next_one:
            assert next_one.resumed
            assert next_one.peer_certificate()["subjectAltName"] == (("URI", str(SERVER.spiffe_id)),)


async def test_a_session_is_taken_up_beside_its_connection(resumption: Resumption) -> None:
    context = CLIENT.client_context
    async with connected(resumption, context), connected(resumption, context) as second:
        assert second.resumed


async def test_another_context_begins_anew(resumption: Resumption) -> None:
    renewed = CLIENT.client_context_for(("istio",))
    async with connected(resumption, CLIENT.client_context):
        pass
    assert resumption.session(renewed) is None
    async with connected(resumption, renewed) as fresh:
        assert not fresh.resumed
    assert resumption.session(CLIENT.client_context) is None
    assert resumption.session(renewed) is not None


async def test_a_failed_handshake_is_not_resumed(resumption: Resumption) -> None:
    async with connected(resumption, CLIENT.client_context):
        resumption.forget()
    assert resumption.session(CLIENT.client_context) is None


async def test_before_tickets_come_there_is_nothing_to_offer(resumption: Resumption) -> None:
    context = CLIENT.client_context
    async with tcp_pair() as (near, far):
        client = TlsTransport(near, context, server_side=False)
        server = TlsTransport(far, SERVER.server_context, server_side=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.handshake)
            nursery.start_soon(server.handshake)
        resumption.established(client, context)
        assert resumption.session(context) is None
        client.close()
    assert resumption.session(context) is None
