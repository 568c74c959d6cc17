"""TCP transports over loopback: half-close, back-pressure, cancellation, and who learns of a broken peer."""

from __future__ import annotations

import errno
import socket

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.net import tcp
from mesh.net.batch import WriteBatch
from mesh.net.tcp import TcpListener, TcpTransport, connect, listen, resolve
from tests.rig import LOOPBACK, listening, settle, tcp_pair

BIG = bytes(range(256)) * 4096 * 8  # 8 MiB: more than both socket buffers hold


async def read_all(transport: TcpTransport) -> bytes:
    parts = []
    while data := await transport.receive():
        parts.append(data)
    return b"".join(parts)


async def test_each_direction_ends_by_itself() -> None:
    with trio.fail_after(5):
        async with tcp_pair() as (client, server):
            await client.send(b"question")
            await client.send_eof()
            assert await read_all(server) == b"question"
            await server.send(b"answer")
            server.close()
            assert await read_all(client) == b"answer"
            assert await client.receive() == b""


async def test_addresses() -> None:
    async with tcp_pair() as (client, server):
        assert client.remote == server.local
        assert client.local == server.remote
        assert client.remote.startswith("127.0.0.1:")


async def test_ipv6_addresses_are_bracketed() -> None:
    listener = listen("::1", 0)
    client = await connect("::1", listener.port)
    server = await listener.accept()
    assert client.remote == server.local == f"[::1]:{listener.port}" == listener.name
    for each in (client, server, listener):
        each.close()


@pytest.mark.parametrize("batched", [False, True])
async def test_a_big_write_waits_for_its_reader(batched: bool) -> None:
    with trio.fail_after(10):
        async with tcp_pair() as (client, server), trio.open_nursery() as nursery:
            if batched:
                client.batch_writes(WriteBatch(nursery))
            done = trio.Event()

            async def write() -> None:
                await client.send(BIG)
                done.set()
                await client.send_eof()

            nursery.start_soon(write)
            await settle()
            assert not done.is_set()
            assert await read_all(server) == BIG


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with tcp_pair() as (client, server):
        with trio.move_on_after(0):
            await server.receive()
        await client.send(b"late")
        assert await server.receive() == b"late"


async def test_cancellation_at_the_courtesy_checkpoint_loses_nothing() -> None:
    with trio.fail_after(5):
        async with tcp_pair() as (client, server):
            got = b""
            for turn in range(64):
                await client.send(b"%02d" % turn)
                with trio.CancelScope() as scope:
                    scope.cancel()
                    got += await server.receive()
                if scope.cancelled_caught:
                    got += await server.receive()
            assert got == b"".join(b"%02d" % turn for turn in range(64))


async def test_a_cancelled_send_says_so_and_the_transport_still_closes() -> None:
    async with tcp_pair() as (client, server):
        with trio.move_on_after(0) as scope:
            await client.send(BIG)
        assert scope.cancelled_caught
        client.close()
        assert len(await read_all(server)) < len(BIG)


async def test_a_busy_connection_lets_others_run() -> None:
    turns = 0
    async with tcp_pair() as (client, server), trio.open_nursery() as nursery:

        async def other() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        nursery.start_soon(other)
        for _ in range(100):
            await client.send(b"x")
            await server.receive()
        nursery.cancel_scope.cancel()
    assert turns >= 5


async def test_unread_comes_first() -> None:
    async with tcp_pair() as (client, server):
        await client.send(b"c")
        server.unread(b"b")
        server.unread(b"a")
        assert await server.receive() == b"ab"
        assert await server.receive() == b"c"


async def test_closing_wakes_a_waiting_reader_and_writer() -> None:
    woken = []
    with trio.fail_after(5):
        async with tcp_pair() as (client, _server), trio.open_nursery() as nursery:

            async def reader() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await client.receive()
                woken.append("reader")

            async def writer() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await client.send(BIG)
                woken.append("writer")

            nursery.start_soon(reader)
            nursery.start_soon(writer)
            await settle()
            client.close()
    assert sorted(woken) == ["reader", "writer"]


async def test_use_after_close() -> None:
    async with tcp_pair() as (client, _server):
        client.close()
        client.close()
        client.reset()
        for call in (client.receive(), client.send(b"x"), client.send_eof()):
            with pytest.raises(trio.ClosedResourceError):
                await call
        assert client.peer_gone()
        assert client.peer_finished()


async def test_a_reset_is_not_taken_for_an_end() -> None:
    async with tcp_pair() as (client, server):
        await client.send(b"half of a mess")
        client.reset()
        with pytest.raises(trio.BrokenResourceError):
            await read_all(server)
        with pytest.raises(trio.BrokenResourceError):
            await server.send(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await server.send_eof()


@pytest.mark.parametrize("waiting", ["reader", "writer"])
async def test_a_reset_breaks_who_waits(waiting: str) -> None:
    with trio.fail_after(5):
        async with tcp_pair() as (client, server), trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await (client.receive() if waiting == "reader" else client.send(BIG))

            nursery.start_soon(wait)
            await settle()
            server.reset()


async def test_peer_gone() -> None:
    async with tcp_pair() as (client, server):
        assert not client.peer_gone()
        assert not client.peer_finished()
        await server.send(b"last words")
        server.close()
        assert not client.peer_gone(), "there is something left to read"
        assert client.peer_finished(), "but nothing more will come"
        client.unread(await client.receive())
        assert not client.peer_gone()
        await client.receive()
        assert client.peer_gone()


async def test_quiet_is_neither_bytes_nor_the_end() -> None:
    async with tcp_pair() as (client, server):
        assert client.quiet()
        await server.send(b"unasked")
        assert not client.quiet()
        client.unread(await client.receive())
        assert not client.quiet()
        await client.receive()
        assert client.quiet()
        await server.send_eof()
        assert not client.quiet()
        client.close()
        assert not client.quiet()


async def test_a_reset_is_not_quiet() -> None:
    async with tcp_pair() as (client, server):
        server.reset()
        assert not client.quiet()


async def test_peer_gone_by_reset() -> None:
    async with tcp_pair() as (client, server):
        server.reset()
        assert client.peer_finished()
        assert client.peer_gone()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40_000), max_size=8), st.booleans())
def test_bytes_arrive_in_order_whoever_writes(pieces: list[bytes], batched: bool) -> None:
    async def main() -> None:
        with trio.fail_after(5):
            async with tcp_pair() as (client, server), trio.open_nursery() as nursery:
                if batched:
                    batch = WriteBatch(nursery)
                    trio.lowlevel.add_instrument(batch)
                    client.batch_writes(batch)
                got = []

                async def read() -> None:
                    got.append(await read_all(server))

                nursery.start_soon(read)
                for piece in pieces:
                    await client.send(piece)
                await client.send_eof()
        assert got == [b"".join(pieces)]

    trio.run(main)


async def test_connecting_where_nobody_listens() -> None:
    async with listening() as listener:
        port = listener.port
    with pytest.raises(OSError, match="Connection refused"):
        await connect(LOOPBACK, port)


async def test_a_cancelled_connect_leaves_no_socket() -> None:
    # nobody accepts here, and the backlog holds one: further SYNs stay unanswered
    listener = listen(LOOPBACK, 0, backlog=0)
    held = []
    for _ in range(8):
        with trio.move_on_after(0.05) as scope:
            held.append(await connect(LOOPBACK, listener.port))
        if scope.cancelled_caught:
            break
    assert scope.cancelled_caught
    for each in held:
        each.close()
    listener.close()


async def test_closing_a_listener_ends_a_waiting_accept() -> None:
    async with listening() as listener, trio.open_nursery() as nursery:

        async def accept() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await listener.accept()

        nursery.start_soon(accept)
        await settle()
        listener.close()
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()


class FakeListening:
    """A listening socket whose accept gives or raises what is left of `script`."""

    def __init__(self, script: list[object]) -> None:
        self.script = script

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    def accept(self) -> tuple[object, object]:
        found = self.script.pop(0)
        if isinstance(found, OSError):
            raise found
        return found, ("127.0.0.1", 2)


async def test_faults_of_a_dead_newcomer_do_not_end_accepting() -> None:
    async with tcp_pair() as (client, _server):
        dead = socket.socket()
        dead.close()
        fakes = [OSError(errno.ECONNABORTED, "gone"), OSError(errno.EHOSTUNREACH, "gone"), dead, client.sock.dup()]
        fake_socket = FakeListening(list(fakes))
        accepted = await TcpListener(fake_socket).accept()  # type: ignore[arg-type]
        assert accepted.remote == "127.0.0.1:2"
        accepted.close()


async def test_running_out_of_descriptors_is_told() -> None:
    fake_socket = FakeListening([OSError(errno.EMFILE, "too many open files")])
    with pytest.raises(OSError, match="too many open files"):
        await TcpListener(fake_socket).accept()  # type: ignore[arg-type]


async def test_a_port_in_use() -> None:
    async with listening() as listener:
        with pytest.raises(OSError, match="in use"):
            listen(LOOPBACK, listener.port)


async def test_several_workers_may_share_a_port() -> None:
    first = listen(LOOPBACK, 0, reuse_port=True)
    second = listen(LOOPBACK, first.port, reuse_port=True)
    assert first.port == second.port
    first.close()
    second.close()


async def test_resolving() -> None:
    assert await resolve("10.1.2.3") == ("10.1.2.3",)
    assert await resolve("::1") == ("::1",)
    assert "127.0.0.1" in await resolve("localhost")
    with pytest.raises(OSError):
        await resolve("")


# Batched writes


async def batched_pair(nursery: trio.Nursery, pair: tuple[TcpTransport, TcpTransport]) -> WriteBatch:
    batch = WriteBatch(nursery)
    pair[0].batch_writes(batch)
    return batch


async def test_a_small_write_waits_for_the_batch_and_an_end_flushes_it() -> None:
    async with trio.open_nursery() as nursery, tcp_pair() as pair:
        client, server = pair
        batch = await batched_pair(nursery, pair)
        await client.send(b"one")
        with pytest.raises(BlockingIOError):
            server.sock.recv(10)
        batch.flush()
        assert server.sock.recv(10) == b"one"
        await client.send(b"two")
        await client.send_eof()
        assert await read_all(server) == b"two"


async def test_closing_and_resetting_write_what_waits_first() -> None:
    async with trio.open_nursery() as nursery:
        async with tcp_pair() as pair:
            await batched_pair(nursery, pair)
            await pair[0].send(b"last words")
            pair[0].close()
            assert await read_all(pair[1]) == b"last words"
        async with tcp_pair() as pair:
            await batched_pair(nursery, pair)
            await pair[0].send(b"last words")
            pair[0].reset()
            assert await pair[1].receive() == b"last words"
            with pytest.raises(trio.BrokenResourceError):
                await pair[1].receive()


async def fill(transport: TcpTransport) -> int:
    """Write until the socket takes no more; how much that was."""
    sent = 0
    while True:
        try:
            sent += transport.sock.send(b"x" * 65536)
        except BlockingIOError:
            return sent


async def test_a_batched_write_that_blocks_is_finished_by_a_task() -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery, tcp_pair() as pair:
            client, server = pair
            batch = await batched_pair(nursery, pair)
            before = await fill(client)
            await client.send(b"tail")
            batch.flush()
            client.close()  # closes when the tail is written
            got = await read_all(server)
            assert len(got) == before + 4
            assert got.endswith(b"tail")


async def test_the_next_send_waits_for_the_blocked_one() -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery, tcp_pair() as pair:
            client, server = pair
            batch = await batched_pair(nursery, pair)
            before = await fill(client)
            await client.send(b"one")
            batch.flush()

            async def next_send() -> None:
                await client.send(b"two")
                await client.send_eof()

            nursery.start_soon(next_send)
            await settle()
            got = await read_all(server)
            assert got[before:] == b"onetwo"


async def test_a_reset_does_not_wait_for_a_blocked_write() -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery, tcp_pair() as pair:
            client, server = pair
            batch = await batched_pair(nursery, pair)
            await fill(client)
            await client.send(b"tail")
            batch.flush()
            await settle()
            client.reset()
            assert client.sock.fileno() == -1
            with pytest.raises(trio.BrokenResourceError):
                await read_all(server)


async def test_a_batched_write_to_a_broken_peer_is_told_by_the_next_send() -> None:
    async with trio.open_nursery() as nursery, tcp_pair() as pair:
        client, server = pair
        batch = await batched_pair(nursery, pair)
        server.reset()
        await client.send(b"x")
        batch.flush()
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError):
                await client.send(b"y")


async def test_a_peer_that_reads_nothing_breaks_a_batched_write(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery, tcp_pair() as pair:
        client, _server = pair
        batch = await batched_pair(nursery, pair)
        await fill(client)
        await client.send(b"tail")
        batch.flush()
        await trio.sleep(tcp.STALLED + 1)
        with pytest.raises(trio.BrokenResourceError, match="reads nothing"):
            await client.send(b"more")
