"""One worker process of an agent with several: gets its orders, its sockets and its operator's questions from the
parent (mesh/workers), and is an agent like any other. It ends, gracefully, when its parent is gone."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence

import msgspec
import trio
from msgspec import Struct

from mesh.errors import MeshError
from mesh.net.http import Handler, Response
from mesh.net.tcp import TcpListener
from mesh.telemetry import log
from mesh.workers.channel import Answer, Ask, Channel, Failed, Serving, frame, take_orders
from mesh.workers.sockets import Borrower

PROGRAM = (sys.executable, "-P", "-m", "mesh.ctl.worker")


class Orders(Struct, frozen=True):
    """What a worker is told first. `bootstrap` is an agent.bootstrap.Bootstrap, with the parent's admin address."""

    bootstrap: msgspec.Raw
    files: tuple[str, ...]
    log_level: str
    log_format: log.Encoding


class ParentsDoors:
    """The agent's doors (agent/doors.py), which the parent holds."""

    def __init__(self, admin: str, channel: Channel, borrower: Borrower) -> None:
        self.admin = admin
        self._channel = channel
        self._borrower = borrower

    def open(self) -> None:
        """The parent's port is open already."""

    def bind(self, name: str, address: str, port: int) -> TcpListener:
        return self._borrower.bind(name, address, port)

    async def serve_admin(self, handler: Handler) -> None:
        async with trio.open_nursery() as nursery:
            while (message := await self._channel.receive()) is not None:
                if isinstance(message, Ask):
                    nursery.start_soon(self._answer, message, handler)
        signal.raise_signal(signal.SIGTERM)  # the parent is dead: drain, as if it had said so

    async def _answer(self, ask: Ask, handler: Handler) -> None:
        try:
            response = await handler(ask.request)
        except Exception as exc:  # the boundary: a bug in one page must not end the worker
            response = Response(500, f"{type(exc).__name__}: {exc}\n".encode())
        try:
            await self._channel.send(Answer(ask.id, response))
        except trio.BrokenResourceError:
            return  # `serve_admin` hears of it


def main(argv: Sequence[str] | None = None) -> int:
    """Serve as the descriptors' other ends say: channel, sockets. 2 when it cannot start, which the parent is told."""
    descriptors = [int(word) for word in (sys.argv[1:] if argv is None else argv)]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # a child that outlived this process would seem to be it
    channel, sockets = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    with channel, sockets, channel.dup() as last_words:
        try:
            return _serve(msgspec.msgpack.decode(take_orders(channel), type=Orders), channel, sockets)
        except EOFError:
            return 0
        except MeshError as exc:
            last_words.setblocking(True)
            last_words.sendall(frame(Failed(str(exc))))
            return 2


def _serve(orders: Orders, channel: socket.socket, sockets: socket.socket) -> int:
    from agent.bootstrap import Bootstrap
    from mesh.ctl.groups import unwrapped

    bootstrap = msgspec.msgpack.decode(orders.bootstrap, type=Bootstrap)
    log.setup(level=orders.log_level, encoding=orders.log_format, fields={"worker": bootstrap.worker})
    return unwrapped(lambda: trio.run(_run, bootstrap, orders.files, channel, sockets))


async def _run(bootstrap: object, files: tuple[str, ...], channel: socket.socket, sockets: socket.socket) -> int:
    from agent.bootstrap import Bootstrap, Ready
    from mesh.ctl.agent import serve_with_pilot

    assert isinstance(bootstrap, Bootstrap)
    parent = Channel(channel)

    async def announce(ready: Ready) -> None:
        await parent.send(Serving(msgspec.to_builtins(ready)))

    admin = f"{bootstrap.admin_address}:{bootstrap.admin_port}"
    doors = ParentsDoors(admin, parent, Borrower(sockets))
    if files:
        from mesh.ctl.standalone import serve_standalone

        return await serve_standalone(bootstrap, files, doors, announce)
    return await serve_with_pilot(bootstrap, doors, announce)


if __name__ == "__main__":
    sys.exit(main())
