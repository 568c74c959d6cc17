"""A stream as a transport: data, ends, resets and faults in a transport's words."""

from __future__ import annotations

import pytest
import trio

from agent.codec.message import END, End
from agent.exchange.faults import ProxyFault, client_gone
from agent.stream_transport import StreamTransport
from tests.rig import tcp_pair


class FakeStream:
    """Gives `events` in order; then `fault`, if there is one."""

    def __init__(self, *events: bytes | End, fault: ProxyFault | None = None) -> None:
        self.fault = fault
        self.events = list(events)
        self.sent: list[bytes | str] = []

    def next_event(self) -> bytes | End | None:
        return self.events.pop(0) if self.events else None

    async def fill(self) -> None:
        await self._way()

    async def send_data(self, data: bytes) -> None:
        await self._way()
        self.sent.append(data)

    async def send_end(self) -> None:
        await self._way()
        self.sent.append("end")

    def reset(self) -> None:
        self.sent.append("reset")

    async def _way(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault


async def over(stream: FakeStream) -> StreamTransport:
    async with tcp_pair() as (near, _):
        return StreamTransport(stream, near)


async def test_bytes_come_in_order_and_end_once() -> None:
    transport = await over(FakeStream(b"one", b"two", END))
    transport.unread(b"zero")
    assert [await transport.receive() for _ in range(5)] == [b"zero", b"one", b"two", b"", b""]
    assert transport.peer_finished()
    assert not transport.peer_gone()


async def test_what_is_sent() -> None:
    stream = FakeStream()
    transport = await over(stream)
    await transport.send(b"hello")
    await transport.send_eof()
    await transport.drain()
    transport.close()
    transport.reset()
    assert stream.sent == [b"hello", "end", "reset"]


async def test_a_fault_is_a_broken_transport() -> None:
    transport = await over(FakeStream(b"last", fault=client_gone()))
    assert await transport.receive() == b"last"
    for act in (transport.receive, lambda: transport.send(b"x"), transport.send_eof):
        with pytest.raises(trio.BrokenResourceError):
            await act()
    assert transport.peer_gone()
    assert transport.peer_finished()
    assert not transport.quiet()


async def test_quiet_until_something_waits() -> None:
    transport = await over(FakeStream())
    assert transport.quiet()
    transport.unread(b"x")
    assert not transport.quiet()


async def test_it_cannot_be_written_to_without_waiting() -> None:
    transport = await over(FakeStream())
    with pytest.raises(NotImplementedError):
        transport.send_nowait(b"x")
