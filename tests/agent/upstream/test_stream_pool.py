"""The book-keeping of one endpoint's HTTP/2 connections."""

from __future__ import annotations

import pytest
import trio

from agent.codec import http2_client
from agent.codec.http2 import Http2Limits
from agent.exchange.faults import ProxyFault, connect_failed
from agent.upstream.endpoint import Endpoint
from agent.upstream.http2 import Http2Connection
from agent.upstream.stream_pool import Opening, StreamPool
from tests.rig import endpoint, tcp_pair


async def pool_of(*rooms: int) -> StreamPool:
    """A pool of connections that allow so many streams each; nothing is ever sent on them."""
    pool = StreamPool()
    async with tcp_pair() as (near, _):
        for room in rooms:
            codec = http2_client(Http2Limits(), "auto", trio.current_time)
            codec.max_streams = room
            pool.connections.append(Http2Connection(near, codec, Endpoint(endpoint(1)), 0.0, lambda: None))
    return pool


async def test_the_first_with_room_is_taken() -> None:
    pool = await pool_of(1, 2)
    taken = [pool.take() for _ in range(4)]
    assert [len(each.leased) for each in pool.connections] == [1, 2]
    assert taken[3] is None


async def test_a_closing_connection_is_passed_over() -> None:
    pool = await pool_of(9, 9)
    pool.connections[0].closing = True
    pool.take()
    assert [len(each.leased) for each in pool.connections] == [0, 1]


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_the_last_request_of_a_connection(most: int) -> None:
    pool = await pool_of(9)
    pool.lend(pool.connections[0], most)
    taken = [pool.take(most) for _ in range(3)]
    assert sum(lease is not None for lease in taken) == most - 1
    assert pool.connections[0].closing


async def test_a_lease_knows_whether_its_connection_had_served() -> None:
    pool = await pool_of(9)
    first, second = pool.take(), pool.take()
    assert first is not None
    assert second is not None
    assert (first.reused, second.reused) == (False, True)


async def test_an_opening_tells_each_waiter_its_own_fault() -> None:
    opening = Opening()
    opening.fault = connect_failed("refused")
    opening.done.set()
    seen = []
    for _ in range(2):
        with pytest.raises(ProxyFault) as caught:
            await opening.finished()
        seen.append(caught.value)
    assert seen[0] is not seen[1]
    assert {(each.flag, each.reason, each.transport) for each in seen} == {
        ("UF", "remote_connection_failure", "refused")
    }


async def test_an_opening_that_was_given_up_is_no_fault() -> None:
    opening = Opening()
    opening.done.set()
    await opening.finished()
