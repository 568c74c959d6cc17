"""Streams of one connection: what arrives, what is owed for it, who waits for room."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from agent.codec.headers import Headers
from agent.codec.http2 import DataReceived, HeadReceived, StreamReset, TrailersReceived
from agent.codec.message import END, End
from agent.exchange import faults
from agent.exchange.faults import ProxyFault
from agent.multiplex import Multiplexed, MuxStream
from tests.rig import settle, tcp_pair


class FakeCodec:
    """Keeps what it is told; `ahead` is what it says is queued for every stream."""

    def __init__(self) -> None:
        self.failed = ""
        self.events: list[Any] = []
        self.credits: list[tuple[int, int]] = []
        self.resets: list[tuple[int, int]] = []
        self.out: list[bytes] = []
        self.ahead = 0

    def receive_data(self, data: bytes) -> list[Any]:
        given, self.events = self.events, []
        return given

    def data_to_send(self, limit: int) -> bytes:
        return self.out.pop(0) if self.out else b""

    def queued(self, number: int) -> int:
        return self.ahead

    def consume(self, number: int, credit: int) -> None:
        self.credits.append((number, credit))

    def reset(self, number: int, code: int) -> None:
        self.resets.append((number, code))


class Plain(Multiplexed[MuxStream]):
    """Streams that are made by hand."""

    def __init__(self, transport: Any, codec: Any) -> None:
        super().__init__(transport, codec)
        self.heads: list[int] = []
        self.done: list[int] = []

    def head_received(self, event: HeadReceived) -> None:
        self.heads.append(event.stream_id)

    def stream_reset(self, stream: MuxStream, event: StreamReset) -> None:
        stream.fail(faults.client_gone())

    def finished(self, stream: MuxStream) -> None:
        self.done.append(stream.number)


async def test_what_arrives_is_handed_to_its_stream_and_credited_when_passed_on() -> None:
    async with tcp_pair() as (near, far), trio.open_nursery() as nursery:
        codec = FakeCodec()
        mux = Plain(near, codec)
        mux.open(nursery, None)
        stream = mux.streams[1] = MuxStream(mux, 1)
        codec.events = [
            DataReceived(1, b"abc", 5, False),
            DataReceived(3, b"for nobody", 10, False),
            TrailersReceived(1, Headers([(b"x", b"y")])),
            TrailersReceived(3, Headers()),
            StreamReset(3, 8, True),
        ]
        nursery.start_soon(mux.read)
        await far.send(b"!")
        await stream.arrival()
        assert codec.credits == [(3, 10)], "what is for nobody goes back at once"
        assert stream.take() == b"abc"
        assert stream.bytes_in == 3
        end = stream.take()
        assert isinstance(end, End)
        assert end.trailers is not None
        assert codec.credits == [(3, 10)]
        assert stream.take() is None, "asking for more says that the rest is passed on"
        assert codec.credits == [(3, 10), (1, 5)]
        nursery.cancel_scope.cancel()


async def test_what_came_before_a_fault_is_given_out_first() -> None:
    async with tcp_pair() as (near, _), trio.open_nursery() as nursery:
        codec = FakeCodec()
        mux = Plain(near, codec)
        mux.open(nursery, None)
        stream = MuxStream(mux, 1)
        stream.put(b"data")
        stream.put(END)
        stream.fail(faults.client_gone())
        stream.fail(faults.overflow())
        await stream.arrival()
        assert stream.take() == b"data"
        assert stream.take() is END
        with pytest.raises(ProxyFault) as caught:
            await stream.arrival()
        assert caught.value.flag == "DC"


async def test_a_writer_waits_until_little_is_queued() -> None:
    async with tcp_pair() as (near, _), trio.open_nursery() as nursery:
        codec = FakeCodec()
        mux = Plain(near, codec)
        mux.open(nursery, None)
        stream = MuxStream(mux, 1)
        passed: list[str] = []

        async def write() -> None:
            await stream.room()
            passed.append("room")

        codec.ahead = 1_000_000
        nursery.start_soon(write)
        await settle()
        mux.kick()
        await settle()
        assert passed == []
        codec.ahead = 1000
        mux.kick()
        await settle()
        assert passed == ["room"]
        assert not mux.blocked
        codec.ahead = 1_000_000
        nursery.start_soon(write)
        await settle()
        nursery.cancel_scope.cancel()
    assert not mux.blocked, "a cancelled writer leaves nothing behind"


async def test_a_stream_finishes_when_its_last_byte_has_left() -> None:
    async with tcp_pair() as (near, _), trio.open_nursery() as nursery:
        codec = FakeCodec()
        mux = Plain(near, codec)
        mux.open(nursery, None)
        held, gone = MuxStream(mux, 1), MuxStream(mux, 3)
        gone.over = True
        mux.finishing += [held, gone]
        codec.ahead = 10
        mux.kick()
        assert mux.done == [3]
        codec.ahead = 0
        mux.kick()
        assert mux.done == [3, 1]
        assert mux.finishing == []


async def test_a_reset_is_said_once() -> None:
    async with tcp_pair() as (near, _), trio.open_nursery() as nursery:
        codec = FakeCodec()
        mux = Plain(near, codec)
        mux.open(nursery, None)
        stream = MuxStream(mux, 1)
        stream.reset(2)
        stream.reset()
        assert codec.resets == [(1, 2)]


async def test_a_bug_in_the_codec_shows_in_the_reader() -> None:
    class BrokenCodec(FakeCodec):
        def data_to_send(self, limit: int) -> bytes:
            raise ZeroDivisionError("a bug")

    async with tcp_pair() as (near, _), trio.open_nursery() as nursery:
        mux = Plain(near, BrokenCodec())
        mux.open(nursery, None)
        with pytest.raises(ZeroDivisionError, match="a bug"):
            await mux.read()
