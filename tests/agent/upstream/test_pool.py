"""The idle list: last in first out, closed peers skipped, age at the bottom."""

from __future__ import annotations

from agent.codec import http1_client
from agent.codec.message import Limits
from agent.upstream.endpoint import Endpoint
from agent.upstream.http1 import Http1Connection
from agent.upstream.pool import Pool
from tests.rig import endpoint


class FakeTransport:
    """Can be closed by either side."""

    def __init__(self) -> None:
        self.closed = False
        self.gone = False

    def close(self) -> None:
        self.closed = True

    def quiet(self) -> bool:
        return not self.gone


def filled(*ages: float) -> tuple[Pool, list[Http1Connection]]:
    """A pool at time 100 whose connections were given back that long ago, oldest first."""
    pool = Pool()
    made = []
    for age in ages:
        fake = FakeTransport()
        connection = Http1Connection(fake, http1_client(Limits()), Endpoint(endpoint(1)), pool, 0.0)  # type: ignore[arg-type]
        pool.give(connection, 100 - age)
        made.append(connection)
    return pool, made


def leave(connection: Http1Connection) -> None:
    connection.transport.gone = True  # type: ignore[attr-defined]


def test_the_last_one_given_is_taken_first() -> None:
    pool, [old, new] = filled(2, 1)
    assert [pool.take(), pool.take(), pool.take()] == [new, old, None]


def test_connections_that_the_peer_closed_are_skipped_and_kept_for_counting() -> None:
    pool, [old, new] = filled(2, 1)
    leave(new)
    assert pool.take() is old
    assert pool.closed == [new]
    assert new.transport.closed  # type: ignore[attr-defined]


def test_expiry_takes_the_old_and_the_gone() -> None:
    pool, [oldest, gone, kept] = filled(60, 2, 1)
    leave(gone)
    pool.expire(100, 60)
    assert pool.idle == [kept]
    assert pool.closed == [oldest, gone]


def test_without_idle_timeout_only_the_gone_expire() -> None:
    pool, [old, gone] = filled(10_000, 2)
    leave(gone)
    pool.expire(100, 0)
    assert pool.idle == [old]


def test_drain() -> None:
    pool, made = filled(2, 1)
    pool.drain()
    assert pool.idle == []
    assert pool.closed == made
    assert all(connection.transport.closed for connection in made)  # type: ignore[attr-defined]
