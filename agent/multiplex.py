"""What both ends of an HTTP/2 hop share: one connection with its codec and writer, and streams that wait on it.

One task reads and hands events to streams; whoever writes queues in the codec, and one write takes what all have
queued. A stream's unread data is what its window lets the peer send, its unsent data what `room` lets it queue.
downstream/http2.py makes exchanges of it, upstream/http2.py leases.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Generic, TypeVar

import trio

from agent.codec.http2 import (
    CANCEL,
    DataReceived,
    Event,
    GoAwayReceived,
    HeadReceived,
    Http2,
    SettingsReceived,
    StreamReset,
    TrailersReceived,
)
from agent.codec.message import END, End, RequestHead, ResponseHead
from agent.exchange.faults import ProxyFault
from mesh.net.batch import WriteBatch
from mesh.net.outbox import Outbox
from mesh.net.strand import Pass
from mesh.net.tcp import Transport
from mesh.net.waiter import Waiter

HIGH: Final = 64 * 1024  # bytes queued for a stream above which its writer waits,
_LOW: Final = 16 * 1024  # and below which it goes on


class MuxStream(Waiter):
    """One stream: what arrived and was not taken yet, and who waits for more of it or for room to write.

    It is itself the place where its exchange waits for what arrives.

    `fault` is set once, when nothing more will come; what arrived before is still given out. `over` turns True when
    the codec needs no RST_STREAM any more, because the peer or the codec has sent one. `owed` is how much of its window
    the peer has not got back yet.
    """

    __slots__ = ("_inbox", "_room", "bytes_in", "bytes_out", "fault", "mux", "number", "over", "owed")

    def __init__(self, mux: Multiplexed[Any], number: int) -> None:
        super().__init__()
        self.mux = mux
        self.number = number
        self.fault: ProxyFault | None = None
        self.over = False
        self.bytes_in = 0
        self.bytes_out = 0
        self._inbox: deque[Any] = deque()
        self.owed = 0
        self._room: Waiter | None = None

    # From the peer

    def put(self, *items: RequestHead | ResponseHead | bytes | End) -> None:
        """Something arrived."""
        self._inbox.extend(items)
        self.wake()

    def put_data(self, data: bytes, credit: int, *, end: bool) -> None:
        """Data arrived, worth `credit` of the window, given back once it was passed on. `end`: no more comes."""
        self.bytes_in += len(data)
        self.owed += credit
        if data:
            self._inbox.append(data)
        if end:
            self._inbox.append(END)
        self.wake()

    def fail(self, fault: ProxyFault) -> None:
        """Nothing more will come of the peer, for this reason; the first one counts."""
        if self.fault is None:
            self.fault = fault
        self.wake()
        if self._room is not None:
            self._room.wake()

    def take(self) -> Any:
        """The next thing that arrived. To ask for it is to say that what was given before has been passed on."""
        if self._inbox:
            return self._inbox.popleft()
        if self.owed:
            self.mux.credit(self)
        return None

    async def arrival(self) -> None:
        """Wait until something has arrived. Raises the stream's ProxyFault."""
        if not self._inbox:
            if self.fault is None:
                await self.wait()
            if self.fault is not None and not self._inbox:
                raise self.fault

    async def wake_up(self) -> None:
        """Wait until something has arrived or `notice` is called. Raises the stream's ProxyFault."""
        await self.wait()
        if self.fault is not None:
            raise self.fault

    def notice(self) -> None:
        """Something that the stream may wait for has changed."""
        self.wake()

    # To the peer

    async def room(self) -> None:
        """Wait until little is queued. Raises the stream's ProxyFault."""
        mux = self.mux
        if mux.codec.queued(self.number) > HIGH:
            mux.outbox.flush()
            self._room = self._room or Waiter()
            while self.fault is None and mux.codec.queued(self.number) > _LOW:
                mux.blocked.add(self)
                try:
                    await self._room.wait()
                finally:
                    mux.blocked.discard(self)
        if self.fault is not None:
            raise self.fault

    @property
    def writing(self) -> bool:
        """Whether a writer waits in `room`."""
        return self in self.mux.blocked

    def has_room(self) -> bool:
        """Whether `room` would let a waiting writer go on."""
        return self.mux.codec.queued(self.number) <= _LOW

    def wake_writer(self) -> None:
        """There is room."""
        if self._room is not None:
            self._room.wake()

    def reset(self, code: int = CANCEL) -> None:
        """RST_STREAM, unless the stream is over."""
        if not self.over:
            self.over = True
            self.mux.codec.reset(self.number, code)
            self.mux.kick()


Stream = TypeVar("Stream", bound=MuxStream)


class Multiplexed(Generic[Stream]):
    """One HTTP/2 connection. `streams` are those that still hear of what happens to them, by number.

    `blocked` wait for room; `finishing` are done but for bytes that the peer's window or the socket holds back.
    """

    def __init__(self, transport: Transport, codec: Http2) -> None:
        self.transport = transport
        self.codec = codec
        self.streams: dict[int, Stream] = {}
        self.blocked: set[MuxStream] = set()
        self.finishing: list[Stream] = []
        self.outbox: Outbox
        self._token = trio.lowlevel.current_trio_token()

    def open(self, nursery: trio.Nursery, batch: WriteBatch | None) -> None:
        """Begin to write: preface and settings, then whatever is queued. `nursery` owns the rare blocked write."""
        self.outbox = Outbox(self.transport, self.codec.data_to_send, nursery, batch, self._flushed)
        self.kick()

    def kick(self) -> None:
        """Something was queued in the codec."""
        if self.blocked:
            self.outbox.flush()  # at once, so that those who wait for room hear of it
        elif not self.outbox.kicked:
            self.outbox.kick()

    def credit(self, stream: MuxStream) -> None:
        """Let the peer of `stream` send as much again as was passed on."""
        if stream.owed:
            self.codec.consume(stream.number, stream.owed)
            stream.owed = 0
            self.kick()

    async def read(self) -> None:
        """Hand on what arrives, until the peer ends the connection or breaks the protocol (`codec.failed`).

        Raises trio.BrokenResourceError, trio.ClosedResourceError.
        """
        while data := await self._receive():
            with Pass():
                for event in self.codec.receive_data(data):
                    if isinstance(event, DataReceived):
                        stream = self.streams.get(event.stream_id)
                        if stream is not None:
                            stream.put_data(event.data, event.credit, end=event.end)
                        else:  # whom it was for has gone
                            self.codec.consume(event.stream_id, event.credit)
                    elif isinstance(event, HeadReceived):
                        self.head_received(event)
                    else:
                        self._dispatch(event)
            if self.codec.failed:
                return
            self.received()
            self.kick()

    async def _receive(self) -> bytes:
        try:
            return await self.transport.receive()
        except trio.ClosedResourceError:
            if self.outbox.error is not None:
                raise self.outbox.error from None
            raise

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, TrailersReceived):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.put(End(event.trailers))
        elif isinstance(event, StreamReset):
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.over = True
                self.stream_reset(stream, event)
        elif isinstance(event, GoAwayReceived):
            self.going_away(event)
        elif isinstance(event, SettingsReceived):
            self.settings_received()

    def received(self) -> None:
        """All that one read brought has been handed on."""

    def head_received(self, event: HeadReceived) -> None:
        """A head arrived."""
        raise NotImplementedError

    def stream_reset(self, stream: Stream, event: StreamReset) -> None:
        """The stream ended before its time."""
        raise NotImplementedError

    def going_away(self, event: GoAwayReceived) -> None:
        """The peer takes no new streams."""

    def settings_received(self) -> None:
        """The peer's settings changed."""

    def finished(self, stream: Stream) -> None:
        """All bytes of a stream that was `finishing` have left, or its stream is over."""

    def _flushed(self, now: bool) -> None:
        if self.finishing:
            left: list[Stream] = []
            for stream in self.finishing:
                if stream.over or not self.codec.queued(stream.number):
                    self.finished(stream)
                else:
                    left.append(stream)
            self.finishing = left
        if self.blocked:
            if now:
                self._wake_writers()
            else:
                self._token.run_sync_soon(self._wake_writers)

    def _wake_writers(self) -> None:
        for stream in [stream for stream in self.blocked if stream.has_room()]:
            stream.wake_writer()
