"""What a connectionPool says of HTTP/2: so many streams at once, and a PING for a silent peer."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.h2_wire import H2Upstream, H2Wire, h2_client, h2_echo, web2
from tests.rig import serving, until

pytestmark = pytest.mark.usefixtures("engine")


async def test_the_configured_limit_of_streams() -> None:
    gate = trio.Event()

    async def wait(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        await gate.wait()
        await h2_echo(upstream, wire, number)

    upstream = H2Upstream(wait)
    settings = {"max_concurrent_streams": 2}
    async with upstream.running(), serving(web2(upstream.port, connection=settings)) as served:
        async with h2_client(served.port()) as wire:
            numbers = [await wire.open() for _ in range(5)]
            await until(lambda: len(upstream.requests) == 5)
            assert upstream.accepted == 3
            gate.set()
            assert {(await wire.answered(number)).status for number in numbers} == {200}


async def test_a_silent_peer_is_asked_and_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async def hang(upstream: H2Upstream, wire: H2Wire, number: int) -> None:
        await trio.sleep_forever()

    settings = {"http2_keepalive": (5.0, 3.0)}
    upstream = H2Upstream(hang)
    async with upstream.running(), serving(web2(upstream.port, connection=settings)) as served:
        async with h2_client(served.port()) as wire:
            number = await wire.open()
            await trio.sleep(60)
            assert not wire.streams[number].over, "it answers its pings"
        assert served.refused() == {}
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:

        async def never(stream: trio.SocketStream) -> None:
            while await stream.receive_some(4096):
                pass

        nursery.start_soon(trio.serve_listeners, never, listeners)
        async with serving(web2(port, connection=settings)) as served, h2_client(served.port()) as wire:
            number = await wire.open()
            assert (await wire.answered(number, seconds=60)).status == 503
            assert served.refused() == {("upstream_http2", "keepalive_timeout"): 1}
        nursery.cancel_scope.cancel()
