"""The chunked transfer coding, read strictly (RFC 9112 7.1).

Shared by both engines, because neither library shows the bytes that matter here: line ends, extensions, padding of
sizes. The tests hold it against both libraries. Extensions are read past and never passed on.
"""

from __future__ import annotations

import re
from typing import Final

from agent.codec.gate import CRLF, check_bytes, read_trailers
from agent.codec.headers import Headers
from agent.codec.message import Limits, ProtocolError

# RFC 9112 7.1.1 without its "bad whitespace", which h11 and llhttp refuse too.
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;%b(?:=(?:%b|%b))?)*+)" % (_TOKEN, _TOKEN, _QUOTED))
_BAD: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_MAX_LINE: Final = 4096
# As Node's fix for CVE-2024-22019: extensions are free for the sender and cost the reader.
_MAX_EXTENSIONS: Final = 16 * 1024
_MAX_CHUNK: Final = 1 << 60

_SIZE, _DATA, _DATA_END, _TRAILERS, _DONE = range(5)


class ChunkedReader:
    """Decodes one chunked body; `done` turns True behind the last empty line, then `trailers` holds."""

    __slots__ = ("_counts", "_extensions", "_left", "_limits", "_state", "done", "error", "trailers")

    def __init__(self, limits: Limits, counts: dict[str, int]) -> None:
        self._limits = limits
        self._counts = counts
        self._state = _SIZE
        self._left = 0
        self._extensions = 0
        self.error: ProtocolError | None = None
        self.done = False
        self.trailers: Headers | None = None

    def read(self, buffer: bytes) -> tuple[bytes, bytes]:
        """Body data in `buffer`, and the bytes not used up: the start of a line, or all behind the end.

        Data in front of a fault is given out first; `error` then holds what to raise next.
        """
        pieces: list[bytes] = []
        try:
            position = self._advance(buffer, pieces)
        except ProtocolError as error:
            self.error = error
            if not pieces:
                raise
            return b"".join(pieces), b""
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), buffer[position:]

    def _advance(self, buffer: bytes, pieces: list[bytes]) -> int:
        position, size = 0, len(buffer)
        while position < size:
            state = self._state
            if state == _DATA:
                piece = buffer[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                pieces.append(piece)
                if self._left:
                    break
                self._state = _DATA_END
            elif state == _DATA_END:
                end = buffer[position : position + 2]
                if end != CRLF:
                    if end == b"\r":
                        break
                    raise ProtocolError(400, "bad_chunk_end")
                position += 2
                self._state = _SIZE
            elif state == _SIZE:
                end_of_line = buffer.find(CRLF, position, position + _MAX_LINE + 2)
                if end_of_line < 0:
                    self._check_partial_line(buffer[position : position + _MAX_LINE + 1])
                    break
                self._open_chunk(buffer[position:end_of_line])
                position = end_of_line + 2
            elif state == _TRAILERS:
                taken = self._read_trailers(buffer, position)
                if not taken:
                    break
                position += taken
            else:
                break
        return position

    def _open_chunk(self, line: bytes) -> None:
        found = _LINE.fullmatch(line)
        if found is None:
            raise ProtocolError(400, "bad_chunk_line")
        digits, extension = found.groups()
        if extension:
            self._extensions += len(extension)
            if self._extensions > _MAX_EXTENSIONS:
                raise ProtocolError(400, "chunk_extensions_too_large")
        self._left = int(digits, 16)
        if self._left > _MAX_CHUNK:
            raise ProtocolError(400, "chunk_too_large")
        self._state = _DATA if self._left else _TRAILERS

    def _check_partial_line(self, start: bytes) -> None:
        if _BAD.search(start[:-1] if start[-1:] == b"\r" else start):
            raise ProtocolError(400, "bad_chunk_line")
        if len(start) > _MAX_LINE:
            raise ProtocolError(400, "chunk_line_too_long")

    def _read_trailers(self, buffer: bytes, position: int) -> int:
        if buffer.startswith(CRLF, position):
            taken = 2
        else:
            limit = self._limits.max_head_bytes
            end = buffer.find(b"\r\n\r\n", position, position + limit)
            if end < 0:
                check_bytes(buffer[position : position + limit])
                if len(buffer) - position >= limit:
                    raise ProtocolError(431, "trailers_too_large")
                return 0
            taken = end + 4 - position
            self.trailers = read_trailers(buffer[position : end + 4], self._limits, self._counts)
        self._state = _DONE
        self.done = True
        return taken
