"""The two directions of an HTTP/2 stream as a Transport: what a tunnel over HTTP/2 is relayed by."""

from __future__ import annotations

from typing import Protocol

import trio

from agent.codec.message import End
from agent.exchange.faults import ProxyFault
from mesh.net.batch import WriteBatch
from mesh.net.tcp import Transport


class Ends(Protocol):
    """A stream of either end, once it carries a tunnel."""

    fault: ProxyFault | None

    def next_event(self) -> bytes | End | None: ...
    async def fill(self) -> None: ...
    async def send_data(self, data: bytes) -> None: ...
    async def send_end(self) -> None: ...
    def reset(self) -> None: ...


class StreamTransport(Transport):
    """`under` is the connection that the stream is part of. `close` resets what is still open of the stream."""

    def __init__(self, stream: Ends, under: Transport) -> None:
        self.local = under.local
        self.remote = under.remote
        self._stream = stream
        self._pushed = b""
        self._ended = False
        self._closed = False

    async def receive(self) -> bytes:
        if self._pushed:
            data, self._pushed = self._pushed, b""
            return data
        try:
            while not self._ended:
                event = self._stream.next_event()
                if event is None:
                    await self._stream.fill()
                elif isinstance(event, End):
                    self._ended = True
                else:
                    return event
        except ProxyFault as fault:
            raise trio.BrokenResourceError(fault.details) from fault
        return b""

    async def send(self, data: bytes) -> None:
        try:
            await self._stream.send_data(data)
        except ProxyFault as fault:
            raise trio.BrokenResourceError(fault.details) from fault

    async def send_eof(self) -> None:
        try:
            await self._stream.send_end()
        except ProxyFault as fault:
            raise trio.BrokenResourceError(fault.details) from fault

    def send_nowait(self, data: bytes) -> bool:
        raise NotImplementedError("a stream has a window: use send")

    async def drain(self) -> None:
        pass

    def batch_writes(self, batch: WriteBatch) -> None:
        pass  # streams of a connection leave together anyway

    def unread(self, data: bytes) -> None:
        self._pushed = data + self._pushed

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._stream.reset()

    def reset(self) -> None:
        self.close()

    def peer_gone(self) -> bool:
        return self._stream.fault is not None

    def quiet(self) -> bool:
        return not self._ended and not self._pushed and self._stream.fault is None

    def peer_finished(self) -> bool:
        return self._ended or self._stream.fault is not None
