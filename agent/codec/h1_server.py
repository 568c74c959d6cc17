"""The server side of an HTTP/1 connection: requests in, responses out.

One exchange at a time; a pipelined request waits in the buffer until `start_next`. The state of the response is
kept apart from the state of the request, because a response may begin, and end, before its request does.
"""

from __future__ import annotations

from typing import Final

from agent.codec.gate import FORBIDDEN_TRAILERS, FieldReader, parse_request, split_request_line
from agent.codec.h1_encode import encode_chunk, encode_head, encode_last_chunk, status_line
from agent.codec.h1_reader import DONE, HEAD, MessageReader
from agent.codec.headers import Headers
from agent.codec.message import CHUNKED, Limits, ProtocolError, RequestHead, ResponseHead

_WAITING, _NO_BODY, _BY_LENGTH, _CHUNKS, _UNTIL_CLOSE, _SENT = range(6)

_DROP: Final = frozenset((b"transfer-encoding", b"connection", b"upgrade"))
_DROP_LENGTH: Final = _DROP | {b"content-length"}
# 426 tells what to upgrade to (RFC 9110 15.5.22), 101 what was agreed on.
_DROP_NOT_UPGRADE: Final = frozenset((b"transfer-encoding", b"connection"))


class ServerConnection(MessageReader[RequestHead]):
    """Server side of one connection; `read` is the engine.

    Cycle: feed bytes with `receive_data`, drain `next_event` until it gives None. Write one response with `send_head`,
    `send_data`, `send_end`; then `start_next()` returns True when the connection may carry another request, whose
    events (already received ones included) follow. Events of a pipelined request are not given out before it. Every
    method raises ProtocolError on the peer's faults; after one, only `send_head`, `send_data` and `send_end` of a final
    response are allowed and the connection must close.

    `must_close` is True once this connection cannot carry another exchange (Connection: close, HTTP/1.0, error, EOF).
    `counts` tells by reason what was dropped or tolerated (`underscore_field_dropped`, …).
    """

    __slots__ = ("_left_to_send", "_read", "_request", "_sending", "_tunnel", "must_close")

    _line_rule = split_request_line
    _max_empty_lines = 4

    def __init__(self, limits: Limits, read: FieldReader) -> None:
        super().__init__(limits)
        self._read = read
        self._request: RequestHead | None = None
        self._sending = _WAITING
        self._left_to_send = 0
        self._tunnel = False
        self.must_close = False

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the client; b"" is the end of its stream."""
        super().receive_data(data)
        if self._eof and not self._buffer:
            self.must_close = True

    def _open(self, head: bytes) -> RequestHead:
        request = parse_request(head, self._limits, self._read, self.counts)
        self._request = request
        if not request.keep_alive or (self._eof and not self._buffer):
            self.must_close = True
        self._start_body(request.content_length)
        return request

    def _blame(self, error: ProtocolError) -> ProtocolError:
        self.must_close = True
        return error

    def _at_end(self) -> None:
        self.must_close = True

    def send_head(self, head: ResponseHead) -> bytes:
        """Encode an informational (1xx, not 101) or final head.

        The body is framed by `head.content_length`; None takes the field `content-length`, else chunked. An HTTP/1.0
        client gets a body of unknown length until the connection closes. HEAD, 204, 304 and CONNECT 2xx get none.
        `transfer-encoding` and `connection` of the head are replaced by what the codec decides; `head.keep_alive`
        False adds `connection: close`. A 101 is a final head and needs a request with `upgrade`.
        """
        status = head.status
        request = self._request
        if status < 200 and status != 101:
            return self._send_interim(head)
        if self._sending != _WAITING:
            raise ProtocolError(500, "response_already_begun")
        line = status_line(status, head.reason)
        if request is not None:
            if status == 101:
                return self._accept_upgrade(line, head, request)
            if request.method == b"CONNECT":
                if status < 300:
                    return self._accept_connect(line, head)
                # What follows a refused CONNECT may be meant for the tunnel; it must not be read as a request.
                self.must_close = True
        elif status == 101:
            raise ProtocolError(500, "upgrade_not_asked")
        modern = request is None or request.version == b"1.1"
        bodyless = status == 204 or status == 304 or (request is not None and request.method == b"HEAD")
        drop, extra = self._frame_bodyless(head) if bodyless else self._frame(head, modern)
        if not head.keep_alive or self._sending == _UNTIL_CLOSE:
            self.must_close = True
        if self.must_close:
            extra += b"connection: close\r\n"
        elif not modern:
            extra += b"connection: keep-alive\r\n"
        if status == 426:
            drop = drop - {b"upgrade"}
        return encode_head(line, head.headers, drop, extra)

    def _frame(self, head: ResponseHead, modern: bool) -> tuple[frozenset[bytes], bytes]:
        length = head.content_length
        field = head.headers.index.get(b"content-length")
        if length is None:
            length = int(field) if field is not None and field.isdigit() else CHUNKED
        if length >= 0:
            self._sending = _BY_LENGTH
            self._left_to_send = length
            text = b"%d" % length
            if field == text:
                return _DROP, b""
            return _DROP_LENGTH, b"content-length: " + text + b"\r\n"
        if modern:
            self._sending = _CHUNKS
            return _DROP_LENGTH, b"transfer-encoding: chunked\r\n"
        self._sending = _UNTIL_CLOSE
        return _DROP_LENGTH, b""

    def _frame_bodyless(self, head: ResponseHead) -> tuple[frozenset[bytes], bytes]:
        self._sending = _NO_BODY
        field = head.headers.index.get(b"content-length")
        if head.status == 204 or (field is not None and not field.isdigit()):
            return _DROP_LENGTH, b""
        if field is None and head.content_length is not None and head.content_length > 0:
            return _DROP, b"content-length: %d\r\n" % head.content_length
        return _DROP, b""

    def _send_interim(self, head: ResponseHead) -> bytes:
        if self._sending != _WAITING:
            raise ProtocolError(500, "response_already_begun")
        if self._request is not None and self._request.version != b"1.1":
            # RFC 9110 15.2: never to an HTTP/1.0 client.
            self.counts["interim_dropped"] = self.counts.get("interim_dropped", 0) + 1
            return b""
        return encode_head(status_line(head.status, head.reason), head.headers, _DROP_LENGTH, b"")

    def _accept_upgrade(self, line: bytes, head: ResponseHead, request: RequestHead) -> bytes:
        if request.upgrade is None:
            raise ProtocolError(500, "upgrade_not_asked")
        extra = b"connection: upgrade\r\n"
        if b"upgrade" not in head.headers:
            extra += b"upgrade: " + request.upgrade + b"\r\n"
        out = encode_head(line, head.headers, _DROP_NOT_UPGRADE | {b"content-length"}, extra)
        self._become_tunnel()
        return out

    def _accept_connect(self, line: bytes, head: ResponseHead) -> bytes:
        out = encode_head(line, head.headers, _DROP_LENGTH, b"")
        self._become_tunnel()
        return out

    def _become_tunnel(self) -> None:
        self._tunnel = True
        self._state = DONE
        self._sending = _NO_BODY
        self.must_close = True

    def send_data(self, data: bytes) -> bytes:
        """Encode body data; b"" where the response has no body. Raises ProtocolError(500) beyond its length."""
        sending = self._sending
        if sending == _CHUNKS:
            return encode_chunk(data)
        if sending == _BY_LENGTH:
            self._left_to_send -= len(data)
            if self._left_to_send < 0:
                self.must_close = True
                raise ProtocolError(500, "body_too_long")
            return data
        if sending == _NO_BODY:
            return b""
        if sending == _UNTIL_CLOSE:
            return data
        raise ProtocolError(500, "no_response_begun")

    def send_end(self, trailers: Headers | None = None) -> bytes:
        """Encode the end of the response. Raises ProtocolError(500) when data is missing."""
        sending = self._sending
        if sending in (_WAITING, _SENT):
            raise ProtocolError(500, "no_response_begun")
        self._sending = _SENT
        if sending == _CHUNKS:
            return encode_last_chunk(trailers, FORBIDDEN_TRAILERS)
        if sending == _BY_LENGTH and self._left_to_send:
            self.must_close = True
            raise ProtocolError(500, "body_too_short")
        if trailers is not None:
            self.counts["trailers_dropped"] = self.counts.get("trailers_dropped", 0) + 1
        return b""

    def start_next(self) -> bool:
        """Make ready for the next request; False, for good, when this connection cannot carry one."""
        if self._sending != _SENT or self._state != DONE or self._tunnel:
            self.must_close = True
        if self.must_close or (self._eof and not self._buffer):
            self.must_close = True
            return False
        self._request = None
        self._sending = _WAITING
        self._state = HEAD
        return True

    def take_unread(self) -> bytes:
        """The bytes received behind the head of an accepted CONNECT or upgrade; b"" without one."""
        if not self._tunnel:
            return b""
        data, self._buffer = self._buffer, b""
        return data
