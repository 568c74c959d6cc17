"""An HTTP/2 stream as a byte stream."""

from __future__ import annotations

import pytest
import trio

from agent.codec.message import END, End
from agent.exchange import faults
from agent.exchange.faults import ProxyFault
from agent.stream_transport import StreamTransport
from mesh.net.tcp import TcpTransport
from tests.rig import tcp_pair


class FakeStream:
    """Gives what it is told to give, and keeps what it is told to send."""

    def __init__(self, *events: bytes | End) -> None:
        self.fault: ProxyFault | None = None
        self.events = list(events)
        self.later: list[bytes | End] = []
        self.sent: list[bytes] = []
        self.resets = 0

    def next_event(self) -> bytes | End | None:
        return self.events.pop(0) if self.events else None

    async def fill(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self.later:
            self.fault = faults.client_gone()
            raise self.fault
        self.events.append(self.later.pop(0))

    async def send_data(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            raise self.fault
        self.sent.append(data)

    async def send_end(self) -> None:
        await self.send_data(b"<end>")

    def reset(self) -> None:
        self.resets += 1


async def over(stream: FakeStream) -> StreamTransport:
    async with tcp_pair() as (client, _):
        assert isinstance(client, TcpTransport)
        return StreamTransport(stream, client)


async def test_it_reads_to_the_end_and_again() -> None:
    stream = FakeStream(b"a")
    stream.later = [b"b", END]
    transport = await over(stream)
    transport.unread(b"0")
    assert [await transport.receive() for _ in range(5)] == [b"0", b"a", b"b", b"", b""]
    assert transport.peer_finished()
    assert not transport.quiet()
    assert not transport.peer_gone()


async def test_it_writes_and_half_closes() -> None:
    stream = FakeStream()
    transport = await over(stream)
    await transport.send(b"x")
    await transport.send_eof()
    await transport.drain()
    assert stream.sent == [b"x", b"<end>"]
    transport.close()
    transport.reset()
    assert stream.resets == 1


async def test_a_fault_is_a_broken_transport() -> None:
    stream = FakeStream()
    transport = await over(stream)
    assert transport.quiet()
    with pytest.raises(trio.BrokenResourceError, match="downstream_remote_disconnect"):
        await transport.receive()
    assert transport.peer_gone()
    assert transport.peer_finished()
    for write in (transport.send(b"x"), transport.send_eof()):
        with pytest.raises(trio.BrokenResourceError):
            await write


async def test_it_cannot_be_written_to_at_once() -> None:
    with pytest.raises(NotImplementedError):
        (await over(FakeStream())).send_nowait(b"x")
