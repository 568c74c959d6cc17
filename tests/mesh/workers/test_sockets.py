"""Listening sockets between a parent and its workers."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from mesh.net.tcp import TcpListener, connect, listen
from mesh.workers.sockets import Bind, Borrower, Places, Release, serve_places
from tests.rig import LOOPBACK

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
FREE = Bind("web", LOOPBACK, 0)


@contextmanager
def some_places() -> Iterator[Places]:
    places = Places()
    yield places
    places.leave()


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def released(wanted: Bind) -> Release:
    return Release(wanted.name, wanted.address, wanted.port)


def refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((LOOPBACK, port)) == errno.ECONNREFUSED


def test_a_free_port_is_the_same_for_all_and_another_for_another_name() -> None:
    with some_places() as places:
        ports = {port_of(places.bind(worker, FREE)) for worker in range(3)}
        assert len(ports) == 1
        assert port_of(places.bind(0, Bind("other", LOOPBACK, 0))) not in ports


def test_one_worker_has_an_address_once() -> None:
    with some_places() as places:
        port = port_of(places.bind(0, FREE))
        fixed = Bind("b", LOOPBACK, port)
        with pytest.raises(OSError, match="in use"):
            places.bind(0, FREE)
        with pytest.raises(OSError, match="in use"):
            places.bind(1, fixed)  # ours already, under another name
        places.release(0, released(FREE))
        assert port_of(places.bind(1, fixed)) == port


def test_a_port_of_another_program_is_not_shared_even_if_it_would() -> None:
    with some_places() as places:
        stranger = listen(LOOPBACK, 0, reuse_port=True)
        with pytest.raises(OSError, match="in use"):
            places.bind(0, Bind("web", LOOPBACK, stranger.port))
        stranger.sock.close()


def test_what_was_queued_for_the_dead_waits_for_the_replacement() -> None:
    with some_places() as places:
        port = port_of(places.bind(0, FREE))
        places.orphan(0)
        with socket.create_connection((LOOPBACK, port)) as client:
            again = places.bind(0, FREE)
            again.setblocking(True)
            accepted, _ = again.accept()
            with accepted:
                client.sendall(b"x")
                assert accepted.recv(1) == b"x"


def test_the_share_of_one_who_does_not_come_back_goes_to_the_others() -> None:
    with some_places() as places:
        port = port_of(places.bind(0, FREE))
        places.bind(1, FREE)
        places.orphan(0)
        assert places.drop_orphans(0) == 1
        assert places.drop_orphans(1) == 0, "it lives"
        places.orphan(1)
        places.drop_orphans(1)
        assert refuses(port)
        assert port_of(places.bind(0, FREE)) == port, "the port stays known"


def test_a_listener_that_all_gave_up_is_closed() -> None:
    with some_places() as places:
        port = port_of(places.bind(0, FREE))
        places.bind(1, FREE)
        places.release(0, released(FREE))
        assert not refuses(port)
        places.release(1, released(FREE))
        places.release(1, released(FREE))
        assert refuses(port)


def test_who_leaves_binds_no_more() -> None:
    places = Places()
    port = port_of(places.bind(0, FREE))
    places.leave()
    assert refuses(port)
    with pytest.raises(OSError) as caught:
        places.bind(0, FREE)
    assert caught.value.errno == errno.ESHUTDOWN


async def test_descriptors_travel_and_closing_is_told() -> None:
    places = Places()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_places, ours, 0, places)
            borrower = Borrower(theirs)

            def bind() -> TcpListener:
                return borrower.bind("web", LOOPBACK, 0)

            # In a worker it blocks the loop, which is not the parent's; here it must not.
            mine = await trio.to_thread.run_sync(bind)
            assert mine.name == f"{LOOPBACK}:{mine.port}"
            client = await connect(LOOPBACK, mine.port)
            accepted = await mine.accept()
            await client.send(b"x")
            assert await accepted.receive() == b"x"
            client.close()
            accepted.close()
            with pytest.raises(OSError) as caught:
                await trio.to_thread.run_sync(bind)
            assert caught.value.errno == errno.EADDRINUSE
            mine.close()
            mine.close()
            again = await trio.to_thread.run_sync(bind)
            again.close()
            theirs.close()
    places.leave()


async def test_a_parent_that_is_gone_is_an_error_to_bind_and_none_to_close() -> None:
    places = Places()
    ours, theirs = socket.socketpair()
    borrower = Borrower(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_places, ours, 0, places)
        mine = await trio.to_thread.run_sync(borrower.bind, "web", LOOPBACK, 0)
        nursery.cancel_scope.cancel()
    ours.close()
    mine.close()
    with pytest.raises(OSError, match=r"[Bb]roken pipe|gone"):
        borrower.bind("web", LOOPBACK, 0)
    theirs.close()
    places.leave()
