"""What the fast engine has to send: frames that are written at once, and bodies that wait for the peer's windows.

Streams take turns, a frame each. A stream is both sides of one exchange; of the peer's, only what came is noted here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from agent.codec.h2_frames import DATA, END_STREAM, HEADER_SIZE, MAX_FRAME, block, header
from agent.codec.h2_settings import LARGEST_WINDOW
from agent.codec.hpack_encoder import Encoder
from agent.codec.message import CHUNKED

INITIAL_WINDOW: Final = 65535
"""Of a connection, and of streams until the peers' SETTINGS say otherwise (RFC 9113 6.9.2)."""
_SMALL: Final = 4 * 1024  # a body that ends within so much leaves at once, before or after what waits
_MUCH: Final = 64 * 1024  # if so much was not given out, the peer does not read, and small bodies wait too
_OPEN: Final = 0
_END: Final = 1
_TRAILERS: Final = 2


class Stream:
    """One stream that both sides have not ended.

    `headed` once the final head of the response came or went, `tunnel` where nothing but data may come. Of the peer:
    `interim` heads that came before, `left` of the body that it announced (or CHUNKED), `ended` at its end,
    `receivable` bytes that it may still send, `owed` those passed on that it was not yet told of.

    Of ours: `sending` between head and end, `sent` once the end was given out, `window` that the peer leaves us, `size`
    bytes of body that wait for it and `written` ones that wait for nothing but to be given out.
    """

    __slots__ = (
        "ended",
        "ending",
        "headed",
        "interim",
        "left",
        "method",
        "number",
        "offset",
        "owed",
        "pieces",
        "receivable",
        "sending",
        "sent",
        "size",
        "trailers",
        "tunnel",
        "turn",
        "window",
        "written",
    )

    def __init__(self, number: int, method: bytes, window: int, receivable: int) -> None:
        self.number = number
        self.method = method
        self.tunnel = False
        self.headed = False
        self.interim = 0
        self.left = CHUNKED
        self.ended = False
        self.receivable = receivable
        self.owed = 0
        self.sending = False
        self.sent = False
        self.window = window
        self.size = 0
        self.written = 0
        self.pieces: list[bytes] = []
        self.offset = 0
        """How much of the first piece has left."""
        self.ending = _OPEN
        self.trailers: Sequence[Any] = ()
        self.turn = False
        """Whether it stands among those that take turns."""

    def take(self, room: int) -> bytes:
        """The next bytes of the body, `room` at most."""
        pieces = self.pieces
        if self.offset:
            data = pieces[0][self.offset : self.offset + room]
            self.offset += len(data)
            if self.offset == len(pieces[0]):
                del pieces[0]
                self.offset = 0
        elif len(pieces[0]) > room:
            data = pieces[0][:room]
            self.offset = room
        elif self.size <= room:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
        else:
            count, size = 1, len(pieces[0])
            while size + len(pieces[count]) <= room:
                size += len(pieces[count])
                count += 1
            data = b"".join(pieces[:count])
            del pieces[:count]
        self.size -= len(data)
        return data


class Sending:
    """What one connection sends.

    `initial_window` is what the peer gives each stream, `backlog` how many bytes were written and not given out, and
    `ended` are the streams whose end is among them.
    """

    __slots__ = ("_encoder", "_out", "_ready", "_stalled", "_window", "backlog", "ended", "initial_window")

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._out: list[bytes] = []
        self._window = INITIAL_WINDOW
        self.initial_window = INITIAL_WINDOW
        self.backlog = 0
        self._ready: deque[Stream] = deque()
        """Streams that have something to send, in the order of their turns."""
        self._stalled: list[Stream] = []
        """Those that the connection's window alone holds back."""
        self.ended: list[Stream] = []

    # Windows

    def open_window(self, size: int) -> bool:
        """The connection's window opens; False: beyond what a window may be."""
        self._window += size
        if self._stalled and self._window > 0:
            self._ready.extend(self._stalled)
            self._stalled.clear()
        return self._window <= LARGEST_WINDOW

    def open_stream_window(self, stream: Stream, size: int) -> bool:
        """The stream's window opens; False: beyond what a window may be."""
        stream.window += size
        if stream.size and not stream.turn and stream.window > 0:
            self._line_up(stream)
        return stream.window <= LARGEST_WINDOW

    def set_initial_window(self, size: int, streams: Iterable[Stream]) -> bool:
        """The peer gives this to streams from now on, and what it is more (or less) to those that are open."""
        more = size - self.initial_window
        self.initial_window = size
        good = True
        for stream in streams:
            if not self.open_stream_window(stream, more):
                good = False
        return good

    def set_table_size(self, size: int) -> None:
        """The peer's header compression may remember so many bytes."""
        self._encoder.resize(size)

    # What is sent

    def write(self, frame: bytes) -> None:
        """A frame that nothing holds back."""
        self._out.append(frame)
        self.backlog += len(frame)

    def write_head(self, stream: Stream, fields: Sequence[Any], *, end: bool) -> None:
        """A header block; `end`: the last frame of our side. Raises ProtocolError, as the encoder does."""
        self.write(block(stream.number, self._encoder.encode(fields), END_STREAM if end else 0))
        if end:
            stream.sending = False
            self.ended.append(stream)

    def write_body(self, stream: Stream, data: bytes, *, end: bool) -> None:
        """A piece of body, and perhaps the end of our side."""
        size = len(data)
        if end:
            if size <= _SMALL and not stream.size and self._lets(stream, size):
                stream.written = size
                self._write_data(stream, data, end=True)
                return
            stream.ending = _END
            stream.sending = False
        if size:
            stream.pieces.append(data)
            stream.size += size
            if not stream.turn:
                self._line_up(stream)

    def _lets(self, stream: Stream, size: int) -> bool:
        return not size or (size <= stream.window and size <= self._window and self.backlog <= _MUCH)

    def write_end(self, stream: Stream, trailers: Sequence[Any]) -> None:
        """The end of our side, behind what is queued of it."""
        stream.sending = False
        stream.ending = _TRAILERS if trailers else _END
        stream.trailers = trailers
        if not stream.size:
            self._write_end(stream)

    def drop(self, stream: Stream) -> None:
        """Nothing more is sent of it."""
        stream.sending = False
        stream.size = 0
        stream.pieces.clear()
        if stream.turn:
            stream.turn = False
            if stream in self._stalled:
                self._stalled.remove(stream)
            else:
                self._ready.remove(stream)

    def stop(self) -> None:
        """No body is sent any more."""
        self._ready.clear()
        self._stalled.clear()

    def pull(self, limit: int) -> bytes:
        """All that nothing holds back, and about `limit` bytes of bodies; b"": nothing."""
        if self._ready:
            self._take_turns(limit)
        out = self._out
        if not out:
            return b""
        self._out = []
        self.backlog = 0
        return out[0] if len(out) == 1 else b"".join(out)

    def _take_turns(self, limit: int) -> None:
        ready = self._ready
        while ready and limit > 0:
            stream = ready.popleft()
            if self._window <= 0:
                self._stalled.append(stream)
                continue
            stream.turn = False
            room = min(min(stream.window, self._window), MAX_FRAME)
            if room <= 0:
                continue
            data = stream.take(room)
            limit -= len(data) + HEADER_SIZE
            if stream.size:
                self._write_data(stream, data, end=False)
                self._line_up(stream)
            elif stream.ending == _END:
                self._write_data(stream, data, end=True)
            else:
                self._write_data(stream, data, end=False)
                if stream.ending == _TRAILERS:
                    self._write_end(stream)

    def _line_up(self, stream: Stream) -> None:
        stream.turn = True
        self._ready.append(stream)

    def _write_data(self, stream: Stream, data: bytes, *, end: bool) -> None:
        size = len(data)
        self._window -= size
        stream.window -= size
        self._out.append(header(DATA, END_STREAM if end else 0, stream.number, size))
        self._out.append(data)
        self.backlog += HEADER_SIZE + size
        if end:
            stream.sending = False
            self.ended.append(stream)

    def _write_end(self, stream: Stream) -> None:
        if stream.ending == _TRAILERS:
            self.write_head(stream, stream.trailers, end=True)
        else:
            self._write_data(stream, b"", end=True)
