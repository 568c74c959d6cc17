"""The fast HTTP/2 engine, our own: what comes is cut into frames, and each does to its stream what RFC 9113 says.

Beside it: the gate counts what floods, hpack_decoder.py reads blocks, h2_heads.py judges the heads that they make,
h2_streams.py and h2_sending.py do the rest. Written for the compiled build, which makes it fast (decision 017).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.codec import h2_frames as frames
from agent.codec.h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADER_SIZE,
    HEADERS,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    STREAM,
    WINDOW_UPDATE,
)
from agent.codec.h2_heads import Known, read_request, read_response, read_trailers
from agent.codec.h2_sending import Stream
from agent.codec.h2_settings import (
    EXTENDED_CONNECT,
    HEADER_TABLE_SIZE,
    INITIAL_STREAM_WINDOW,
    MAX_STREAMS,
    read_settings,
    refusal,
)
from agent.codec.h2_streams import NO_LIMIT, Streams
from agent.codec.hpack_decoder import Decoder, Fields
from agent.codec.hpack_table import CompressionError, HeadTooLarge
from agent.codec.http2 import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    DataReceived,
    Event,
    GoAwayReceived,
    HeadReceived,
    Http2Limits,
    PongReceived,
    SettingsReceived,
    StreamReset,
    TrailersReceived,
)
from agent.codec.message import CHUNKED, ProtocolError

_MAX_INTERIM: Final = 32
_PRIORITY_SIZE: Final = 5
_PING_SIZE: Final = 8
_GOAWAY_SIZE: Final = 8
_SETTING_SIZE: Final = 6
_UNREAD: Final = 1024 * 1024  # bytes of answers that a client leaves unread before it may ask for no more


class FastConnection(Streams):
    """The engine `fast`."""

    __slots__ = (
        "_block",
        "_block_ends",
        "_block_stream",
        "_decoder",
        "_judged",
        "_known",
        "_part",
        "_settings_came",
    )

    def __init__(self, limits: Http2Limits, clock: Callable[[], float], *, server: bool) -> None:
        super().__init__(limits, clock, server=server)
        self._part = b""
        """The frame that has not come whole; `_judged` if the gate has seen its header."""
        self._judged = False
        # beyond this the connection ends; a head that is merely too large costs its request only
        self._decoder = Decoder(4 * limits.max_head_bytes + 64 * 1024)
        self._known: Known = {}
        self._block = b""
        self._block_stream = 0
        """The stream whose header block has not come whole; 0: none."""
        self._block_ends = False
        self._settings_came = False

    def receive_data(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        if self._closed:
            return events
        if self._part:
            data = self._part + data
        gate = self._gate
        at, size = 0, len(data)
        if gate.greeting:
            at = gate.greet(data)
            if at < 0:
                self._fail("bad_preface", PROTOCOL_ERROR)
                return events
        while size - at >= HEADER_SIZE:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            kind, flags = data[at + 3], data[at + 4]
            number = (data[at + 5] << 24 | data[at + 6] << 16 | data[at + 7] << 8 | data[at + 8]) & STREAM
            start = at + HEADER_SIZE
            padding = 0
            if kind == DATA and flags & PADDED and length:
                if size == start:
                    break  # the next byte says how much of it is padding
                padding = data[start] + 1
            if not self._judged:
                reason = gate.frame(kind, flags, number, length, padding)
                if reason:
                    self._fail(reason, gate.code)
                    return events
            if size - start < length:
                self._judged = True
                break
            self._judged = False
            at = start + length
            if self._block_stream:
                if kind == CONTINUATION and number == self._block_stream:
                    self._continue(data[start:at], flags, events)
                else:
                    self._fail("protocol_error", PROTOCOL_ERROR)
            elif kind == DATA:
                self._data(number, flags, data, start, at, padding, events)
            elif kind == HEADERS:
                self._headers(number, flags, data, start, at, events)
            elif kind == WINDOW_UPDATE:
                self._window_update(number, data[start:at], events)
            else:
                self._rarer(kind, number, flags, data[start:at], events)
            if self.failed:
                return events
        self._part = data[at:] if at < size else b""
        return events

    # Data

    def _data(
        self, number: int, flags: int, data: bytes, start: int, end: int, padding: int, events: list[Event]
    ) -> None:
        size = end - start
        self._receivable -= size
        if self._receivable < 0:
            self._fail("protocol_error", FLOW_CONTROL_ERROR)
            return
        if flags & PADDED and (padding > size or not size):
            self._fail("protocol_error", PROTOCOL_ERROR)
            return
        stream = self._streams.get(number)
        if stream is None:
            self._give_back(size)
            self._is_late(number)
            return
        stream.receivable -= size
        last = flags & END_STREAM != 0
        if stream.receivable < 0:
            self._refuse_data(stream, size, FLOW_CONTROL_ERROR, "malformed_message", events)
        elif stream.ended:
            self._refuse_data(stream, size, STREAM_CLOSED, "malformed_message", events)
        elif number > self._begun:
            self._fail("protocol_error", PROTOCOL_ERROR)
        elif not self._server and not stream.headed:
            self._refuse_data(stream, size, PROTOCOL_ERROR, "malformed_message", events)
        else:
            body = data[start + 1 : end + 1 - padding] if padding else data[start:end]
            if stream.left != CHUNKED:
                stream.left -= len(body)
                if stream.left < 0 or (last and stream.left):
                    self._refuse_data(stream, size, PROTOCOL_ERROR, "content_length_mismatch", events)
                    return
            if size or last:
                events.append(DataReceived(number, body, size, last))
            if last:
                self._peer_ended(stream)

    def _refuse_data(self, stream: Stream, size: int, code: int, reason: str, events: list[Event]) -> None:
        self._give_back(size)
        self._break(stream, code, reason, events)

    def _peer_ended(self, stream: Stream) -> None:
        stream.ended = True
        if stream.sent:
            self._close(stream)

    def _is_idle(self, number: int) -> bool:
        return number > self._begun or not number & 1

    def _is_late(self, number: int) -> None:
        """Data or a head came for a stream that is not there: late, or a mistake."""
        if self._is_idle(number):
            self._fail("protocol_error", PROTOCOL_ERROR)
        elif not self._gate.forgives(number):
            self._fail("protocol_error", STREAM_CLOSED)

    # Heads

    def _headers(self, number: int, flags: int, data: bytes, start: int, end: int, events: list[Event]) -> None:
        if flags & (PADDED | PRIORITIZED):
            padding = 0
            if flags & PADDED and start < end:
                padding = data[start]
                start += 1
            if flags & PRIORITIZED:
                start += _PRIORITY_SIZE
            end -= padding
            if start > end:
                self._fail("protocol_error", PROTOCOL_ERROR if padding else FRAME_SIZE_ERROR)
                return
        if not number & 1 or (number > self._begun and not self._server):
            self._fail("protocol_error", PROTOCOL_ERROR)
        elif flags & END_HEADERS:
            self._head(number, data[start:end], flags & END_STREAM != 0, events)
        else:
            self._block = data[start:end]
            self._block_stream = number
            self._block_ends = flags & END_STREAM != 0

    def _continue(self, fragment: bytes, flags: int, events: list[Event]) -> None:
        self._block += fragment
        if flags & END_HEADERS:
            block, number = self._block, self._block_stream
            self._block, self._block_stream = b"", 0
            self._head(number, block, self._block_ends, events)

    def _head(self, number: int, block: bytes, last: bool, events: list[Event]) -> None:
        try:
            fields = self._decoder.decode(block)
        except CompressionError:
            self._fail("protocol_error", COMPRESSION_ERROR)
            return
        except HeadTooLarge:
            self._fail("head_flood", ENHANCE_YOUR_CALM)
            return
        stream = self._streams.get(number)
        if stream is None:
            if number > self._begun:
                self._begun = number
                self._request(number, fields, last, events)
            else:
                self._is_late(number)
        elif stream.ended:
            self._break(stream, STREAM_CLOSED, "malformed_message", events)
        elif self._server or stream.headed:
            self._trailers(stream, fields, last, events)
        else:
            self._response(stream, fields, last, events)

    def _request(self, number: int, fields: Fields, last: bool, events: list[Event]) -> None:
        reason = ""
        if self._refusing:
            reason = "stream_after_goaway"
        elif len(self._streams) >= self._limits.max_concurrent_streams:
            reason = "too_many_streams"
        elif self._sending.backlog > _UNREAD:
            reason = "answers_unread"
        if reason:
            self._count(reason)
            self._write_reset(number, REFUSED_STREAM)
            self._charge(by_head=False)
            return
        self._highest = number
        try:
            head = read_request(fields, self._limits, self.counts, self._known, end=last)
        except ProtocolError as error:
            self._refuse(number, error.status, error.reason)
            return
        stream = Stream(number, head.method, self._sending.initial_window, self._stream_window)
        stream.left = head.content_length
        stream.tunnel = head.method == b"CONNECT"
        stream.ended = last
        self._streams[number] = stream
        events.append(HeadReceived(number, head, last))

    def _refuse(self, number: int, status: int, reason: str) -> None:
        """A request that is no request: answered where there is a status for it, else reset; its neighbours go on."""
        self._count(reason)
        code = PROTOCOL_ERROR
        if status in (417, 431):
            answered = Stream(number, b"", 0, 0)
            self._sending.write_head(answered, [(b":status", b"%d" % status), (b"content-length", b"0")], end=True)
            code = NO_ERROR
        self._write_reset(number, code)
        self._charge(by_head=True)

    def _response(self, stream: Stream, fields: Fields, last: bool, events: list[Event]) -> None:
        try:
            head = read_response(fields, self._limits, self.counts, stream.method, self._known, end=last)
        except ProtocolError as error:
            self._break(stream, PROTOCOL_ERROR, error.reason, events)
            return
        if head.status < 200:
            stream.interim += 1
            if stream.interim > _MAX_INTERIM:
                self._break(stream, PROTOCOL_ERROR, "too_many_interim", events)
                return
        else:
            stream.headed = True
            if head.content_length is not None:
                stream.left = head.content_length
            stream.tunnel = head.status < 300 and stream.method == b"CONNECT"
        events.append(HeadReceived(stream.number, head, last))
        if last:
            self._peer_ended(stream)

    def _trailers(self, stream: Stream, fields: Fields, last: bool, events: list[Event]) -> None:
        try:
            trailers = read_trailers(fields, self._limits, self.counts, self._known, tunnel=stream.tunnel)
        except ProtocolError as error:
            self._break(stream, PROTOCOL_ERROR, error.reason, events)
            return
        if not last:
            self._break(stream, PROTOCOL_ERROR, "malformed_message", events)
        elif stream.left > 0:
            self._break(stream, PROTOCOL_ERROR, "content_length_mismatch", events)
        else:
            events.append(TrailersReceived(stream.number, trailers))
            self._peer_ended(stream)

    # Other frames

    def _window_update(self, number: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            self._fail("protocol_error", FRAME_SIZE_ERROR)
            return
        size = int.from_bytes(payload, "big") & STREAM
        if not number:
            if not size:
                self._fail("protocol_error", PROTOCOL_ERROR)
            elif not self._sending.open_window(size):
                self._fail("protocol_error", FLOW_CONTROL_ERROR)
            return
        stream = self._streams.get(number)
        if self._is_idle(number):
            self._fail("protocol_error", PROTOCOL_ERROR)
        elif stream is None:
            return  # it has ended
        elif not size:
            self._break(stream, PROTOCOL_ERROR, "malformed_message", events)
        elif not self._sending.open_stream_window(stream, size):
            self._break(stream, FLOW_CONTROL_ERROR, "malformed_message", events)

    def _rarer(self, kind: int, number: int, flags: int, payload: bytes, events: list[Event]) -> None:
        code = NO_ERROR
        if kind == RST_STREAM:
            code = self._rst_stream(number, payload, events)
        elif kind == PRIORITY:
            code = NO_ERROR if len(payload) == _PRIORITY_SIZE else FRAME_SIZE_ERROR
        elif kind == PUSH_PROMISE:
            code = PROTOCOL_ERROR
        elif kind in (SETTINGS, PING, GOAWAY):
            if number:
                code = PROTOCOL_ERROR
            elif kind == SETTINGS:
                code = self._settings(payload, flags & ACK != 0, events)
            elif kind == PING:
                code = self._ping(payload, flags & ACK != 0, events)
            else:
                code = self._goaway(payload, events)
        if code != NO_ERROR:
            self._fail("protocol_error", code)

    def _rst_stream(self, number: int, payload: bytes, events: list[Event]) -> int:
        if len(payload) != 4:
            return FRAME_SIZE_ERROR
        if self._is_idle(number):
            return PROTOCOL_ERROR
        stream = self._streams.get(number)
        if stream is not None:
            self._forget(stream)
            self._gate.was_reset(number)
            events.append(StreamReset(number, int.from_bytes(payload, "big"), True))
        return NO_ERROR

    def _settings(self, payload: bytes, ack: bool, events: list[Event]) -> int:
        if ack:
            self._settled()
            return FRAME_SIZE_ERROR if payload else NO_ERROR
        if len(payload) % _SETTING_SIZE:
            return FRAME_SIZE_ERROR
        if not self._settings_came:
            self._settings_came = True
            self.max_streams = NO_LIMIT
        for key, value in read_settings(payload):
            code = refusal(key, value, by_server=not self._server)
            if code != NO_ERROR:
                return code
            if key == HEADER_TABLE_SIZE:
                self._sending.set_table_size(value)
            elif key == MAX_STREAMS:
                self.max_streams = min(value, NO_LIMIT)
            elif key == INITIAL_STREAM_WINDOW:
                if not self._sending.set_initial_window(value, self._streams.values()):
                    return FLOW_CONTROL_ERROR
            elif key == EXTENDED_CONNECT and value:
                self.extended_connect = True
        self._sending.write(SETTINGS_ACK)
        events.append(SettingsReceived())
        return NO_ERROR

    def _ping(self, payload: bytes, ack: bool, events: list[Event]) -> int:
        if len(payload) != _PING_SIZE:
            return FRAME_SIZE_ERROR
        if ack:
            events.append(PongReceived(payload))
        else:
            self._sending.write(frames.ping(payload, ack=True))
        return NO_ERROR

    def _goaway(self, payload: bytes, events: list[Event]) -> int:
        if len(payload) < _GOAWAY_SIZE:
            return FRAME_SIZE_ERROR
        self._gone = True
        last = int.from_bytes(payload[:4], "big") & STREAM
        events.append(GoAwayReceived(last, int.from_bytes(payload[4:8], "big")))
        return NO_ERROR
