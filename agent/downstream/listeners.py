"""All listeners of an agent: bind what a snapshot names, reconfigure what stays, close what is gone.

A socket that cannot be bound is one rejected resource; the others go on.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import TypeAlias

import trio

from agent.dataplane import Dataplane
from agent.downstream.listener import Listener
from mesh import config
from mesh.feed.message import Rejected
from mesh.net.tcp import TcpListener, listen

Bind: TypeAlias = Callable[[str, str, int], TcpListener]
"""Listener name, address and port to a listening socket. Raises OSError."""


def bind_own(name: str, address: str, port: int) -> TcpListener:
    """A socket of this process alone."""
    return listen(address, port)


class Listeners:
    """`prebound` holds sockets that exist before the first snapshot (inbound ports, announced in Hello), by name.

    `accepting` is where accept loops live, `connections` where connections do: they outlive their listener.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        *,
        accepting: trio.Nursery,
        connections: trio.Nursery,
        gateway_address: str,
        port_map: dict[int, int],
        prebound: dict[str, TcpListener],
        bind: Bind = bind_own,
    ) -> None:
        self.bound: dict[str, Listener] = {}
        self._dataplane = dataplane
        self._accepting = accepting
        self._connections = connections
        self._gateway_address = gateway_address
        self._port_map = port_map
        self._prebound = prebound
        self._bind_socket = bind

    def apply(self, wanted: Iterable[config.Listener]) -> list[Rejected]:
        """Make `bound` what the snapshot wants; returns the listeners that could not be bound, with the remedy."""
        rejected = []
        wanted = list(wanted)
        for name in self.bound.keys() - {settings.name for settings in wanted}:
            self.bound.pop(name).close()  # first: a new listener may take over the address
        for settings in wanted:
            listener = self.bound.get(settings.name)
            if listener is not None and _same_socket(listener.config, settings):
                if listener.config is not settings:
                    listener.reconfigure(settings)
                continue
            try:
                sock = self._bind(settings)
            except OSError as exc:
                rejected.append(Rejected("listener", settings.name, self._why(settings, exc)))
                continue
            if listener is not None:
                listener.close()
            listener = self.bound[settings.name] = Listener(settings, sock, self._dataplane)
            self._accepting.start_soon(listener.serve, self._connections, name=f"listener {settings.name}")
        return rejected

    def close(self) -> None:
        """Stop accepting everywhere."""
        for listener in self.bound.values():
            listener.close()

    def addresses(self) -> dict[str, str]:
        """Name of each listener to the address that it is bound to."""
        return {name: listener.sock.name for name, listener in self.bound.items()}

    def _bind(self, settings: config.Listener) -> TcpListener:
        ready = self._prebound.pop(settings.name, None)
        if ready is not None:
            return ready
        address, port = self._place(settings)
        return self._bind_socket(settings.name, address, port)

    def _place(self, settings: config.Listener) -> tuple[str, int]:
        if settings.direction == "gateway":
            return self._gateway_address, self._port_map.get(settings.port, settings.port)
        return settings.address, settings.port

    def _why(self, settings: config.Listener, exc: OSError) -> str:
        address, port = self._place(settings)
        if exc.errno == errno.EADDRINUSE:
            return f"port {port} on {address} is in use; stop who has it, or map it with --port-map {settings.port}=0"
        if exc.errno == errno.EACCES:
            return f"port {port} needs privileges; map it to a higher one with --port-map {settings.port}=8080"
        return f"cannot bind {address}:{port}: {exc.strerror}"


def _same_socket(old: config.Listener, new: config.Listener) -> bool:
    return (old.address, old.port, old.direction) == (new.address, new.port, new.direction)
