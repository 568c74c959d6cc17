"""A connection that begins with a PROXY header: who its client is, what follows, and what is refused."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from agent.downstream.proxy_protocol import HEADER_TIMEOUT, accept_header
from mesh.net.proxy_protocol import ProxyProtocolError, encode_header
from tests.rig import settle, tcp_pair

HEADER = encode_header("v2", "192.0.2.1:1234", "198.51.100.7:443")


@pytest.mark.parametrize("require", [True, False])
async def test_the_told_addresses_are_the_transports(require: bool) -> None:
    async with tcp_pair() as (client, server):
        await client.send(HEADER + b"and on")
        await accept_header(server, require=require)
        assert (server.remote, server.local) == ("192.0.2.1:1234", "198.51.100.7:443")
        assert await server.receive() == b"and on"


async def test_a_header_may_come_in_pieces() -> None:
    async with tcp_pair() as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: accept_header(server, require=True))
        for octet in HEADER:
            await client.send(bytes((octet,)))
            await settle()
        assert server.remote == "192.0.2.1:1234"


async def test_a_local_connection_is_its_peers_own() -> None:
    async with tcp_pair() as (client, server):
        own = server.remote
        await client.send(encode_header("v2") + b"x")
        await accept_header(server, require=True)
        assert server.remote == own
        assert await server.receive() == b"x"


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"\x16\x03", b"POST", b"\r\nx"])
async def test_a_header_that_is_not_required_may_be_missing(first: bytes) -> None:
    async with tcp_pair() as (client, server):
        own = server.remote
        await client.send(first)
        await accept_header(server, require=False)
        assert (server.remote, await server.receive()) == (own, first)


async def test_a_silent_client_needs_no_header_that_is_not_required(autojump_clock: trio.testing.MockClock) -> None:
    async with tcp_pair() as (_, server):
        own = server.remote
        started = trio.current_time()
        await accept_header(server, require=False)
        assert trio.current_time() - started == HEADER_TIMEOUT
        assert server.remote == own


@pytest.mark.parametrize(
    ("first", "end", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", False, "not_proxy_protocol"),
        (b"PROXY TCP4 nonsense\r\n", False, "malformed"),
        (HEADER[:-1], True, "cut_short"),
        (b"", True, "cut_short"),
        (HEADER[:-1], False, "timeout"),
    ],
)
async def test_refusals(first: bytes, end: bool, reason: str, autojump_clock: trio.testing.MockClock) -> None:
    async with tcp_pair() as (client, server):
        if first:
            await client.send(first)
        if end:
            await client.send_eof()
        with pytest.raises(ProxyProtocolError) as caught:
            await accept_header(server, require=True)
        assert caught.value.reason == reason
