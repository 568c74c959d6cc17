"""Back-pressure from one side's window to the other side's reading, and what it costs in memory."""

from __future__ import annotations

import pytest
import trio
from hyperframe.frame import WindowUpdateFrame

from tests.h2_rig import Http2Peer, Http2Upstream, PeerStream, gateway, http2_connected
from tests.rig import ScriptedUpstream, Wire, settle, until

pytestmark = pytest.mark.usefixtures("engine")

PIECE = b"x" * 16384
ENDLESS = 1_000_000_000
SLACK = 1_500_000  # bytes that the system's own buffers may take once more as they grow


class Pour:
    """An upstream of either version whose answer has no end; `given` is what the proxy has taken of it, buffers of
    the system included."""

    def __init__(self) -> None:
        self.given = 0

    async def http1(self, upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.message()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % ENDLESS)
        while True:
            await wire.send(PIECE)
            self.given += len(PIECE)

    async def http2(self, peer: Http2Peer, stream: PeerStream) -> None:
        await peer.send_head(stream, [(b":status", b"200")])
        while stream.reset is None:
            await peer.send_data(stream, PIECE)
            self.given += len(PIECE)

    def upstream(self, version: int) -> ScriptedUpstream:
        return Http2Upstream(self.http2) if version == 2 else ScriptedUpstream(self.http1)


async def still(pour: Pour) -> int:
    """What was given when nothing moves any more."""
    before = -1
    while before != pour.given:
        before = pour.given
        for _ in range(5):
            await settle()
    return before


@pytest.mark.parametrize("upstream", [1, 2])
async def test_a_closed_window_stops_the_upstream(upstream: int) -> None:
    pour = Pour()
    async with gateway(pour.upstream(upstream)) as served, http2_connected(served.port(), hold=True) as client:
        stream = await client.begin()
        await client.until(lambda: len(stream.body) == 65535)
        first = await still(pour)
        queued = max(each.mux.codec.queued(each.number) for each in served.dataplane.exchanges)  # type: ignore[attr-defined]
        assert queued < 200 * 1024
        assert first < (600_000 if upstream == 2 else 8_000_000)  # an HTTP/1 socket buffers as the system likes
        for turn in range(2, 12):  # a slow reader gets on, and costs no more for it
            await client.credit(stream, 65535)
            await client.until(lambda turn=turn: len(stream.body) == turn * 65535)
        assert await still(pour) - first < 10 * 65535 + SLACK
        await client.send_reset(stream, 8)
        await until(lambda: served.records)


async def test_a_client_that_does_not_read_stops_the_upstream() -> None:
    pour = Pour()
    upstream = pour.upstream(2)
    async with gateway(upstream) as served:
        async with http2_connected(served.port()) as client:
            stream = await client.begin()
            await client.until(lambda: stream.body)
            client.pause()
            first = await still(pour)
            client.resume()
            await client.until(lambda: len(stream.body) > first)
            client.pause()
            await still(pour)
        await served.settled()
        await until(lambda: upstream.seen[0].reset is not None)  # type: ignore[attr-defined]


async def test_one_stream_that_stalls_holds_up_no_other() -> None:
    pour = Pour()

    async def script(peer: Http2Peer, stream: PeerStream) -> None:
        if stream.head[b":path"] == b"/pour":
            await pour.http2(peer, stream)
        await peer.reply(stream, body=b"small")

    async with gateway(Http2Upstream(script)) as served, http2_connected(served.port(), hold=True) as client:
        stalled = await client.begin(b"/pour")
        await client.until(lambda: len(stalled.body) == 65535)
        await still(pour)
        await client.send_frames(WindowUpdateFrame(0, window_increment=10_000))  # the stalled one has used it up
        assert bytes((await client.ask(b"/small")).body) == b"small"
        await client.send_reset(stalled, 8)
        await until(lambda: len(served.records) == 2)


@pytest.mark.parametrize("upstream", [1, 2])
async def test_an_upstream_that_does_not_read_stops_the_client(upstream: int) -> None:
    async def deaf1(up: ScriptedUpstream, wire: Wire) -> None:
        await trio.sleep_forever()

    async def deaf2(peer: Http2Peer, stream: PeerStream) -> None:
        await peer.until(lambda: stream.reset is not None)

    up = Http2Upstream(deaf2, hold=True) if upstream == 2 else ScriptedUpstream(deaf1)
    sent = 0
    async with gateway(up) as served, http2_connected(served.port()) as client:
        stream = await client.begin(method=b"POST", end=False)
        async with trio.open_nursery() as nursery:

            async def pour() -> None:
                nonlocal sent
                while True:
                    await client.send_data(stream, PIECE)
                    sent += len(PIECE)

            nursery.start_soon(pour)
            before = -1
            while before != sent:
                before = sent
                for _ in range(5):
                    await settle()
            nursery.cancel_scope.cancel()
        assert sent < (700_000 if upstream == 2 else 8_000_000)
        await client.send_reset(stream, 8)
        await until(lambda: served.records)
        assert served.records[0].flags == ("DC",)


async def test_windows_are_given_back_when_streams_end_unread() -> None:
    """Cancelled downloads must not use up the window of the shared connection."""
    pour = Pour()
    upstream = Http2Upstream(pour.http2)
    async with gateway(upstream) as served, http2_connected(served.port(), hold=True) as client:
        for turn in range(12):
            stream = await client.begin()
            await client.until(lambda stream=stream: stream.body)
            await still(pour)
            await client.send_reset(stream, 8)
            await client.send_frames(WindowUpdateFrame(0, window_increment=len(stream.body)))
            await until(lambda turn=turn: len(served.records) == turn + 1)
        assert upstream.accepted == 1
        assert pour.given > 1024 * 1024  # more than the connection's window
