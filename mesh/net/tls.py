"""TLS over a Transport, through ssl.MemoryBIO: the semantics of trio.SSLStream in https_compatible mode.

No locks and no renegotiation; one reader and one writer at a time. A peer that closes without close_notify
reads as end of stream: HTTP's own framing tells whether the message was whole.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final, cast

import trio

from mesh.net.batch import WriteBatch
from mesh.net.tcp import Transport

_RECORD: Final = 16384  # no read gives more than one record holds (RFC 8446 5.1); room for more would be made in vain


class TlsTransport(Transport):
    """A TLS session on top of `inner`, which it owns. Call `handshake` first, under a deadline."""

    __slots__ = ("_ended", "_in", "_more", "_object", "_out", "_pushed", "inner", "on_close")

    def __init__(
        self,
        inner: Transport,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.inner = inner
        self.local = inner.local
        self.remote = inner.remote
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._in, self._out, server_side=server_side, server_hostname=server_name, session=session
        )
        self.on_close: Callable[[TlsTransport], None] | None = None
        """Told once, when the session can be looked at for the last time."""
        self._pushed = b""
        self._more = False
        self._ended = False  # the peer's close_notify was read; then reading on gives b"" again, so _more stays

    async def handshake(self) -> None:
        """Complete the handshake. Raises ssl.SSLError, trio.BrokenResourceError on a peer that hangs up."""
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self.inner.receive()
                if not data:
                    raise trio.BrokenResourceError("peer closed during the TLS handshake") from None
                self._in.write(data)
            except ssl.SSLError:
                await self._flush_alert()
                raise
            else:
                await self._flush()
                self._more = self._in.pending > 0
                return

    @property
    def alpn(self) -> str | None:
        """Protocol agreed by ALPN."""
        return self._object.selected_alpn_protocol()

    @property
    def session(self) -> ssl.SSLSession | None:
        """What a later connection of the same context can resume; in TLS 1.3 it comes after the handshake."""
        return self._object.session

    @property
    def resumed(self) -> bool:
        """Whether the handshake took up an earlier session."""
        return bool(self._object.session_reused)

    @property
    def version(self) -> str:
        """`TLSv1.3`."""
        return self._object.version() or ""

    def peer_certificate_der(self) -> bytes:
        """The peer certificate in DER; empty without one."""
        return self._object.getpeercert(binary_form=True) or b""

    def peer_certificate(self) -> dict[str, Any]:
        """The verified peer certificate as ssl.SSLSocket.getpeercert() gives it; empty without one."""
        return cast("dict[str, Any]", self._object.getpeercert() or {})

    async def receive(self) -> bytes:
        if self._pushed:
            data, self._pushed = self._pushed, b""
            return data
        while True:
            if self._more:
                try:
                    data = self._object.read(_RECORD)
                except ssl.SSLWantReadError:
                    self._more = False
                except ssl.SSLZeroReturnError:
                    self._ended = True
                    return b""
                except ssl.SSLError as exc:
                    raise trio.BrokenResourceError(f"TLS: {exc.reason or exc}") from exc
                else:
                    self._more = self._in.pending > 0  # a read takes a whole record
                    if not data:
                        self._ended = self._more = True
                    return data
                if self._out.pending:
                    await self._flush()  # key updates and tickets are answered while reading
            data = await self.inner.receive()
            if not data:
                return b""
            self._in.write(data)
            self._more = True

    async def send(self, data: bytes) -> None:
        self._encrypt(data)
        await self.inner.send(self._out.read())

    def _encrypt(self, data: bytes) -> None:
        if not data:
            return
        try:
            written = self._object.write(data)
            if written < len(data):
                view = memoryview(data)[written:]
                while view:
                    view = view[self._object.write(view) :]
        except ssl.SSLError as exc:
            raise trio.BrokenResourceError(f"TLS: {exc.reason or exc}") from exc

    def send_nowait(self, data: bytes) -> bool:
        self._encrypt(data)
        return self.inner.send_nowait(self._out.read())

    async def drain(self) -> None:
        await self.inner.drain()

    async def send_eof(self) -> None:
        self._save_readable()
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # the peer's close_notify has not come yet; ours is in the buffer
        await self._flush()
        await self.inner.send_eof()

    def batch_writes(self, batch: WriteBatch) -> None:
        self.inner.batch_writes(batch)

    def unread(self, data: bytes) -> None:
        self._pushed = data + self._pushed

    def close(self) -> None:
        if self.on_close is not None:
            told, self.on_close = self.on_close, None
            told(self)
        self.inner.close()

    def reset(self) -> None:
        self.inner.reset()

    def peer_gone(self) -> bool:
        # unread bytes may be the close_notify itself, so only what is decrypted counts as left to read
        if self._more and not self._pushed:
            self._save_readable()
        return not self._pushed and (self._ended or self.inner.peer_finished())

    def quiet(self) -> bool:
        if self._more and not self._pushed:
            self._save_readable()
        return not self._pushed and not self._ended and self.inner.quiet()

    def peer_finished(self) -> bool:
        return self._ended or self.inner.peer_finished()

    def _save_readable(self) -> None:
        """Take what can be read already: the shutdown of OpenSSL throws it away."""
        saved = [self._pushed] if self._pushed else []
        while self._more and not self._ended:
            try:
                saved.append(self._object.read(_RECORD))
                self._ended = not saved[-1]
            except ssl.SSLZeroReturnError:
                self._ended = True
            except ssl.SSLError:
                self._more = False  # nothing more yet, or a fault that the next read tells again
        self._pushed = b"".join(saved)

    async def _flush(self) -> None:
        if self._out.pending:
            await self.inner.send(self._out.read())

    async def _flush_alert(self) -> None:
        try:
            await self._flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the alert is a courtesy to a peer that is still there
