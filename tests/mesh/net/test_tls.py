"""TLS transports over loopback: handshakes that fail, half-close, and peers that leave with and without notice."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.identity.contexts import peer_spiffe_id
from mesh.net.batch import WriteBatch
from mesh.net.tcp import Transport
from mesh.net.tls import TlsTransport
from tests.rig import mesh_identity, settle, tcp_pair, tls_pair

BIG = bytes(range(256)) * 4096 * 8
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class FakeOpenEnd:
    """A transport that keeps its own end when asked to end it, as OpenSSL's tools do."""

    def __init__(self, inner: Transport) -> None:
        self.send = inner.send

    async def send_eof(self) -> None:
        pass


async def read_all(transport: Transport) -> bytes:
    parts = []
    while data := await transport.receive():
        parts.append(data)
    return b"".join(parts)


@asynccontextmanager
async def pair_of_version(version: ssl.TLSVersion) -> AsyncIterator[tuple[TlsTransport, TlsTransport]]:
    client = mesh_identity(f"client-{version.name}")
    client.client_context.maximum_version = version
    async with tls_pair(client) as pair:
        yield pair


async def test_both_sides_know_each_other() -> None:
    async with tls_pair() as (client, server):
        assert str(peer_spiffe_id(client.peer_certificate())) == "spiffe://cluster.local/ns/default/sa/server"
        assert str(peer_spiffe_id(server.peer_certificate())) == "spiffe://cluster.local/ns/default/sa/client"
        assert client.alpn == server.alpn == "istio-http/1.1"
        assert client.version == "TLSv1.3"
        assert len(server.peer_certificate_der()) > 100
        assert client.remote == server.local


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_direction_ends_by_itself(version: ssl.TLSVersion) -> None:
    with trio.fail_after(5):
        async with pair_of_version(version) as (client, server):
            await client.send(b"question")
            await client.send_eof()
            assert await read_all(server) == b"question"
            assert await server.receive() == b""
            await server.send(b"answer")
            await server.send_eof()
            assert await read_all(client) == b"answer"


async def test_ending_ones_own_direction_keeps_what_has_come_already() -> None:
    body = b"x" * 60_000  # several records in one read
    with trio.fail_after(5):
        async with tls_pair() as (client, server):
            await server.send(body)
            got = await client.receive()
            assert len(got) < len(body)
            await client.send_eof()
            await server.send(b"tail")
            await server.send_eof()
            assert got + await read_all(client) == body + b"tail"


@pytest.mark.parametrize("batched", [False, True])
async def test_a_big_write_waits_for_its_reader(batched: bool) -> None:
    with trio.fail_after(10):
        async with tls_pair() as (client, server), trio.open_nursery() as nursery:
            if batched:
                batch = WriteBatch(nursery)
                trio.lowlevel.add_instrument(batch)
                client.batch_writes(batch)
            done = trio.Event()

            async def write() -> None:
                for start in range(0, len(BIG), 65536):
                    await client.send(BIG[start : start + 65536])
                done.set()
                await client.send_eof()

            nursery.start_soon(write)
            await settle()
            assert not done.is_set()
            assert await read_all(server) == BIG


@settings(max_examples=15, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40_000), max_size=6))
def test_bytes_pass_unchanged_both_ways_at_once(pieces: list[bytes]) -> None:
    async def speak(transport: TlsTransport) -> None:
        for piece in pieces:
            await transport.send(piece)
        await transport.send_eof()

    async def hear(transport: TlsTransport, heard: list[bytes]) -> None:
        heard.append(await read_all(transport))

    async def main() -> None:
        heard: list[bytes] = []
        with trio.fail_after(5):
            async with tls_pair() as ends, trio.open_nursery() as nursery:
                for end in ends:
                    nursery.start_soon(speak, end)
                    nursery.start_soon(hear, end, heard)
        assert heard == [b"".join(pieces)] * 2

    trio.run(main)


async def test_a_peer_that_closes_without_notice_reads_as_end() -> None:
    async with tls_pair() as (client, server):
        await server.send(b"hello")
        await client.receive()  # a close with unread bytes (the session tickets) would be a reset
        await client.send(b"all")
        client.close()
        assert await read_all(server) == b"all"


async def test_a_reset_breaks_the_reader() -> None:
    async with tls_pair() as (client, server):
        client.reset()
        with pytest.raises(trio.BrokenResourceError):
            await server.receive()


async def test_garbage_within_a_session_breaks_the_reader() -> None:
    async with tls_pair() as (client, server):
        await client.inner.send(b"\x17\x03\x03\x00\x20" + b"\0" * 32)
        with pytest.raises(trio.BrokenResourceError, match="TLS"):
            await server.receive()
        with pytest.raises(trio.BrokenResourceError, match="TLS"):
            await server.receive()


async def test_unread_comes_first() -> None:
    async with tls_pair() as (client, server):
        await client.send(b"b")
        server.unread(b"a")
        assert not server.peer_gone()
        assert await server.receive() == b"a"
        assert await server.receive() == b"b"


@pytest.mark.parametrize("version", VERSIONS)
async def test_peer_gone_is_seen_behind_a_close_notify(version: ssl.TLSVersion) -> None:
    async with pair_of_version(version) as (client, server):
        await server.send(b"hello")  # the session tickets come with it
        assert await client.receive() == b"hello"
        assert not client.peer_gone()
        await server.send_eof()
        assert client.peer_gone(), "a close_notify is unread, but it is nothing to read"
        assert client.peer_finished()
        assert await client.receive() == b""
        assert client.peer_gone()


@pytest.mark.parametrize("version", VERSIONS)
async def test_quiet_is_neither_bytes_nor_the_end(version: ssl.TLSVersion) -> None:
    async with pair_of_version(version) as (client, server):
        await server.send(b"hello")
        assert await client.receive() == b"hello"
        assert client.quiet()
        await server.send(b"unasked")
        assert not client.quiet()
        assert await client.receive() == b"unasked"
        assert client.quiet()
        await server.send_eof()
        assert not client.quiet()


async def test_a_close_notify_is_the_end_even_without_the_end_of_tcp() -> None:
    with trio.fail_after(5):
        async with tls_pair() as (client, server):
            await server.send(b"x" * 40_000)
            server.inner = FakeOpenEnd(server.inner)
            await server.send_eof()
            first = await client.receive()
            await client.send_eof()
            assert len(first) + len(await read_all(client)) == 40_000
            assert await client.receive() == b""
            assert client.peer_finished()
            assert client.peer_gone()


async def test_a_peer_with_words_left_is_not_gone() -> None:
    async with tls_pair() as (client, server):
        await server.send(b"x" * 40_000)
        await server.send_eof()
        first = await client.receive()
        assert not client.peer_gone()
        assert len(first) + len(await read_all(client)) == 40_000
        assert client.peer_gone()


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with tls_pair() as (client, server):
        with trio.move_on_after(0):
            await server.receive()
        await client.send(b"late")
        assert await server.receive() == b"late"


async def test_closing_wakes_the_reader() -> None:
    with trio.fail_after(5):
        async with tls_pair() as (client, _server), trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await client.receive()

            nursery.start_soon(read)
            await settle()
            client.close()


# Handshakes


async def test_a_client_without_certificate_is_refused() -> None:
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname = False
    anonymous.verify_mode = ssl.CERT_NONE
    async with tcp_pair() as (near, far), trio.open_nursery() as nursery:
        client = TlsTransport(near, anonymous, server_side=False)

        async def ask() -> None:
            await client.handshake()  # TLS 1.3: the client is done before it is judged
            with pytest.raises(trio.BrokenResourceError, match="CERTIFICATE_REQUIRED"):
                await client.receive()

        nursery.start_soon(ask)
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            await TlsTransport(far, mesh_identity().server_context, server_side=True).handshake()


async def test_a_foreign_authority_is_refused_by_the_client_and_the_server_hears_why() -> None:
    foreign = mesh_identity("server", root="elsewhere")
    async with tcp_pair() as (near, far), trio.open_nursery() as nursery:

        async def serve() -> None:
            with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
                await TlsTransport(far, foreign.server_context, server_side=True).handshake()

        nursery.start_soon(serve)
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            await TlsTransport(near, mesh_identity().client_context, server_side=False).handshake()


async def test_a_plaintext_peer() -> None:
    async with tcp_pair() as (near, far):
        await far.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
            await TlsTransport(near, mesh_identity().client_context, server_side=False).handshake()


async def test_the_alert_to_a_peer_that_has_gone_is_forgotten() -> None:
    async with tcp_pair() as (near, far):
        await far.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        tls = TlsTransport(near, mesh_identity().client_context, server_side=False)
        await near.send_eof()  # whatever is sent from here on fails
        with pytest.raises((ssl.SSLError, trio.BrokenResourceError)):
            await tls.handshake()


async def test_a_server_whose_peer_vanishes_before_the_alert() -> None:
    async with tcp_pair() as (near, far):
        tls = TlsTransport(far, mesh_identity().server_context, server_side=True)
        await near.send(b"GET / HTTP/1.1\r\n\r\n")
        await far.send_eof()
        with pytest.raises(ssl.SSLError, match="HTTP_REQUEST"):
            await tls.handshake()


async def test_a_peer_that_hangs_up_during_the_handshake() -> None:
    async with tcp_pair() as (near, far):
        far.close()
        with pytest.raises(trio.BrokenResourceError):
            await TlsTransport(near, mesh_identity().client_context, server_side=False).handshake()


async def test_a_peer_that_ends_its_stream_during_the_handshake() -> None:
    async with tcp_pair() as (near, far):
        await far.send_eof()
        with pytest.raises(trio.BrokenResourceError, match="during the TLS handshake"):
            await TlsTransport(near, mesh_identity().client_context, server_side=False).handshake()


async def test_a_cancelled_handshake_leaves_a_transport_that_closes() -> None:
    async with tcp_pair() as (near, far):
        tls = TlsTransport(near, mesh_identity().client_context, server_side=False)
        with trio.move_on_after(0) as scope:
            await tls.handshake()
        assert scope.cancelled_caught
        tls.close()
        while await far.receive():
            pass
        assert far.peer_gone()
