"""The feed's network door: WebSocket over TLS, or in the clear on loopback where asked for.

A caller is authenticated before it has a session: by a certificate of our authority, or by the bootstrap token.
Anyone else gets 401 or a failed handshake and nothing more; each is counted, and logged with what to do.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from itertools import count
from typing import cast

import trio
from trio_websocket import WebSocketConnection, WebSocketRequest, wrap_server_stream

from mesh.identity.contexts import peer_spiffe_id
from mesh.net.websocket import WebSocketTransport
from pilot.ca.tokens import BootstrapToken
from pilot.push.session import Caller, Fleet, serve_session

FEED_PATH = "/feed"

_HANDSHAKE_WAIT = 10.0
_MAX_MESSAGE = 16 * 1024 * 1024  # an agent's hello lists its hashes: about 60 bytes for each resource
_MAX_HANDSHAKES = 200  # strangers at the door at one time; agents retry with backoff
_RECEIVE_BUFFER = 65536


class FeedServer:
    """Accepts agents. `context` gives the TLS context of the moment (it is swapped at rotation); None is plaintext."""

    def __init__(
        self,
        fleet: Fleet,
        token: BootstrapToken,
        context: Callable[[], ssl.SSLContext | None],
        *,
        max_handshakes: int = _MAX_HANDSHAKES,
    ) -> None:
        self._fleet = fleet
        self._token = token
        self._context = context
        self._ids = count(1)
        self._max_handshakes = max_handshakes
        self._strangers = 0

    async def serve(self, listener: trio.SocketListener) -> None:
        """Serve until cancelled."""
        await trio.serve_listeners(self._serve_connection, [listener])

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        # The boundary of one connection: nothing that happens in it may end the port.
        remote = _remote(stream)
        if self._strangers >= self._max_handshakes:
            self._refuse("busy", remote, f"{self._strangers} connections are in their handshake")
            await trio.aclose_forcefully(stream)
            return
        try:
            async with trio.open_nursery() as nursery:
                await self._serve_stream(stream, remote, nursery)
                nursery.cancel_scope.cancel()
        except Exception as exc:
            self._fleet.stats.event("internal_error")
            self._fleet.log.error("feed connection failed", remote=remote, error=repr(exc))
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve_stream(self, stream: trio.SocketStream, remote: str, nursery: trio.Nursery) -> None:
        self._strangers += 1
        try:
            with trio.move_on_after(_HANDSHAKE_WAIT) as wait:
                admitted = await self._admit(stream, remote, nursery)
        finally:
            self._strangers -= 1
        if wait.cancelled_caught:
            self._refuse("timeout", remote, f"no complete handshake within {_HANDSHAKE_WAIT:.0f} s")
        elif admitted is not None:
            socket, caller = admitted
            await serve_session(WebSocketTransport(socket), caller, self._fleet, f"session-{next(self._ids)}")

    async def _admit(
        self, stream: trio.SocketStream, remote: str, nursery: trio.Nursery
    ) -> tuple[WebSocketConnection, Caller] | None:
        context = self._context()
        secured: trio.SocketStream | trio.SSLStream[trio.SocketStream] = stream
        caller: Caller | None = None
        if context is not None:
            secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
            try:
                await secured.do_handshake()
            except trio.BrokenResourceError as exc:
                self._refuse("tls", remote, f"TLS handshake: {exc.__cause__ or exc}")
                return None
            identity = peer_spiffe_id(cast("ssl.SSLObject", secured).getpeercert())
            caller = Caller("certificate", remote, identity) if identity is not None else None
        request = await wrap_server_stream(
            nursery, secured, message_queue_size=1, max_message_size=_MAX_MESSAGE, receive_buffer_size=_RECEIVE_BUFFER
        )
        caller = caller or self._by_token(request, remote)
        if caller is None:
            self._refuse("token", remote, "neither a certificate of this mesh nor its bootstrap token")
            await request.reject(401)
            return None
        if request.path != FEED_PATH:
            self._refuse("path", remote, f"{request.path} is not served")
            await request.reject(404)
            return None
        return await request.accept(), caller

    def _by_token(self, request: WebSocketRequest, remote: str) -> Caller | None:
        offered = [value for name, value in request.headers if name.lower() == b"authorization"]
        if len(offered) == 1 and self._token.authorizes(offered[0].decode("latin-1")):
            return Caller("token", remote)
        return None

    def _refuse(self, label: str, remote: str, reason: str) -> None:
        self._fleet.stats.refused(label)
        self._fleet.log.warning("agent turned away", remote=remote, reason=reason, remedy=_REMEDIES[label])


_REMEDIES = {
    "busy": "the agents will retry; look for a client that connects in a loop",
    "timeout": "check that the client is an agent and speaks wss",
    "tls": "give the agent this pilot's trust bundle (root-cert.pem in the state folder)"
    " and a certificate of this mesh or none",
    "token": "give the agent the token file of this pilot's state folder with --token-file",
    "path": f"use the URL that the pilot prints; it ends in {FEED_PATH}",
}


def _remote(stream: trio.SocketStream) -> str:
    try:
        host, port, *_ = stream.socket.getpeername()
    except OSError:
        return "gone"
    return f"{host}:{port}"
