"""The network's way to the pilot: WebSocket over TLS, or in the clear on loopback. Who subscribes is in feed.py."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import trio
from msgspec import Struct
from trio_websocket import ConnectionRejected, WebSocketConnection, wrap_client_stream

from mesh.errors import MeshError
from mesh.feed.transport import Transport
from mesh.identity.contexts import ContextError, feed_client_context
from mesh.net.websocket import WebSocketTransport

_CONNECT_WAIT: Final = 10.0
_DOUBTFUL: Final = ("tls", "closed", "unauthorized", "refused")
_CLOSE_WAIT: Final = 0.25  # when cancelled, nothing reads the answer to our close
_MAX_MESSAGE: Final = 256 * 1024 * 1024  # a full push of a big mesh; the pilot is trusted
_RECEIVE_BUFFER: Final = 65536
_Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class Unreachable(MeshError):
    """No session came about. `label` is counted, `remedy` says what to do."""

    def __init__(self, label: str, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.label = label
        self.reason = reason
        self.remedy = remedy


class Certificate(Struct, frozen=True):
    """The agent's current certificate and key, PEM, and its end (seconds since the epoch)."""

    chain_pem: bytes
    key_pem: bytes
    not_after: float


class WebSocketWay:
    """How to reach the pilot at a wss:// URL (ws:// on loopback). `connect` reads the files anew each time.

    Shows the current certificate, unless it has expired or the last try with it failed, and the token where there
    is a file. Raises Unreachable for a URL that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        wall: Callable[[], float],
        token_file: Path | None = None,
        ca_file: Path | None = None,
        certificate: Callable[[], Certificate | None] = lambda: None,
    ) -> None:
        parts = urlsplit(url)
        self._url = url
        self._secure = parts.scheme == "wss"
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise Unreachable("url", f"{url!r} is no feed URL", "write wss://HOST:PORT/feed, as the pilot prints it")
        if not self._secure and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise Unreachable("url", f"{url} would send the token in the clear", "use the pilot's wss:// URL")
        self._host = parts.hostname
        self._port = parts.port or (15012 if self._secure else 15010)
        self._path = parts.path if parts.path not in ("", "/") else "/feed"
        self._wall = wall
        self._token_file = token_file
        self._ca_file = ca_file
        self._certificate = certificate
        self._distrusted: Certificate | None = None

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Transport]:
        """Open a session's transport. Raises Unreachable."""
        certificate = self._usable_certificate()
        token = self._token(needed=certificate is None)
        context = self._context(certificate) if self._secure else None
        failure: MeshError | None = None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    transport = await self._open(nursery, context, token)
                    try:
                        yield transport
                    finally:
                        await transport.close()
                except MeshError as exc:  # kept, not raised here: the nursery would wrap it in a group
                    failure = exc
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:  # the library raises a rejection in its own reading task
            rejected, rest = group.split(ConnectionRejected)
            if rest is not None or rejected is None:
                raise (rest or group) from None
            failure = self._rejected(rejected)
        if failure is not None:
            # A certificate that is not welcome (the pilot has a new authority) gives way to the token, in turns.
            doubtful = isinstance(failure, Unreachable) and failure.label in (
                "tls",
                "closed",
                "unauthorized",
                "refused",
            )
            self._distrusted = certificate if doubtful and self._token_file is not None else None
            raise failure

    def _usable_certificate(self) -> Certificate | None:
        certificate = self._certificate()
        if certificate is None or certificate.not_after <= self._wall() or certificate is self._distrusted:
            return None
        return certificate

    def _token(self, *, needed: bool) -> str:
        if self._token_file is None:
            if needed:
                raise Unreachable("token-file", "there is no bootstrap token", "start the agent with --token-file FILE")
            return ""
        try:
            return self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as exc:
            if not needed:
                return ""
            raise Unreachable(
                "token-file",
                f"the token file {self._token_file} cannot be read: {exc}",
                "copy it from the pilot's state folder and make it readable for this user",
            ) from exc

    def _context(self, certificate: Certificate | None) -> ssl.SSLContext:
        if self._ca_file is None:
            raise Unreachable("ca-file", "there is no trust bundle", "start the agent with --ca FILE")
        try:
            roots = self._ca_file.read_bytes()
            if certificate is None:
                return feed_client_context(roots)
            return feed_client_context(roots, certificate.chain_pem, certificate.key_pem)
        except (OSError, ContextError) as exc:
            raise Unreachable(
                "ca-file",
                f"the trust bundle {self._ca_file} cannot be used: {exc}",
                "copy root-cert.pem from the pilot's state folder",
            ) from exc

    async def _open(self, nursery: trio.Nursery, context: ssl.SSLContext | None, token: str) -> _OwningTransport:
        with trio.move_on_after(_CONNECT_WAIT):
            stream = _Watched(await self._open_stream(context))
            try:
                return _OwningTransport(await self._upgrade(nursery, stream, token), stream)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
        reason = f"{self._url} did not answer within {_CONNECT_WAIT:.0f} s"
        raise Unreachable("timeout", reason, "check that it is a pilot")

    async def _upgrade(self, nursery: trio.Nursery, stream: _Watched, token: str) -> WebSocketConnection:
        headers = [(b"Authorization", b"Bearer " + token.encode("ascii"))] if token else []
        with trio.CancelScope() as scope:
            stream.on_end = scope.cancel  # the library would wait for the answer for ever
            socket = await wrap_client_stream(
                nursery,
                stream,  # type: ignore[arg-type]  # any stream will do
                f"{self._host}:{self._port}",
                self._path,
                extra_headers=headers,
                message_queue_size=1,
                max_message_size=_MAX_MESSAGE,
                receive_buffer_size=_RECEIVE_BUFFER,
            )
            stream.on_end = _nothing
            return socket
        # A server that refuses our certificate says so after a TLS 1.3 client has finished its handshake.
        reason = f"{self._url} closed the connection before the session began"
        raise Unreachable("closed", reason, "see the pilot's log for the reason")

    async def _open_stream(
        self, context: ssl.SSLContext | None
    ) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
        try:
            stream = await trio.open_tcp_stream(self._host, self._port)
        except OSError as exc:
            remedy = "start the pilot, or check --pilot"
            raise Unreachable("unreachable", f"no pilot answers at {self._url} ({exc})", remedy) from exc
        if context is None:
            return stream
        secured = trio.SSLStream(stream, context, server_hostname=self._host, https_compatible=True)
        try:
            await secured.do_handshake()
        except trio.BrokenResourceError as exc:
            await trio.aclose_forcefully(stream)
            remedy = "copy root-cert.pem from the state folder of the pilot at this URL"
            reason = f"TLS with {self._url} failed: {exc.__cause__ or 'the pilot closed the connection'}"
            raise Unreachable("tls", reason, remedy) from exc
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured

    def _rejected(self, group: BaseExceptionGroup[ConnectionRejected]) -> Unreachable:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        status = first.status_code if isinstance(first, ConnectionRejected) else 0
        if status == 401:
            remedy = "copy the token file from the pilot's state folder"
            return Unreachable("unauthorized", f"the pilot at {self._url} does not accept this token", remedy)
        return Unreachable("rejected", f"{self._url} answered {status}", "use the URL that the pilot prints")


def _nothing() -> None:
    return


class _Watched(trio.abc.Stream):
    """A stream that tells when its peer has ended it."""

    def __init__(self, inner: _Stream) -> None:
        self._inner = inner
        self.on_end: Callable[[], None] = _nothing

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._inner.receive_some(max_bytes)
        except trio.BrokenResourceError:
            self.on_end()
            raise
        if not data:
            self.on_end()
        return data

    async def aclose(self) -> None:
        await self._inner.aclose()


class _OwningTransport(WebSocketTransport):
    """Closes the stream too: the library leaves it open when the peer closed first."""

    def __init__(self, socket: WebSocketConnection, stream: _Watched) -> None:
        super().__init__(socket)
        self._stream = stream

    async def close(self) -> None:
        with trio.move_on_after(_CLOSE_WAIT, shield=True):
            await super().close()
        await trio.aclose_forcefully(self._stream)
