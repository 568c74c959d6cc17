"""The client side of an HTTP/1 connection: one request out, its response in.

Every fault of the server is a ProtocolError with status 502. A connection is `reusable` only when nothing at all is
doubtful: both messages complete, both sides persistent, not one byte behind the response.
"""

from __future__ import annotations

from typing import Final

from agent.codec.gate import (
    FORBIDDEN_TRAILERS,
    TEXT,
    FieldReader,
    is_target,
    is_token,
    parse_response,
    split_status_line,
)
from agent.codec.h1_encode import encode_chunk, encode_head, encode_last_chunk
from agent.codec.h1_reader import DONE, HEAD, MessageReader
from agent.codec.headers import Headers
from agent.codec.message import CHUNKED, Limits, ProtocolError, RequestHead, ResponseHead

_WAITING, _BY_LENGTH, _CHUNKS, _SENT = range(4)

_DROP: Final = frozenset((b"transfer-encoding", b"connection", b"upgrade"))
_DROP_LENGTH: Final = _DROP | {b"content-length"}
# RFC 9110 8.6: these methods say that they have no content; others stay silent.
_SAY_EMPTY: Final = frozenset((b"POST", b"PUT", b"PATCH"))
# Far above what 100, 102 and 103 need; without a bound a server could keep a request alive for ever.
_MAX_INTERIM: Final = 32


class ClientConnection(MessageReader[ResponseHead]):
    """Client side of one connection: one request at a time out, its response in; `read` is the engine.

    `next_event` gives informational ResponseHeads (100..199 but 101), then the final head, data, End.
    `reusable` is True when request and response are complete and both sides keep the connection alive.
    `counts` tells by reason what was dropped or tolerated (`junk_after_response`, …).
    """

    __slots__ = ("_interim", "_left_to_send", "_method", "_persistent", "_read", "_sending", "_upgrade", "reusable")

    _line_rule = split_status_line

    def __init__(self, limits: Limits, read: FieldReader) -> None:
        super().__init__(limits)
        self._read = read
        self._method = b""
        self._upgrade: bytes | None = None
        self._sending = _WAITING
        self._left_to_send = 0
        self._interim = 0
        self._persistent = True
        self.reusable = False

    def send_head(self, head: RequestHead) -> bytes:
        """Encode request line and fields; `head.path` (CONNECT: `head.authority`) is the target."""
        if self._sending != _WAITING or self._method:
            raise ProtocolError(500, "request_already_begun")
        method = head.method
        target = head.authority if method == b"CONNECT" else head.path
        if not is_token(method) or not is_target(target):
            raise ProtocolError(500, "bad_field_to_send")
        index = head.headers.index
        length = head.content_length
        drop, extra = _DROP, b""
        sending = _BY_LENGTH
        if length == CHUNKED:
            sending = _CHUNKS
            drop, extra = _DROP_LENGTH, b"transfer-encoding: chunked\r\n"
        elif length or method in _SAY_EMPTY or b"content-length" in index:
            text = b"%d" % length
            if index.get(b"content-length") != text:
                drop, extra = _DROP_LENGTH, b"content-length: " + text + b"\r\n"
        upgrade = _checked(head.upgrade) if head.upgrade is not None else None
        if upgrade is not None:
            drop = drop - {b"upgrade"}
            extra += b"connection: upgrade\r\n"
            if b"upgrade" not in index:
                extra += b"upgrade: " + upgrade + b"\r\n"
        elif not head.keep_alive:
            extra += b"connection: close\r\n"
        if b"host" not in index:
            # An HTTP/1.0 client may leave it out, HTTP/1.1 may not (RFC 9112 3.2).
            extra += b"host: " + _checked(head.authority) + b"\r\n"
        out = encode_head(method + b" " + target + b" HTTP/1.1", head.headers, drop, extra)
        self._method = method
        self._upgrade = upgrade
        self._sending = sending
        self._left_to_send = length
        self._persistent = head.keep_alive
        return out

    def send_data(self, data: bytes) -> bytes:
        """Encode body data. Raises ProtocolError(500) beyond the length that the head announced."""
        if self._sending == _CHUNKS:
            return encode_chunk(data)
        if self._sending != _BY_LENGTH:
            raise ProtocolError(500, "no_request_begun")
        self._left_to_send -= len(data)
        if self._left_to_send < 0:
            self._persistent = False
            raise ProtocolError(500, "body_too_long")
        return data

    def send_end(self, trailers: Headers | None = None) -> bytes:
        """Encode the end of the request. Raises ProtocolError(500) when data is missing."""
        sending = self._sending
        if sending != _CHUNKS and sending != _BY_LENGTH:
            raise ProtocolError(500, "no_request_begun")
        if sending == _BY_LENGTH and self._left_to_send:
            self._persistent = False
            raise ProtocolError(500, "body_too_short")
        self._sending = _SENT
        self._judge_reuse()
        if sending == _CHUNKS:
            return encode_last_chunk(trailers, FORBIDDEN_TRAILERS)
        if trailers is not None:
            self._count("trailers_dropped")
        return b""

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the server; b"" is the end of its stream."""
        super().receive_data(data)
        if self._state == DONE:
            if self._buffer and self._persistent:
                self._count("junk_after_response")
            self._persistent = self.reusable = False

    def _next_head(self) -> ResponseHead | None:
        if not self._method:
            if self._buffer:
                raise ProtocolError(502, "unsolicited_response")
            return None
        return super()._next_head()

    def _open(self, head: bytes) -> ResponseHead:
        response = parse_response(head, self._limits, self._read, self.counts, self._method)
        status = response.status
        if status < 200 and status != 101:
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise ProtocolError(502, "too_many_interim")
            return response
        if status == 101:
            self._check_upgrade(response)
        if status == 101 or (self._method == b"CONNECT" and status < 300):
            # The connection is a tunnel from here on: what follows is nobody's junk.
            self._persistent = False
        elif not response.keep_alive:
            self._persistent = False
        self._start_body(response.content_length)
        return response

    def _check_upgrade(self, response: ResponseHead) -> None:
        token = response.headers.index.get(b"upgrade", b"")
        if self._upgrade is None or token.lower() != self._upgrade:
            raise ProtocolError(502, "unasked_upgrade")

    def _blame(self, error: ProtocolError) -> ProtocolError:
        self._persistent = self.reusable = False
        return error if error.status == 502 else ProtocolError(502, error.reason)

    def _at_end(self) -> None:
        raise ProtocolError(502, "eof_before_response")

    def _message_done(self) -> None:
        if self._eof:
            self._persistent = False
        elif self._buffer and self._persistent:
            self._count("junk_after_response")
            self._persistent = False
        self._judge_reuse()

    def _judge_reuse(self) -> None:
        self.reusable = self._persistent and self._sending == _SENT and self._state == DONE

    def _count(self, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1

    def start_next(self) -> bool:
        """Make ready for the next request; False, and no change, unless `reusable`."""
        if not self.reusable:
            return False
        self._method = b""
        self._upgrade = None
        self._sending = _WAITING
        self._state = HEAD
        self._interim = 0
        self.reusable = False
        return True

    def take_unread(self) -> bytes:
        """The bytes received and not given out as events: a tunnel's first ones, or junk behind a response."""
        data, self._buffer = self._buffer, b""
        return data


def _checked(value: bytes) -> bytes:
    if value.translate(None, TEXT):
        raise ProtocolError(500, "bad_field_to_send")
    return value
