"""Which connection the next stream is opened on."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from agent.exchange import faults
from agent.exchange.faults import ProxyFault
from agent.upstream.stream_pool import Opening, StreamPool


class FakeConnection:
    """Has room for so many."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.served = 0
        self.closing = False

    @property
    def has_room(self) -> bool:
        return not self.closing and self.served < self.room

    def lease(self) -> Any:
        self.served += 1
        return self


def pool(*connections: FakeConnection) -> StreamPool:
    made = StreamPool()
    made.connections.extend(connections)  # type: ignore[arg-type]
    return made


def test_the_first_with_room_is_filled_before_the_next() -> None:
    one, two = FakeConnection(2), FakeConnection(1)
    made = pool(one, two)
    assert [made.take() for _ in range(4)] == [one, one, two, None]
    assert StreamPool().take() is None


def test_a_connection_closes_after_its_share_of_requests() -> None:
    one = FakeConnection(100)
    made = pool(one)
    assert [made.take(2) for _ in range(3)] == [one, one, None]
    assert one.closing


async def test_those_who_wait_hear_why_it_was_not_opened() -> None:
    opening = Opening()
    failed: list[str] = []

    async def wait() -> None:
        with pytest.raises(ProxyFault) as caught:
            await opening.finished()
        failed.append(caught.value.transport)
        caught.value.tell_retried()

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(wait)
        opening.fault = faults.connect_failed("Connection refused")
        opening.done.set()
    assert failed == ["Connection refused"] * 2
    assert b"retried" not in opening.fault.body, "each of them has a fault of its own"


async def test_those_who_wait_go_on_when_it_was_given_up() -> None:
    opening = Opening()
    opening.done.set()
    await opening.finished()
