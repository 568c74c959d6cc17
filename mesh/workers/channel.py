"""What a parent and its worker say to each other over a pair of Unix sockets: four bytes of length, then msgpack.

The parent sends the worker's orders and what an operator asks; the worker says that it serves, or why it cannot, and
answers. Either end sees the other's death as the end of the stream.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Any, TypeAlias

import msgspec
import trio
from msgspec import Struct

from mesh.net.http import Request, Response

_LENGTH = 4
_CHUNK = 65536


class Serving(Struct, frozen=True, tag="serving"):
    """The worker serves; `ready` is what it would print."""

    ready: dict[str, Any]


class Failed(Struct, frozen=True, tag="failed"):
    """The worker cannot start; `reason` is for a person."""

    reason: str


class Ask(Struct, frozen=True, tag="ask"):
    """A question of the operator's."""

    id: int
    request: Request


class Answer(Struct, frozen=True, tag="answer"):
    """The worker's answer to the question `id`."""

    id: int
    response: Response


Message: TypeAlias = Serving | Failed | Ask | Answer

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def frame(value: object) -> bytes:
    """One value as it goes over the stream."""
    data = _encoder.encode(value)
    return len(data).to_bytes(_LENGTH, "big") + data


class Frames:
    """Cuts a byte stream into the payloads of its frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are complete now."""
        self._buffer += data
        whole = []
        while len(self._buffer) >= _LENGTH:
            end = _LENGTH + int.from_bytes(self._buffer[:_LENGTH], "big")
            if len(self._buffer) < end:
                break
            whole.append(bytes(self._buffer[_LENGTH:end]))
            del self._buffer[:end]
        return whole


def take_orders(sock: socket.socket) -> bytes:
    """The first payload, read before anything runs. Raises EOFError when the parent is gone."""
    return _take(sock, int.from_bytes(_take(sock, _LENGTH), "big"))


def _take(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError("the parent is gone")
        data += more
    return data


class Channel:
    """One end, while it lives. Raises trio.BrokenResourceError from `send` when the other end is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._sending = trio.StrictFIFOLock()
        self._frames = Frames()
        self._received: deque[bytes] = deque()

    async def send(self, message: object) -> None:
        """Say one thing, a Message or the worker's orders; callers take turns."""
        async with self._sending:
            await self._stream.send_all(frame(message))

    async def receive(self) -> Message | None:
        """The next thing that the other end says; None when it is gone. For one caller at a time."""
        while not self._received:
            try:
                data = await self._stream.receive_some(_CHUNK)
            except trio.BrokenResourceError:
                return None  # reset: as gone as closed
            if not data:
                return None
            self._received.extend(self._frames.feed(data))
        return _decoder.decode(self._received.popleft())

    def close(self) -> None:
        """Close this end."""
        self._stream.socket.close()
