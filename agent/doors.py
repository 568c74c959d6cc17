"""How an agent comes to its listening sockets and is asked by its operator: by itself, or through a parent's hands.

An agent that is alone in its process binds what it needs (`OwnDoors`). One of several workers gets its sockets from
the process that supervises them and answers questions that arrive there; what it needs is the same.
"""

from __future__ import annotations

import errno
from typing import Protocol

import trio

from mesh.errors import MeshError
from mesh.net.http import Handler, serve_http
from mesh.net.tcp import TcpListener, listen


class Doors(Protocol):
    """What an agent asks of the process it lives in."""

    admin: str
    """Address of the admin port, host:port, once open."""

    def open(self) -> None:
        """Make the admin port reachable. Raises MeshError."""

    def bind(self, name: str, address: str, port: int) -> TcpListener:
        """A listening socket for the listener `name`. Raises OSError."""

    async def serve_admin(self, handler: Handler) -> None:
        """Have the operator's questions answered until cancelled."""


class OwnDoors:
    """The agent's own sockets; `address` and `port` are those of its admin port, 0 for a free one."""

    def __init__(self, address: str, port: int) -> None:
        self.admin = ""
        self._address = address
        self._port = port
        self._bound: TcpListener | None = None

    def open(self) -> None:
        address, port = self._address, self._port
        try:
            self._bound = listen(address, port)
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                raise MeshError(
                    f"admin port {port} on {address} is in use; choose another with --admin HOST:0"
                ) from exc
            raise MeshError(f"cannot bind the admin port {address}:{port}: {exc.strerror}") from exc
        self.admin = f"{self._bound.address}:{self._bound.port}"

    def bind(self, name: str, address: str, port: int) -> TcpListener:
        return listen(address, port)

    async def serve_admin(self, handler: Handler) -> None:
        assert self._bound is not None
        await serve_http(trio.SocketListener(trio.socket.from_stdlib_socket(self._bound.sock)), handler)
