"""mesh/net/websocket.py over a real WebSocket on loopback."""

from __future__ import annotations

import pytest
import trio
from trio_websocket import serve_websocket, wrap_client_stream

from mesh.feed.transport import FeedClosed
from mesh.net.websocket import WebSocketTransport


async def with_peer(server, client) -> None:
    """Run `client` with one end and `server` with the other, each a WebSocketTransport."""
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:

            async def handle(request) -> None:
                await server(WebSocketTransport(await request.accept()))

            listening = await nursery.start(serve_websocket, handle, "127.0.0.1", 0, None)
            stream = await trio.open_tcp_stream("127.0.0.1", listening.port)
            socket = await wrap_client_stream(nursery, stream, "127.0.0.1", "/")
            await client(WebSocketTransport(socket))
            await socket.aclose()
            await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()


async def test_messages_and_pings_go_both_ways():
    async def echo(transport):
        await transport.send(b"seen " + await transport.receive())

    async def ask(transport):
        await transport.ping()
        await transport.send(b"hello")
        assert await transport.receive() == b"seen hello"

    await with_peer(echo, ask)


async def test_a_text_message_is_its_bytes():
    async def speak(transport):
        await transport._socket.send_message("grüß")

    async def listen(transport):
        assert await transport.receive() == "grüß".encode()

    await with_peer(speak, listen)


async def test_a_peer_that_closes_on_purpose_ends_every_call_cleanly():
    async def leave(transport):
        await transport.close()

    async def stay(transport):
        with pytest.raises(FeedClosed) as received:
            await transport.receive()
        assert received.value.clean
        with pytest.raises(FeedClosed):
            await transport.send(b"late")
        with pytest.raises(FeedClosed):
            await transport.ping()

    await with_peer(leave, stay)
