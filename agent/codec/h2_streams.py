"""The fast HTTP/2 engine's streams: how they begin and end, what we send on them, and what we let the peer send.

What the peer's frames do to them is in h2_fast.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.codec import h2_frames as frames
from agent.codec.h2_frames import PREFACE
from agent.codec.h2_gate import FrameGate
from agent.codec.h2_heads import request_fields, response_fields, trailer_fields
from agent.codec.h2_sending import INITIAL_WINDOW, Sending, Stream
from agent.codec.h2_settings import (
    ENABLE_PUSH,
    EXTENDED_CONNECT,
    INITIAL_STREAM_WINDOW,
    MAX_HEAD,
    MAX_STREAMS,
    NO_PRIORITIES,
)
from agent.codec.headers import Headers
from agent.codec.http2 import NO_ERROR, Event, Http2, Http2Limits, StreamReset
from agent.codec.message import RequestHead, ResponseHead

NO_LIMIT: Final = 2**31 - 1
_DEFAULT_STREAMS: Final = 100  # until the peer's SETTINGS have come
_LAST_STREAM: Final = 2**31 - 1


class Streams(Http2):
    """One connection, but for what comes. `failed` and `_closed` are set together."""

    __slots__ = (
        "_begun",
        "_closed",
        "_gate",
        "_gone",
        "_highest",
        "_limits",
        "_next",
        "_owed",
        "_receivable",
        "_refusing",
        "_sending",
        "_server",
        "_stream_window",
        "_streams",
        "_window",
        "counts",
        "extended_connect",
        "failed",
        "max_streams",
    )

    def __init__(self, limits: Http2Limits, clock: Callable[[], float], *, server: bool) -> None:
        self._limits = limits
        self._server = server
        self._gate = FrameGate(clock, limits.max_head_bytes, server=server)
        self._sending = Sending()
        self._streams: dict[int, Stream] = {}
        self._begun = 0
        """The last stream that the client has begun, as far as the server knows: those above it are idle."""
        self._highest = 0
        """The last one that a server has not refused out of hand."""
        self._next = 1
        self._gone = False  # the peer takes no new streams
        self._refusing = False  # nor do we
        self._closed = False
        self._window = max(limits.connection_window, INITIAL_WINDOW)
        self._receivable = self._window
        self._owed = 0
        # a peer that has not heard of a smaller window yet may use the one that every stream begins with
        self._stream_window = max(limits.stream_window, INITIAL_WINDOW)
        self.failed = ""
        self.counts: dict[str, int] = {}
        self.max_streams = _DEFAULT_STREAMS
        self.extended_connect = False
        self._greet()

    def _greet(self) -> None:
        limits = self._limits
        told = [(INITIAL_STREAM_WINDOW, limits.stream_window), (MAX_HEAD, limits.max_head_bytes)]
        if self._server:
            told += [(MAX_STREAMS, limits.max_concurrent_streams), (EXTENDED_CONNECT, 1), (NO_PRIORITIES, 1)]
        else:
            self._sending.write(PREFACE)
            told.append((ENABLE_PUSH, 0))
        self._sending.write(frames.settings(told))
        if self._window > INITIAL_WINDOW:
            self._sending.write(frames.window_update(0, self._window - INITIAL_WINDOW))

    @property
    def in_head(self) -> bool:
        """Whether a header block waits for its end."""
        return self._gate.in_block

    def data_to_send(self, limit: int) -> bytes:
        sending = self._sending
        out = sending.pull(limit)
        if out:
            if not self._server:
                self._begun = self._next - 2
            if sending.ended:
                for stream in sending.ended:
                    stream.sent = True
                    stream.written = 0
                    if stream.ended:
                        self._close(stream)
                sending.ended.clear()
            self._gate.sent(len(out))
        return out

    # Streams

    def open_stream(self, head: RequestHead, *, end: bool) -> int:
        fields = request_fields(head)
        number = self._next
        if self._closed or self._gone or number > _LAST_STREAM:
            return 0
        method = head.method if head.upgrade is None else b"CONNECT"
        stream = Stream(number, method, self._sending.initial_window, self._stream_window)
        self._sending.write_head(stream, fields, end=end)
        stream.sending = not end
        self._next = number + 2
        self._streams[number] = stream
        return number

    def send_head(self, stream_id: int, head: ResponseHead, *, end: bool) -> None:
        fields = response_fields(head)
        stream = self._streams.get(stream_id)
        if stream is None or self._closed or stream.headed:
            return
        self._sending.write_head(stream, fields, end=end)
        if head.status >= 200:
            stream.headed = True
            stream.sending = not end

    def send_data(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and stream.sending and not self._closed:
            self._sending.write_body(stream, data, end=end)

    def send_end(self, stream_id: int, trailers: Headers | None = None) -> None:
        fields = trailer_fields(trailers) if trailers is not None else []
        stream = self._streams.get(stream_id)
        if stream is not None and stream.sending and not self._closed:
            self._sending.write_end(stream, fields)

    def queued(self, stream_id: int) -> int:
        stream = self._streams.get(stream_id)
        return 0 if stream is None or self._closed else stream.size + stream.written

    def reset(self, stream_id: int, code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and not self._closed:
            self._forget(stream)
            self._write_reset(stream_id, code)

    def _write_reset(self, number: int, code: int) -> None:
        self._sending.write(frames.rst_stream(number, code))
        self._gate.was_reset(number)

    def _forget(self, stream: Stream) -> None:
        del self._streams[stream.number]
        self._sending.drop(stream)

    def _close(self, stream: Stream) -> None:
        """Both sides have ended it, if it was not reset meanwhile."""
        number = stream.number
        if number in self._streams:
            del self._streams[number]
            if self._server:
                self._gate.closed(number)

    def _break(self, stream: Stream, code: int, reason: str, events: list[Event]) -> None:
        """Reset a stream whose peer has made a mistake."""
        self._count(reason)
        self._forget(stream)
        self._write_reset(stream.number, code)
        events.append(StreamReset(stream.number, code, False, reason))
        self._charge(by_head=False)

    def _charge(self, *, by_head: bool) -> None:
        reason = self._gate.reset_forced(by_head=by_head)
        if reason:
            self._fail(reason, self._gate.code)

    # What we let the peer send

    def consume(self, stream_id: int, credit: int) -> None:
        if self._closed or not credit:
            return
        self._give_back(credit)
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.ended:
            stream.owed += credit
            if 2 * stream.owed >= self._stream_window:
                self._sending.write(frames.window_update(stream_id, stream.owed))
                stream.receivable += stream.owed
                stream.owed = 0

    def _give_back(self, size: int) -> None:
        """On the connection; it is told once half a window is owed."""
        self._owed += size
        if 2 * self._owed >= self._window:
            self._sending.write(frames.window_update(0, self._owed))
            self._receivable += self._owed
            self._owed = 0

    def _settled(self) -> None:
        """The peer has taken our settings: its windows are those that we have told."""
        less = self._stream_window - self._limits.stream_window
        if less:
            self._stream_window = self._limits.stream_window
            for stream in self._streams.values():
                stream.receivable -= less

    # The connection

    def ping(self, payload: bytes) -> None:
        if not self._closed:
            self._sending.write(frames.ping(payload, ack=False))

    def announce_shutdown(self) -> None:
        if not self._closed:
            self._sending.write(frames.goaway(NO_LIMIT, NO_ERROR))

    def goaway(self, code: int = NO_ERROR) -> None:
        if not self._closed:
            self._refusing = True
            self._sending.write(frames.goaway(self._highest, code))

    def _fail(self, reason: str, code: int) -> None:
        """The connection is dead: what was written goes out, a GOAWAY last."""
        if not self._closed:
            self.failed = reason
            self._count(reason)
            self._closed = True
            self._sending.stop()
            self._sending.write(frames.goaway(self._highest, code))

    def _count(self, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
