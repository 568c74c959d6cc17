"""The newest TLS session with one endpoint, so that the next connection need not begin from nothing.

A session belongs to the context that made it: a rotated certificate or changed roots begin anew. What the session
remembers of the peer's certificate is checked again by whoever opens the connection.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.net.tls import TlsTransport


class Resumption:
    """One endpoint's. In TLS 1.3 tickets come after the handshake, so the session is taken as late as can be."""

    __slots__ = ("_context", "_newest", "_session")

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._session: ssl.SSLSession | None = None
        self._newest: TlsTransport | None = None

    def session(self, context: ssl.SSLContext) -> ssl.SSLSession | None:
        """What to offer in a new handshake; None begins a full one."""
        if context is not self._context:
            return None
        if self._newest is not None:
            self._take(self._newest)
        return self._session

    def established(self, tls: TlsTransport, context: ssl.SSLContext) -> None:
        """A handshake is done: this connection's session is the newest."""
        if context is not self._context:
            self.forget()
        self._context = context
        self._newest = tls
        tls.on_close = self._closed

    def forget(self) -> None:
        """A handshake failed: offer nothing of the past again."""
        self._context = self._session = self._newest = None

    def _closed(self, tls: TlsTransport) -> None:
        if tls is self._newest:
            self._take(tls)
            self._newest = None

    def _take(self, tls: TlsTransport) -> None:
        session = tls.session
        if session is not None and session.has_ticket:
            self._session = session
