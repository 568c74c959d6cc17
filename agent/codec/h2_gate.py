"""The framing gate of HTTP/2: sees every frame's header before either engine does, and ends connections that flood.

One engine hands over the bytes (`check`), the other each frame that it has cut itself (`frame`); both are refused the
same for the same reason. What costs a peer little and us more is paid from token buckets, one for resets, one for
frames that do nothing, one for window updates. The engines judge what frames mean; this only counts them and bounds
header blocks.

Reasons: bad_preface, first_frame_not_settings, frame_too_large, headers_on_stream_0, priority_on_stream_0,
stray_continuation, stream_closed, rapid_reset, control_flood, window_update_flood, continuation_flood.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from agent.codec.h2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER_SIZE,
    HEADERS,
    MAX_FRAME,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    STREAM,
    WINDOW_UPDATE,
)
from agent.codec.http2 import ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED

_frame_header: Final = struct.Struct(">BHBBI").unpack_from

# A browser or a gRPC client cancels now and then; Envoy ends a connection at 500 streams of which half are reset
# within a second, nghttp2 after a burst of 1000 and 33 a second.
_RESETS: Final = (400, 100.0)
_BAD_HEAD: Final = 10.0  # resets: decoding and refusing a head is the dearest of them, and no client sends such heads
# Pings, settings, priorities, empty data, unknown frames: Envoy queues 1000 answers, HAProxy counts glitches likewise.
_CONTROLS: Final = (1000, 100.0)
# Envoy allows 10 updates for each DATA frame sent; a frame of ours has 10 bytes at least.
_UPDATES: Final = (2000, 100.0)
_UPDATES_PER_BYTE: Final = 0.5
_FORGIVEN: Final = 1000  # streams that we have reset and whose late frames are still told from new ones
# nghttp2 takes 8 CONTINUATIONs; frames of 16 KiB need four for the largest head that is not refused.
_MAX_CONTINUATIONS: Final = 16


class _Bucket:
    """`level` tokens now, `rate` more a second up to `size`."""

    __slots__ = ("_clock", "_then", "level", "rate", "size")

    def __init__(self, size: int, rate: float, clock: Callable[[], float]) -> None:
        self.size = float(size)
        self.rate = rate
        self.level = self.size
        self._clock = clock
        self._then = clock()

    def spend(self, tokens: float = 1.0) -> bool:
        """Take so many; False when there are none. The clock is asked only when the bucket runs low."""
        self.level -= tokens
        if self.level >= 0.0:
            return True
        now = self._clock()
        self.level = min(self.size, self.level + (now - self._then) * self.rate)
        self._then = now
        return self.level >= 0.0


class FrameGate:
    """`in_block` is True while a header block waits for its end. `highest` is the last stream that a client has begun.

    `greeting` is what is still to come of the client's preface.
    """

    __slots__ = (
        "_block_bytes",
        "_blocks_left",
        "_controls",
        "_forgiven",
        "_fresh",
        "_late",
        "_left",
        "_max_block",
        "_part",
        "_resets",
        "_server",
        "_streams",
        "_updates",
        "code",
        "greeting",
        "highest",
        "in_block",
    )

    def __init__(self, clock: Callable[[], float], max_head_bytes: int, *, server: bool) -> None:
        self.greeting = PREFACE if server else b""
        self._left = 0
        self._part = b""
        self._fresh = True
        self._max_block = 4 * max_head_bytes + MAX_FRAME
        self._block_bytes = 0
        self._blocks_left = _MAX_CONTINUATIONS
        self._resets = _Bucket(*_RESETS, clock)
        self._controls = _Bucket(*_CONTROLS, clock)
        self._updates = _Bucket(*_UPDATES, clock)
        self._server = server
        self.highest = 0
        self._streams: set[int] = set()
        self._forgiven: deque[int] = deque()
        """Streams that were reset, the latest last; `_late` holds the same."""
        self._late: set[int] = set()
        self.code = PROTOCOL_ERROR
        self.in_block = False

    def closed(self, stream: int) -> None:
        """Both sides have ended it: nothing may come for it any more."""
        self._streams.discard(stream)

    def was_reset(self, stream: int) -> None:
        """It was reset; what its peer had sent before it knew is on the way still, and forgiven."""
        if len(self._forgiven) == _FORGIVEN:
            oldest = self._forgiven.popleft()
            self._streams.discard(oldest)
            self._late.discard(oldest)
        self._forgiven.append(stream)
        self._late.add(stream)

    def forgives(self, stream: int) -> bool:
        """Whether what comes for the stream may be late: it was reset, by us or by its peer, and not long ago."""
        return stream in self._late

    def sent(self, size: int) -> None:
        """So many bytes went to the peer: it may answer them with window updates."""
        updates = self._updates
        level = updates.level + size * _UPDATES_PER_BYTE
        updates.level = level if level < updates.size else updates.size

    def reset_forced(self, *, by_head: bool = False) -> str:
        """The peer made us reset a stream (CVE-2025-8671), perhaps by a head that is none; a reason when it does that
        too often."""
        if self._resets.spend(_BAD_HEAD if by_head else 1.0):
            return ""
        return self._calm("rapid_reset")

    def greet(self, data: bytes) -> int:
        """How many of the bytes are the preface's; -1: they ought to be and are not."""
        expected = self.greeting[: len(data)]
        if not data.startswith(expected):
            return -1
        self.greeting = self.greeting[len(expected) :]
        return len(expected)

    def check(self, data: bytes) -> str:
        """Look at the next bytes; why the connection must end, or ""."""
        if self._part:
            data = self._part + data
            self._part = b""
        if self.greeting:
            size = self.greet(data)
            if size < 0:
                return "bad_preface"
            data = data[size:]
        position = self._left
        end = len(data)
        while end - position >= HEADER_SIZE:
            high, low, kind, flags, stream = _frame_header(data, position)
            length = high << 16 | low
            padding = 0
            if kind == DATA and flags & PADDED and length:
                if end - position == HEADER_SIZE:
                    break  # the next byte says how much of it is padding
                padding = data[position + HEADER_SIZE] + 1
            if reason := self.frame(kind, flags, stream & STREAM, length, padding):
                return reason
            position += HEADER_SIZE + length
        if position <= end:
            self._left = 0
            self._part = data[position:]
        else:
            self._left = position - end
        return ""

    def frame(self, kind: int, flags: int, stream: int, length: int, padding: int) -> str:
        """Judge a frame by its header; why the connection must end, or "".

        `padding`: of DATA, what it takes, the octet that says so included.
        """
        if length > MAX_FRAME:
            self.code = FRAME_SIZE_ERROR
            return "frame_too_large"
        if self._fresh:
            if kind != SETTINGS:
                return "first_frame_not_settings"
            self._fresh = False
        if kind == DATA:
            if length <= padding and not flags & END_STREAM and not self._controls.spend():
                return self._calm("control_flood")
        elif kind == HEADERS and flags & END_HEADERS and not self._server:
            self.in_block = False
        elif kind in (HEADERS, CONTINUATION):
            return self._block(kind, flags, length, stream)
        elif kind == RST_STREAM:
            if not self._resets.spend():
                return self._calm("rapid_reset")
        elif kind == WINDOW_UPDATE:
            if not self._updates.spend():
                return self._calm("window_update_flood")
        elif not (flags & ACK and kind in (SETTINGS, PING)):
            if not self._controls.spend():
                return self._calm("control_flood")
            if kind == PRIORITY and not stream:
                return "priority_on_stream_0"
        return ""

    def _block(self, kind: int, flags: int, length: int, stream: int) -> str:
        if kind == HEADERS:
            if not stream:
                return "headers_on_stream_0"
            if self._server and stream not in self._streams:
                if stream <= self.highest:
                    self.code = STREAM_CLOSED
                    return "stream_closed"
                self.highest = stream
                self._streams.add(stream)
            self._block_bytes = length
            self._blocks_left = _MAX_CONTINUATIONS
        elif not self.in_block:
            return "stray_continuation"
        else:
            self._block_bytes += length
            self._blocks_left -= 1
            if self._blocks_left < 0 or self._block_bytes > self._max_block:
                return self._calm("continuation_flood")
        self.in_block = not flags & END_HEADERS
        return ""

    def _calm(self, reason: str) -> str:
        self.code = ENHANCE_YOUR_CALM
        return reason
