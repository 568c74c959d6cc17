"""The fast HTTP/2 engine: libnghttp2, by way of ngh2, frames, compresses and schedules.

The gate has seen every byte before, heads are judged by h2_heads.py, and windows open only for what was passed on. What
the library refuses by itself it answers by itself; this only tells it apart in `counts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import ngh2

from agent.codec.h2_frames import goaway, with_setting
from agent.codec.h2_gate import FrameGate
from agent.codec.h2_heads import (
    Field,
    Known,
    read_request,
    read_response,
    read_trailers,
    request_fields,
    response_fields,
    trailer_fields,
)
from agent.codec.headers import Headers
from agent.codec.http2 import (
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
from agent.codec.message import ProtocolError, RequestHead, ResponseHead

_MAX_INTERIM: Final = 32
_ENABLE_PUSH, _MAX_STREAMS, _WINDOW, _MAX_HEAD, _CONNECT, _NO_PRIORITIES = 2, 3, 4, 6, 8, 9
_DEFAULT_STREAMS: Final = 100  # until the peer's SETTINGS have come
_NO_LIMIT: Final = 2**31 - 1
_CONTROL: Final = 16 * 1024
_PIECE: Final = 4 * 1024  # a body that ends within so much leaves in one frame, before or after the others
# Left to itself, the library sends the oldest stream's body to its end before the next one's.
_TAKE_TURNS: Final = ngh2.Priority(urgency=3, incremental=True)


class FastConnection(Http2):
    """The engine `fast`."""

    __slots__ = (
        "_closed",
        "_core",
        "_counted",
        "_ending",
        "_events",
        "_flooded",
        "_gate",
        "_greeted",
        "_known",
        "_limits",
        "_methods",
        "_out",
        "_peer_code",
        "_peer_last",
        "_server",
        "counts",
        "extended_connect",
        "failed",
        "max_streams",
    )

    def __init__(self, limits: Http2Limits, clock: Callable[[], float], *, server: bool) -> None:
        self._limits = limits
        self._server = server
        self._gate = FrameGate(clock, limits.max_head_bytes, server=server)
        # The library's own limits end the connection: they stand far behind those that cost a request only.
        self._core = ngh2.Connection(
            ngh2.Role.SERVER if server else ngh2.Role.CLIENT,
            ngh2.Configuration(
                auto_window_update=False,
                max_inbound_header_list_size=4 * limits.max_head_bytes + 64 * 1024,
                max_inbound_header_count=max(1024, 4 * limits.max_fields),
                max_send_header_block_length=4 * limits.max_head_bytes + 64 * 1024,
                max_continuations=64,
            ),
        )
        settings = {_WINDOW: limits.stream_window, _MAX_HEAD: limits.max_head_bytes}
        if server:
            settings |= {_CONNECT: 1, _NO_PRIORITIES: 1}
        else:
            settings |= {_ENABLE_PUSH: 0}
        self._core.initiate_connection(settings)
        self._core.set_local_window_size(limits.connection_window)
        greeting = self._core.data_to_send()
        if server:  # told to the peer only: the library would end the connection for one stream too many
            greeting = with_setting(greeting, _MAX_STREAMS, limits.max_concurrent_streams)
        self._methods: dict[int, bytes] = {}
        """Streams whose head was given out or asked for: the request's method; b"": a CONNECT that made no tunnel."""
        self._counted: dict[int, int] = {}
        """By stream, of a client's: informational heads that came; of a server's: 1 when it was told to take turns."""
        self._known: Known = {}
        self._ending: set[int] = set()
        """Streams that were reset by the peer or by us, until the library has forgotten them."""
        self._out = greeting
        self._events: list[Event] = []
        """What came up while sending; told with the peer's next bytes."""
        self._peer_last = _NO_LIMIT
        self._peer_code = NO_ERROR
        self._closed = False
        self._flooded = ""
        """Why the connection must end: the peer has forced too many resets."""
        self._greeted = False
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
        events, self._events = self._events, []
        if self._closed:
            return events
        gate = self._gate
        reason = gate.check(data)
        if reason:
            self._fail(reason, gate.code)
            return events
        core, said = self._core, self._out
        try:
            core.receive_data(data)
        except ngh2.DenialOfServiceError:
            self._collect(events)
            self._break("head_flood", ENHANCE_YOUR_CALM)
            return events
        except ngh2.NGH2Error:
            self._collect(events)
            self._break("protocol_error", PROTOCOL_ERROR)
            return events
        self._collect(events)
        if gate.padding:
            for number, size in gate.padding:
                self.consume(number, size)
            gate.padding.clear()
        # a GOAWAY of the library's own is told once it is pulled, and it goes before any data
        if core.want_write and len(self._out) < _CONTROL:
            self._out += self._pull(_CONTROL)
        if self._out:
            self._collect(events)  # a reset too is told once it was written
            events += self._events
            self._events = []
        if self._flooded and not self.failed:
            # Without the answers to these bytes: the library has read on, and would answer a PING before the GOAWAY.
            self._out = said
            self._break(self._flooded, gate.code)
        return events

    def _collect(self, events: list[Event]) -> None:
        known = self._methods
        arrived: list[Any] = self._core.events()  # told apart by type, for there are many
        for event in arrived:
            kind = type(event)
            if kind is ngh2.DataReceived:
                number, data = event.stream_id, event.data
                if number in known:
                    events.append(DataReceived(number, data, len(data), event.end_stream))
                else:
                    self.consume(number, len(data))
            elif kind is ngh2.RequestReceived:
                self._request(event, events)
            elif kind is ngh2.ResponseReceived:
                self._response(event.stream_id, event.headers, events, end=event.end_stream)
            elif kind is ngh2.StreamClosed:
                if event.error_code == NO_ERROR and event.stream_id not in self._ending:
                    known.pop(event.stream_id, None)
                    if self._server:
                        self._gate.closed(event.stream_id)
                else:
                    self._stream_broken(event, events)
                if self._counted:
                    self._counted.pop(event.stream_id, None)
            else:
                self._rarer(event, events)

    def _request(self, event: ngh2.RequestReceived, events: list[Event]) -> None:
        number = event.stream_id
        end = event.end_stream
        if len(self._methods) >= self._limits.max_concurrent_streams:
            self._count("too_many_streams")
            self._try_reset(number, REFUSED_STREAM)
            self._charge()
            return
        try:
            head = read_request(event.headers, self._limits, self.counts, self._known, end=end)
        except ProtocolError as error:
            self._refuse(number, error)
            return
        self._methods[number] = head.method
        events.append(HeadReceived(number, head, end))

    def _refuse(self, number: int, error: ProtocolError) -> None:
        """A request that is no request: answered where there is a status for it, else reset; its neighbours go on."""
        self._count(error.reason)
        if error.status in (417, 431):
            fields = [(b":status", b"%d" % error.status), (b"content-length", b"0")]
            try:
                self._core.send_response(number, fields, end_stream=True)
            except (ngh2.StreamProtocolError, ngh2.ConnectionStateError):
                return  # the same bytes have reset it, or ended the connection
            self._out += self._pull(_CONTROL)  # a reset would take back what is queued
            self._try_reset(number, NO_ERROR)
        else:
            self._try_reset(number, PROTOCOL_ERROR)
        self._charge(by_head=True)

    def _response(self, number: int, fields: Sequence[Field], events: list[Event], *, end: bool) -> None:
        method = self._methods.get(number)
        if method is None:
            return
        try:
            head = read_response(fields, self._limits, self.counts, method, self._known, end=end)
            if head.status < 200:
                self._counted[number] = count = self._counted.get(number, 0) + 1
                if count >= _MAX_INTERIM:
                    raise ProtocolError(400, "too_many_interim")
            elif head.status >= 300 and method == b"CONNECT":
                self._methods[number] = b""
        except ProtocolError as error:
            self._reset_bad(number, error.reason, events)
            return
        events.append(HeadReceived(number, head, end))

    def _reset_bad(self, number: int, reason: str, events: list[Event]) -> None:
        self._count(reason)
        self._methods.pop(number, None)
        self._try_reset(number, PROTOCOL_ERROR)
        events.append(StreamReset(number, PROTOCOL_ERROR, False, reason))
        self._charge()

    def _stream_broken(self, event: ngh2.StreamClosed, events: list[Event]) -> None:
        """A stream is over before its time, or after a reset."""
        number = event.stream_id
        known = self._methods.pop(number, None)
        if number in self._ending:
            self._ending.discard(number)
            self._gate.was_reset(number)
        elif number > self._peer_last and not self._server:
            return  # not processed by the peer, as its GOAWAY has told
        else:  # the library's own reset, perhaps of a stream that was never given out
            self._gate.was_reset(number)
            self._count("malformed_message")
            if known is not None:
                events.append(StreamReset(number, event.error_code, False, "malformed_message"))
            self._charge(by_head=known is None and self._server)

    def _rarer(self, event: ngh2.Event, events: list[Event]) -> None:
        if isinstance(event, ngh2.TrailersReceived):
            number = event.stream_id
            method = self._methods.get(number)
            if method is None:
                return
            tunnel = method == b"CONNECT"
            try:
                trailers = read_trailers(event.headers, self._limits, self.counts, self._known, tunnel=tunnel)
            except ProtocolError as error:
                self._reset_bad(number, error.reason, events)
                return
            events.append(TrailersReceived(number, trailers))
        elif isinstance(event, ngh2.InformationalResponseReceived):
            self._response(event.stream_id, event.headers, events, end=False)
        elif isinstance(event, ngh2.StreamReset):
            self._ending.add(event.stream_id)
            if self._methods.pop(event.stream_id, None) is not None:
                events.append(StreamReset(event.stream_id, event.error_code, True))
        elif isinstance(event, ngh2.GoAwayReceived):
            self._peer_last = event.last_stream_id
            self._peer_code = event.error_code
            events.append(GoAwayReceived(event.last_stream_id, event.error_code))
        elif isinstance(event, ngh2.SettingsReceived):
            settings = event.settings
            self.max_streams = min(
                settings.get(_MAX_STREAMS, self.max_streams if self._greeted else _NO_LIMIT), _NO_LIMIT
            )
            self._greeted = True
            self.extended_connect = self.extended_connect or settings.get(_CONNECT) == 1
            events.append(SettingsReceived())
        elif isinstance(event, ngh2.PingAcknowledged):
            events.append(PongReceived(event.opaque_data))
        elif isinstance(event, ngh2.ConnectionClosed):
            self._closed = True
            # the library closes too, with the peer's code, when it has no streams left after the peer's GOAWAY
            ours = event.error_code != self._peer_code or self._methods
            if event.error_code != NO_ERROR and ours and not self.failed:
                self.failed = "protocol_error"
                self._count("protocol_error")

    def _charge(self, *, by_head: bool = False) -> None:
        self._flooded = self._gate.reset_forced(by_head=by_head) or self._flooded

    def _fail(self, reason: str, code: int) -> None:
        """End the connection in the library's own words."""
        self.failed = reason
        self._count(reason)
        try:
            self._core.terminate_connection(code)
            self._out += self._core.data_to_send()
        except ngh2.NGH2Error:
            self._break(reason, code)
        self._closed = True

    def _break(self, reason: str, code: int) -> None:
        """The library has given up, or has read on where it should have ended: write the GOAWAY in its place."""
        self.failed = reason
        self._count(reason)
        self._closed = True
        self._out += goaway(self._gate.highest, code)

    def _count(self, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1

    # To the peer

    def data_to_send(self, limit: int) -> bytes:
        out = self._out
        if out:
            self._out = b""
        elif self._closed:
            return b""
        else:
            out = self._pull(limit)
        self._gate.sent(len(out))
        return out

    def _pull(self, limit: int) -> bytes:
        core = self._core
        try:
            out = core.data_to_send(limit)
        except ngh2.NGH2Error:
            self._break("protocol_error", PROTOCOL_ERROR)
            return b""
        if not core.want_read:
            self._collect(self._events)
        return out

    def open_stream(self, head: RequestHead, *, end: bool) -> int:
        fields = request_fields(head)
        if self._closed or not self._core.can_send_request:
            return 0
        try:
            number = self._core.send_request(fields, end_stream=end)
        except (ngh2.NoAvailableStreamIDError, ngh2.ConnectionClosingError, ngh2.ConnectionStateError):
            return 0
        self._methods[number] = head.method if head.upgrade is None else b"CONNECT"
        return number

    def send_head(self, stream_id: int, head: ResponseHead, *, end: bool) -> None:
        fields = response_fields(head)
        if self._closed:
            return
        try:
            if head.status < 200:
                self._core.send_informational_response(stream_id, fields)
            else:
                self._core.send_response(stream_id, fields, end_stream=end)
        except (ngh2.StreamProtocolError, ngh2.ConnectionStateError):
            return  # the stream has ended meanwhile

    def send_data(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        if self._closed:
            return
        try:
            if (not end or len(data) > _PIECE) and self._server and stream_id not in self._counted:
                self._counted[stream_id] = 1
                self._core.set_stream_priority(stream_id, _TAKE_TURNS, ignore_client_signal=True)
            self._core.send_data(stream_id, data, end_stream=end)
        except (ngh2.StreamProtocolError, ngh2.ConnectionStateError):
            return

    def send_end(self, stream_id: int, trailers: Headers | None = None) -> None:
        if self._closed:
            return
        try:
            if trailers is not None and trailers.items:
                self._core.send_trailers(stream_id, trailer_fields(trailers))
            else:
                self._core.end_stream(stream_id)
        except (ngh2.StreamProtocolError, ngh2.ConnectionStateError):
            return

    def queued(self, stream_id: int) -> int:
        if self._closed:
            return 0
        try:
            return self._core.queued_body_size(stream_id)
        except ngh2.NGH2Error:
            return 0

    def consume(self, stream_id: int, credit: int) -> None:
        if self._closed or not credit:
            return
        try:
            self._core.acknowledge_received_data(credit, stream_id)
        except (ngh2.NGH2Error, ValueError):
            return  # the library gives back by itself what came for a stream that it has closed

    def reset(self, stream_id: int, code: int) -> None:
        if self._methods.pop(stream_id, None) is not None:
            self._try_reset(stream_id, code)

    def _try_reset(self, stream_id: int, code: int) -> None:
        if not self._closed:
            self._ending.add(stream_id)
            try:
                self._core.reset_stream(stream_id, code)
            except (ngh2.StreamProtocolError, ngh2.ConnectionStateError):
                self._ending.discard(stream_id)

    def ping(self, payload: bytes) -> None:
        if not self._closed:
            self._core.ping(payload)

    def announce_shutdown(self) -> None:
        if not self._closed:
            self._core.send_shutdown_notice()

    def goaway(self, code: int = NO_ERROR) -> None:
        if not self._closed:
            try:
                self._core.send_goaway(code)
            except ngh2.ConnectionStateError:
                return
