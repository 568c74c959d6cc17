"""Listening sockets that outlive the worker that accepts from them.

The parent binds one socket for each worker at each address (SO_REUSEPORT: the kernel spreads connections over them)
and hands the worker's own to it. It keeps a copy: when the worker dies, connections that the kernel had queued for it
wait for its replacement, which gets the same socket. A worker that is not replaced soon loses its sockets, so that
the kernel gives its share to the others. A socket listens from when its worker asks for it, not before.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import partial
from typing import TypeAlias

import msgspec
import trio
from msgspec import Struct

from mesh.net.tcp import TcpListener, listen
from mesh.workers.borrowed import BorrowedListener

_WAIT = 10.0  # seconds for the parent's answer; it answers at once or is gone


class Bind(Struct, frozen=True, tag="bind"):
    """Have a socket for the listener `name`; port 0 is a free one, the same for all workers."""

    name: str
    address: str
    port: int


class Release(Struct, frozen=True, tag="release"):
    """The socket of that Bind is not needed any more."""

    name: str
    address: str
    port: int


class Bound(Struct, frozen=True, tag="bound"):
    """Here it is: the descriptor travels with this."""


class Refused(Struct, frozen=True, tag="refused"):
    """It cannot be had; `code` is the system's."""

    code: int


_FromWorker: TypeAlias = Bind | Release
_FromParent: TypeAlias = Bound | Refused
_from_worker: msgspec.json.Decoder[_FromWorker] = msgspec.json.Decoder(_FromWorker)
_from_parent: msgspec.json.Decoder[_FromParent] = msgspec.json.Decoder(_FromParent)
_Key: TypeAlias = tuple[str, int, str]


class _Place:
    """One address. `held` are the workers that use their socket; a socket of no holder waits for a replacement."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sockets: dict[int, socket.socket] = {}
        self.held: set[int] = set()


class Places:
    """The parent's sockets, by address and worker."""

    def __init__(self) -> None:
        self._places: dict[_Key, _Place] = {}
        self._leaving = False

    def bind(self, worker: int, wanted: Bind) -> socket.socket:
        """The worker's socket at that address, listening.

        Raises OSError: EADDRINUSE too where it has one already, ESHUTDOWN once they leave.
        """
        if self._leaving:
            raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
        key = _key(wanted)
        place = self._places.get(key)
        if place is None:
            if wanted.port:
                _check_free(wanted.address, wanted.port)
            place = _Place(wanted.port)
        elif worker in place.held:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        sock = place.sockets.get(worker)
        if sock is None:
            sock = place.sockets[worker] = listen(wanted.address, place.port, reuse_port=True).sock
            place.port = sock.getsockname()[1]
        place.held.add(worker)
        self._places[key] = place
        return sock

    def release(self, worker: int, wanted: Release) -> None:
        """The worker has closed its socket; an address that no worker uses is given up."""
        key = _key(wanted)
        place = self._places.get(key)
        if place is None:
            return
        place.held.discard(worker)
        if worker in place.sockets:
            place.sockets.pop(worker).close()
        if not place.held:
            self._close(place)
            del self._places[key]

    def orphan(self, worker: int) -> None:
        """The worker is dead: its sockets wait for its replacement."""
        for place in self._places.values():
            place.held.discard(worker)

    def drop_orphans(self, worker: int) -> int:
        """Close what the worker's replacement has not taken; returns how many sockets. Addresses stay known."""
        dropped = 0
        for place in self._places.values():
            if worker in place.sockets and worker not in place.held:
                place.sockets.pop(worker).close()
                dropped += 1
        return dropped

    def leave(self) -> None:
        """Workers drain: from now on a socket ends with the worker that closes it."""
        self._leaving = True
        for place in self._places.values():
            self._close(place)

    def _close(self, place: _Place) -> None:
        for sock in place.sockets.values():
            sock.close()
        place.sockets.clear()


def _key(wanted: Bind | Release) -> _Key:
    return wanted.address, wanted.port, "" if wanted.port else wanted.name


def _check_free(address: str, port: int) -> None:
    """Another program of this user that also shares its ports would otherwise share ours, unnoticed."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))


async def serve_places(sock: socket.socket, worker: int, places: Places) -> None:
    """Answer one worker until it is gone."""
    sock.setblocking(False)
    buffer = b""
    while True:
        await trio.lowlevel.wait_readable(sock)
        try:
            data = sock.recv(4096)
        except OSError:
            return
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            _serve(sock, _from_worker.decode(line), worker, places)


def _serve(sock: socket.socket, wanted: _FromWorker, worker: int, places: Places) -> None:
    if isinstance(wanted, Release):
        places.release(worker, wanted)
        return
    try:
        bound = places.bind(worker, wanted)
    except OSError as exc:
        answer, descriptors = _line(Refused(exc.errno or errno.EIO)), []
    else:
        answer, descriptors = _line(Bound()), [bound.fileno()]
    try:
        socket.send_fds(sock, [answer], descriptors)
    except OSError:
        return  # it died as it asked; its socket waits for the replacement


def _line(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"


class Borrower:
    """The worker's end: asks and waits for the answer, which takes no longer than a bind of its own would."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.settimeout(_WAIT)

    def bind(self, name: str, address: str, port: int) -> TcpListener:
        """A listening socket. Raises OSError as `listen` does, and when the parent is gone."""
        self._sock.sendall(_line(Bind(name, address, port)))
        answer, descriptors = b"", []
        while not answer.endswith(b"\n"):
            data, received, _, _ = socket.recv_fds(self._sock, 4096, 1)
            if not data:
                raise OSError(errno.EPIPE, "the parent process is gone")
            answer += data
            descriptors += received
        told = _from_parent.decode(answer)
        if isinstance(told, Refused):
            raise OSError(told.code, os.strerror(told.code))
        sock = socket.socket(fileno=descriptors[0])
        sock.setblocking(False)
        return BorrowedListener(sock, partial(self._release, Release(name, address, port)))

    def _release(self, done: Release) -> None:
        try:
            self._sock.sendall(_line(done))
        except OSError:
            return  # the parent is gone, and its copy with it
