"""The receiving half of an HTTP/1 connection: bytes in, heads, body data and ends out.

Cuts the stream into heads and bodies, holds what belongs to later messages, and judges unfinished heads as they
grow, so that a peer is refused as early as possible and for the same reason however its bytes arrive. Which events
a head leads to is decided by the two roles, h1_server.py and h1_client.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final, Generic, TypeVar

from agent.codec.chunked import ChunkedReader
from agent.codec.gate import CRLF, check_bytes, check_size
from agent.codec.headers import Headers
from agent.codec.message import CHUNKED, END, End, Limits, ProtocolError

Head = TypeVar("Head")

HEAD: Final = 0
LENGTH: Final = 1
CHUNKS: Final = 2
UNTIL_EOF: Final = 3
ENDING: Final = 4
DONE: Final = 5
FAILED: Final = 6


class MessageReader(Generic[Head]):
    """Reads messages of one direction, one at a time.

    `counts` tells by reason what was dropped or tolerated on this connection.
    """

    __slots__ = (
        "_buffer",
        "_checked",
        "_chunks",
        "_empty_lines",
        "_eof",
        "_error",
        "_left",
        "_limits",
        "_line_judged",
        "_scanned",
        "_state",
        "_trailers",
        "counts",
    )

    _line_rule: ClassVar[Callable[[bytes], object]]
    # RFC 9112 2.2 wants a server to read past an empty line or so in front of a request line.
    _max_empty_lines: ClassVar[int] = 0

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = b""
        self._state = HEAD
        self._eof = False
        self._scanned = 0
        self._checked = 0
        self._line_judged = False
        self._empty_lines = 0
        self._left = 0
        self._chunks: ChunkedReader | None = None
        self._trailers: Headers | None = None
        self._error: ProtocolError | None = None
        self.counts: dict[str, int] = {}

    @property
    def buffered(self) -> int:
        """Bytes received and not yet given out; stop reading from the peer while this is large."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; b"" is the end of its stream."""
        if not data:
            self._eof = True
        elif self._buffer:
            self._buffer += data
        else:
            self._buffer = bytes(data)

    def next_event(self) -> Head | bytes | End | None:
        """The next event, or None when more bytes are needed. Raises ProtocolError, and the same one ever after."""
        state = self._state
        try:
            if state == HEAD:
                return self._next_head()
            if state == ENDING:
                self._state = DONE
                self._message_done()
                return END if self._trailers is None else End(self._trailers)
            if state == DONE:
                return None
            return self._next_data()
        except ProtocolError as error:
            self._state = FAILED
            self._error = self._blame(error)
            raise self._error from None

    def _blame(self, error: ProtocolError) -> ProtocolError:
        return error

    def _open(self, head: bytes) -> Head:
        """Parse `head` and call `_start_body`."""
        raise NotImplementedError

    def _message_done(self) -> None:
        """The message that `_open` began is complete."""

    def _at_end(self) -> None:
        """The stream ended in front of a head."""

    def _next_head(self) -> Head | None:
        buffer = self._buffer
        if not buffer and not self._eof:
            return None
        if buffer[:1] == b"\r" and self._max_empty_lines:
            buffer = self._skip_empty_lines()
        end = buffer.find(b"\r\n\r\n", self._scanned) + 4
        if end < 4 or end > self._limits.max_head_bytes:
            self._judge_partial(buffer, end)
            return None
        if end == len(buffer):
            head = buffer
            self._buffer = b""
        else:
            head = buffer[:end]
            self._buffer = buffer[end:]
        event = self._open(head)
        self._scanned = self._checked = self._empty_lines = 0
        self._line_judged = False
        return event

    def _skip_empty_lines(self) -> bytes:
        buffer = self._buffer
        while buffer.startswith(CRLF):
            self._empty_lines += 1
            if self._empty_lines > self._max_empty_lines:
                raise ProtocolError(400, "bad_request_line")
            buffer = buffer[2:]
        self._buffer = buffer
        return buffer

    def _judge_partial(self, buffer: bytes, end: int) -> None:
        limits = self._limits
        size = len(buffer)
        line_rule = type(self)._line_rule
        if end >= 4 or size > limits.max_head_bytes:
            check_size(buffer, limits, line_rule)
        checked = self._checked
        if not self._line_judged:
            line_end = buffer.find(CRLF, checked)
            if line_end >= 0:
                check_bytes(buffer[checked : line_end + 2])
                line_rule(buffer[:line_end])
                self._line_judged = True
                checked = line_end + 2
        check_bytes(buffer[checked:])
        # A CR at the end waits for its LF.
        self._checked = size - 1 if buffer[-1:] == b"\r" else size
        self._scanned = max(0, size - 3)
        if self._eof:
            if buffer:
                raise ProtocolError(400, "eof_in_head")
            self._at_end()

    def _start_body(self, length: int | None) -> None:
        self._trailers = None
        if length is None:
            self._state = UNTIL_EOF
        elif length == 0:
            self._state = ENDING
        elif length == CHUNKED:
            self._state = CHUNKS
            self._chunks = ChunkedReader(self._limits, self.counts)
        else:
            self._state = LENGTH
            self._left = length

    def _next_data(self) -> bytes | End | Head | None:
        data = b""
        if self._state == FAILED:
            assert self._error is not None
            raise self._error
        if self._state == CHUNKS:
            data = self._next_chunks()
        elif self._state == LENGTH:
            data = self._buffer
            if len(data) > self._left:
                self._buffer = data[self._left :]
                data = data[: self._left]
            else:
                self._buffer = b""
            self._left -= len(data)
            if not self._left:
                self._state = ENDING
        else:
            data, self._buffer = self._buffer, b""
            if not data and self._eof:
                self._state = ENDING
        if data:
            return data
        if self._state == ENDING:
            return self.next_event()
        if self._eof:
            raise ProtocolError(400, "eof_in_body")
        return None

    def _next_chunks(self) -> bytes:
        chunks = self._chunks
        assert chunks is not None
        if chunks.error is not None:
            raise chunks.error
        data, self._buffer = chunks.read(self._buffer)
        if chunks.done:
            self._trailers = chunks.trailers
            self._chunks = None
            self._state = ENDING
        return data
