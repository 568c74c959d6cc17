"""What the reference engine has yet to send: bodies and their ends, a frame of each stream in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from agent.codec.h2_heads import Field

_FRAME_HEADER: Final = 9


class Sender(Protocol):
    """What is asked of h2's connection."""

    max_outbound_frame_size: int

    def local_flow_control_window(self, stream_id: int) -> int:
        """Bytes that the peer takes now."""

    def send_data(self, stream_id: int, data: bytes, *, end_stream: bool = False) -> None:
        """A DATA frame."""

    def send_headers(self, stream_id: int, headers: list[Field], *, end_stream: bool = False) -> None:
        """A header block."""

    def end_stream(self, stream_id: int) -> None:
        """An empty DATA frame that ends the stream."""


class _Queue:
    """One stream's: pieces of body (`size` bytes), and what ends it (True: END_STREAM, a list: trailers)."""

    __slots__ = ("ending", "pieces", "size")

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.size = 0
        self.ending: bool | list[Field] = False


class SendQueues:
    """Those of a connection; a stream has one from its head to its end. `ended` is called when the end was sent."""

    def __init__(self, sender: Sender, ended: Callable[[int], None]) -> None:
        self._sender = sender
        self._ended = ended
        self._queues: dict[int, _Queue] = {}
        self._ready: deque[int] = deque()
        """Streams with something to send, in the order of their turns."""

    def open(self, number: int) -> None:
        """The head was sent."""
        self._queues[number] = _Queue()

    def drop(self, number: int) -> None:
        """Nothing more is sent to it, and what is queued is lost."""
        self._queues.pop(number, None)

    def queued(self, number: int) -> int:
        """Bytes of body."""
        queue = self._queues.get(number)
        return queue.size if queue is not None else 0

    def add(self, number: int, data: bytes, ending: bool | list[Field]) -> None:
        """Queue a piece of body and what ends the stream; nothing happens before its head and after its end."""
        queue = self._queues.get(number)
        if queue is not None and not queue.ending:
            if data:
                queue.pieces.append(data)
                queue.size += len(data)
            queue.ending = ending
            self.wake(number)

    def wake(self, number: int) -> None:
        """A window has opened: of one stream, or (0) of all."""
        for each in (number,) if number else tuple(self._queues):
            queue = self._queues.get(each)
            if queue is not None and (queue.pieces or queue.ending) and each not in self._ready:
                self._ready.append(each)

    def send(self, limit: int) -> None:
        """A frame for each stream in turn, as far as windows and `limit` go."""
        for _ in range(len(self._ready) + limit // 1024):
            if not self._ready or limit <= 0:
                return
            number = self._ready.popleft()
            queue = self._queues.get(number)
            if queue is None:
                continue
            sent = self._send_frame(number, queue)
            limit -= sent
            if sent:
                self.wake(number)

    def _send_frame(self, number: int, queue: _Queue) -> int:
        """Bytes sent; 0: the window is full."""
        sender = self._sender
        data = b""
        if queue.pieces:
            room = min(sender.local_flow_control_window(number), sender.max_outbound_frame_size)
            if room <= 0:
                return 0
            data = queue.pieces.popleft()
            if len(data) > room:
                queue.pieces.appendleft(data[room:])
                data = data[:room]
            queue.size -= len(data)
            last = queue.ending is True and not queue.pieces
            sender.send_data(number, data, end_stream=last)
            if not last:
                return len(data) + _FRAME_HEADER
        elif isinstance(queue.ending, list):
            sender.send_headers(number, queue.ending, end_stream=True)
        else:
            sender.end_stream(number)
        self.drop(number)
        self._ended(number)
        return len(data) + _FRAME_HEADER
