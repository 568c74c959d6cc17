"""The reference HTTP/2 engine: h2 frames and compresses; what waits for the peer's windows is in h2_queues.py.

Slow and plain, the oracle for the fast engine. What h2 leaves to its user (RFC 9113's field grammar, limits of abuse,
its encoder's table) is judged by the gate and h2_heads.py, or bounded here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hpack

from agent.codec.h2_frames import (
    DATA,
    HEADERS,
    RST_STREAM,
    WINDOW_UPDATE,
    FrameCutter,
    as_end,
    goaway,
    stream_of,
    without_resets,
)
from agent.codec.h2_gate import FrameGate
from agent.codec.h2_heads import (
    Field,
    check_values,
    read_request,
    read_response,
    read_trailers,
    request_fields,
    response_fields,
    trailer_fields,
)
from agent.codec.h2_queues import SendQueues
from agent.codec.headers import Headers
from agent.codec.http2 import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    DataReceived,
    Event,
    GoAwayReceived,
    HeadReceived,
    Http2,
    Http2Limits,
    PongReceived,
    SettingsReceived,
    StreamReset,
    TrailersReceived,
)
from agent.codec.message import CHUNKED, ProtocolError, RequestHead, ResponseHead

_MAX_INTERIM: Final = 32
_DEFAULT_STREAMS: Final = 100  # until the peer's SETTINGS have come
_ENCODER_TABLE: Final = 4096
_INITIAL_WINDOW: Final = 65535  # of a connection: no setting makes it smaller (RFC 9113 6.9.2)
_NO_LIMIT: Final = 2**31 - 1
_PEER: Final = 1
_US: Final = 2
_Code = h2.settings.SettingCodes


class _Stream:
    """A message that comes, and which sides of the stream have ended."""

    __slots__ = ("ended", "interim", "left", "method", "tunnel")

    def __init__(self, method: bytes) -> None:
        self.method = method
        self.interim = 0
        self.tunnel = False
        self.left = CHUNKED  # of the body that the peer has announced
        self.ended = 0  # bits: the peer, we


class ReferenceConnection(Http2):
    """The engine `reference`."""

    def __init__(self, limits: Http2Limits, clock: Callable[[], float], *, server: bool) -> None:
        self._limits = limits
        self._server = server
        self._gate = FrameGate(clock, limits.max_head_bytes, server=server)
        # h2_heads.py judges fields: h2 would end the connection for a malformed message
        config = h2.config.H2Configuration(
            client_side=not server,
            header_encoding=None,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
        )
        self._core = h2.connection.H2Connection(config)
        told: dict[Any, int] = {
            _Code.HEADER_TABLE_SIZE: _ENCODER_TABLE,
            _Code.INITIAL_WINDOW_SIZE: limits.stream_window,
            _Code.MAX_HEADER_LIST_SIZE: limits.max_head_bytes,
            _Code.ENABLE_PUSH: 0,
        }
        if server:
            told[_Code.MAX_CONCURRENT_STREAMS] = limits.max_concurrent_streams
            told[_Code.ENABLE_CONNECT_PROTOCOL] = 1
        self._core.local_settings = h2.settings.Settings(client=not server, initial_values=told)
        self._core.initiate_connection()
        # h2 would end the connection beyond the limits that it knows; beyond those told to the peer, a stream ends.
        held = {code: value for code, value in told.items() if code != _Code.MAX_CONCURRENT_STREAMS}
        self._core.local_settings = h2.settings.Settings(client=not server, initial_values=held)
        self._core.decoder.max_header_list_size = 4 * limits.max_head_bytes + 64 * 1024
        client, mine = h2.connection.ConnectionState.CLIENT_OPEN, h2.connection.ConnectionState.SERVER_OPEN
        self._open_state = mine if server else client
        if limits.connection_window > _INITIAL_WINDOW:
            self._core.increment_flow_control_window(limits.connection_window - _INITIAL_WINDOW)
        self._streams: dict[int, _Stream] = {}
        self._queues = SendQueues(self._core, self._we_ended)
        self._cutter = FrameCutter(preface=server)
        self._out = b""
        self._closed = False
        self._gone = False  # the peer takes no new streams
        self._refusing = False  # nor do we
        self._highest = 0
        self._told = 0  # the last request of ours that has left
        self.failed = ""
        self.counts: dict[str, int] = {}
        self.max_streams = _DEFAULT_STREAMS
        self.extended_connect = False

    @property
    def in_head(self) -> bool:
        """Whether a header block waits for its end."""
        return self._gate.in_block

    # From the peer

    def receive_data(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        if self._closed:
            return events
        reason = self._gate.check(data)
        if reason:
            self._fail(reason, self._gate.code)
            return events
        # frame by frame: where one is refused, h2 forgets what those before it in the same bytes have said
        for piece in self._cutter.cut(data):
            if not self._receive(piece, events):
                break
        return events

    def _receive(self, piece: bytes, events: list[Event]) -> bool:
        if self._is_idle(piece):
            self._fail("protocol_error", PROTOCOL_ERROR)
            return False
        number = stream_of(piece)
        stream = self._streams.get(number)
        late = stream is None and self._gate.forgives(number)
        if late:
            self._out += self._core.data_to_send()
        if piece[3] == WINDOW_UPDATE and len(piece) == 13:
            if late:
                return True
            piece = piece[:9] + bytes((piece[9] & 0x7F,)) + piece[10:]  # h2 does not ignore the reserved bit
        if piece[3] == HEADERS and stream is not None and stream.tunnel:
            piece = as_end(piece)  # h2 would end the connection for a head in a tunnel; as trailers we refuse it
        try:
            given = self._core.receive_data(piece)
        except h2.exceptions.DenialOfServiceError:
            self._break("head_flood", ENHANCE_YOUR_CALM)
            return False
        except h2.exceptions.ProtocolError as error:
            self._break("protocol_error", _code_of(error))
            return False
        for event in given:
            if not self._closed:
                self._take(event, events)
        answer = self._core.data_to_send()
        self._out += without_resets(answer) if late else answer  # h2 resets such a stream for every frame
        return not self._closed

    def _is_idle(self, piece: bytes) -> bool:
        """Whether the frame is for a stream that nobody has begun, and h2 would not mind (RFC 9113 5.1)."""
        number = stream_of(piece)
        if self._server:
            return piece[3] == RST_STREAM and number > self._core.highest_inbound_stream_id
        return piece[3] in (DATA, HEADERS, RST_STREAM, WINDOW_UPDATE) and (
            number > self._told or (number > 0 and not number & 1)
        )

    def _take(self, event: Any, events: list[Event]) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._request(event, events)
        elif isinstance(event, h2.events.ResponseReceived | h2.events.InformationalResponseReceived):
            self._response(event.stream_id, event.headers, events, end=getattr(event, "stream_ended", None) is not None)
        elif isinstance(event, h2.events.DataReceived):
            self._data(event, events)
        elif isinstance(event, h2.events.TrailersReceived):
            self._trailers(event, events)
        elif isinstance(event, h2.events.StreamReset):
            self._stream_reset(event, events)
        elif isinstance(event, h2.events.StreamEnded):
            self._ended(event.stream_id, _PEER)
        elif isinstance(event, h2.events.WindowUpdated):
            self._queues.wake(event.stream_id)
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self._settings(events)
        elif isinstance(event, h2.events.ConnectionTerminated):
            # h2 takes nothing to send any more, though open streams are to be answered (RFC 9113 6.8)
            self._core.state_machine.state = self._open_state
            self._gone = True
            events.append(GoAwayReceived(event.last_stream_id or 0, int(event.error_code or 0)))
        elif isinstance(event, h2.events.PingAckReceived):
            events.append(PongReceived(event.ping_data))

    def _request(self, event: h2.events.RequestReceived, events: list[Event]) -> None:
        number = event.stream_id
        if self._refusing or len(self._streams) >= self._limits.max_concurrent_streams:
            self._count("stream_after_goaway" if self._refusing else "too_many_streams")
            self._reset(number, REFUSED_STREAM)
            self._charge()
            return
        self._highest = max(self._highest, number)
        end = event.stream_ended is not None
        try:
            head = read_request(_pairs(event.headers), self._limits, self.counts, end=end)
        except ProtocolError as error:
            self._refuse(number, error)
            return
        self._streams[number] = stream = _Stream(head.method)
        stream.left = head.content_length
        stream.tunnel = head.method == b"CONNECT"
        events.append(HeadReceived(number, head, end))

    def _refuse(self, number: int, error: ProtocolError) -> None:
        """A request that is no request: answered where there is a status for it, else reset; its neighbours go on."""
        self._count(error.reason)
        if error.status in (417, 431):
            fields = [(b":status", b"%d" % error.status), (b"content-length", b"0")]
            self._core.send_headers(number, fields, end_stream=True)
            self._reset(number, NO_ERROR)
        else:
            self._reset(number, PROTOCOL_ERROR)
        self._charge(by_head=True)

    def _response(self, number: int, given: Any, events: list[Event], *, end: bool) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        try:
            head = read_response(_pairs(given), self._limits, self.counts, stream.method, end=end)
            if head.status < 200:
                stream.interim += 1
                if stream.interim > _MAX_INTERIM:
                    raise ProtocolError(400, "too_many_interim")
        except ProtocolError as error:
            self._reset_bad(number, error.reason, events)
            return
        if head.status >= 200 and head.content_length is not None:
            stream.left = head.content_length
        stream.tunnel = stream.method == b"CONNECT" and 200 <= head.status < 300
        events.append(HeadReceived(number, head, end))

    def _data(self, event: h2.events.DataReceived, events: list[Event]) -> None:
        number = event.stream_id
        stream = self._streams.get(number)
        end = event.stream_ended is not None
        if stream is not None and stream.left != CHUNKED:
            stream.left -= len(event.data)
            if stream.left < 0 or (end and stream.left):
                self._reset_bad(number, "content_length_mismatch", events)
                stream = None
        if stream is None:
            self.consume(number, event.flow_controlled_length)
            return
        events.append(DataReceived(number, event.data, event.flow_controlled_length, end))

    def _trailers(self, event: h2.events.TrailersReceived, events: list[Event]) -> None:
        number = event.stream_id
        stream = self._streams.get(number)
        if stream is None:
            return
        try:
            trailers = read_trailers(_pairs(event.headers), self._limits, self.counts, tunnel=stream.tunnel)
            if stream.left not in (0, CHUNKED):
                raise ProtocolError(400, "content_length_mismatch")
        except ProtocolError as error:
            self._reset_bad(number, error.reason, events)
            return
        events.append(TrailersReceived(number, trailers))

    def _stream_reset(self, event: h2.events.StreamReset, events: list[Event]) -> None:
        number = event.stream_id
        known = self._forget(number)
        self._gate.was_reset(number)
        if event.remote_reset:
            if known is not None:
                events.append(StreamReset(number, int(event.error_code), True))
            return
        self._count("malformed_message")
        if known is not None:
            events.append(StreamReset(number, int(event.error_code), False, "malformed_message"))
        self._charge(by_head=known is None and self._server)

    def _settings(self, events: list[Event]) -> None:
        remote = self._core.remote_settings
        self._bound_encoder()
        self.max_streams = min(remote.max_concurrent_streams, _NO_LIMIT)
        self.extended_connect = remote.get(_Code.ENABLE_CONNECT_PROTOCOL, 0) == 1
        self._queues.wake(0)
        events.append(SettingsReceived())

    def _bound_encoder(self) -> None:
        """The peer offers a table of up to 4 GiB (RFC 7541 4.2 lets us use less)."""
        encoder = self._core.encoder
        if encoder.header_table_size > _ENCODER_TABLE:
            encoder.header_table_size = _ENCODER_TABLE
            encoder.table_size_changes = sorted({min(*encoder.table_size_changes, _ENCODER_TABLE), _ENCODER_TABLE})

    def _reset_bad(self, number: int, reason: str, events: list[Event]) -> None:
        self._count(reason)
        self._forget(number)
        self._reset(number, PROTOCOL_ERROR)
        events.append(StreamReset(number, PROTOCOL_ERROR, False, reason))
        self._charge()

    def _charge(self, *, by_head: bool = False) -> None:
        reason = self._gate.reset_forced(by_head=by_head)
        if reason and not self._closed:
            self._fail(reason, self._gate.code)

    def _fail(self, reason: str, code: int) -> None:
        """The connection is dead: what h2 has queued goes out, a GOAWAY last."""
        self._out += self._core.data_to_send()
        self._break(reason, code)

    def _break(self, reason: str, code: int) -> None:
        """h2 has given up: a GOAWAY of ours in the place of its own."""
        self.failed = reason
        self._count(reason)
        self._closed = True
        self._out += goaway(self._highest, code)

    def _count(self, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1

    # To the peer

    def data_to_send(self, limit: int) -> bytes:
        if not self._closed:
            self._queues.send(limit)
            self._out += self._core.data_to_send()
        out, self._out = self._out, b""
        self._told = self._core.highest_outbound_stream_id
        self._gate.sent(len(out))
        return out

    def _ended(self, number: int, side: int) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            stream.ended |= side
            if stream.ended == _PEER | _US:
                del self._streams[number]
                self._gate.closed(number)

    def _we_ended(self, number: int) -> None:
        self._ended(number, _US)

    def _forget(self, number: int) -> _Stream | None:
        self._queues.drop(number)
        return self._streams.pop(number, None)

    def open_stream(self, head: RequestHead, *, end: bool) -> int:
        fields = request_fields(head)
        check_values(fields)
        if self._closed or self._gone:
            return 0
        try:
            number = self._core.get_next_available_stream_id()
            self._core.send_headers(number, fields, end_stream=end)
        except (h2.exceptions.NoAvailableStreamIDError, h2.exceptions.ProtocolError):
            return 0
        self._streams[number] = _Stream(head.method if head.upgrade is None else b"CONNECT")
        if end:
            self._ended(number, _US)
        else:
            self._queues.open(number)
        return number

    def send_head(self, stream_id: int, head: ResponseHead, *, end: bool) -> None:
        fields = response_fields(head)
        if not self._closed and stream_id in self._streams:
            check_values(fields)
            try:
                self._core.send_headers(stream_id, fields, end_stream=end)
            except h2.exceptions.ProtocolError:
                return  # the stream has ended meanwhile
            if end:
                self._ended(stream_id, _US)
            elif head.status >= 200:
                self._queues.open(stream_id)

    def send_data(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        if not self._closed:
            self._queues.add(stream_id, data, end)

    def send_end(self, stream_id: int, trailers: Headers | None = None) -> None:
        fields = trailer_fields(trailers) if trailers is not None else []
        if not self._closed:
            self._queues.add(stream_id, b"", fields or True)

    def queued(self, stream_id: int) -> int:
        return 0 if self._closed else self._queues.queued(stream_id)

    def consume(self, stream_id: int, credit: int) -> None:
        if self._closed or not credit:
            return
        try:
            self._core.acknowledge_received_data(credit, stream_id)
        except (h2.exceptions.ProtocolError, KeyError):
            self._core.increment_flow_control_window(credit)

    def reset(self, stream_id: int, code: int) -> None:
        if self._forget(stream_id) is not None:
            self._reset(stream_id, code)

    def _reset(self, number: int, code: int) -> None:
        if self._closed:
            return
        try:
            self._core.reset_stream(number, code)
        except h2.exceptions.ProtocolError:
            return
        self._gate.was_reset(number)

    def ping(self, payload: bytes) -> None:
        if not self._closed:
            self._core.ping(payload)

    def announce_shutdown(self) -> None:
        if not self._closed:
            self._out += self._core.data_to_send()
            self._out += goaway(_NO_LIMIT, NO_ERROR)

    def goaway(self, code: int = NO_ERROR) -> None:
        if not self._closed:
            self._refusing = True
            self._out += self._core.data_to_send()
            self._out += goaway(self._highest, code)


def _code_of(error: h2.exceptions.ProtocolError) -> int:
    if isinstance(error.__cause__, hpack.HPACKError):
        return COMPRESSION_ERROR  # to h2 any protocol error (RFC 9113 4.3)
    return int(error.error_code) or PROTOCOL_ERROR


def _pairs(given: Any) -> Sequence[Field]:
    fields: list[Any] = [
        (bytes(field[0]), bytes(field[1])) if field.indexable else field  # hpack's mark of what is never indexed
        for field in given or ()
    ]
    return fields
