"""The listening socket that a worker has from its parent. A module of its own, because heirs of compiled classes have
to be compiled, and the messages of `sockets` cannot be.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from mesh.net.tcp import TcpListener


class BorrowedListener(TcpListener):
    """A listener whose parent is told, by `on_close`, when it is closed first."""

    __slots__ = ("_on_close",)

    def __init__(self, sock: socket.socket, on_close: Callable[[], None]) -> None:
        super().__init__(sock)
        self._on_close = on_close

    def close(self) -> None:
        """Stop listening and tell the parent, once."""
        if not self._closed:
            super().close()
            self._on_close()
