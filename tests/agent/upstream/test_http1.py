"""One upstream connection: what goes out in one write, what comes back, and how each break is called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from agent.codec import http1_client
from agent.codec.headers import Headers
from agent.codec.message import CHUNKED, END, End, Limits, RequestHead
from agent.exchange.faults import ProxyFault
from agent.upstream.endpoint import Endpoint
from agent.upstream.http1 import Http1Connection
from agent.upstream.pool import Pool
from mesh.net.tcp import TcpTransport
from tests import rig
from tests.rig import Wire, endpoint, tcp_pair

pytestmark = pytest.mark.usefixtures("engine")


def get(path: bytes = b"/") -> RequestHead:
    return RequestHead(b"GET", path, Headers([(b"host", b"app")]), authority=b"app")


def post(length: int) -> RequestHead:
    return RequestHead(b"POST", b"/", Headers([(b"host", b"app")]), authority=b"app", content_length=length)


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Http1Connection, Wire]]:
    """A connection and its server."""
    with trio.fail_after(5):
        async with tcp_pair() as (client, server):
            yield (
                Http1Connection(client, http1_client(Limits(), rig.engine), Endpoint(endpoint(1)), Pool(), 0.0),
                Wire(server),
            )


async def body_of(connection: Http1Connection) -> bytes:
    body = b""
    while True:
        event = connection.next_event()
        if isinstance(event, End):
            return body
        if event is None:
            await connection.fill()
        else:
            body += event


async def test_an_exchange_and_the_next() -> None:
    async with pair() as (connection, server):
        for path in (b"/1", b"/2"):
            await connection.send_request(get(path), b"", END)
            assert (await server.message()).path == path
            await server.answer(body=path)
            assert (await connection.read_head()).status == 200
            assert await body_of(connection) == path
            assert connection.codec.start_next()
        assert connection.sent
        assert connection.received
        assert connection.bytes_out > 0
        assert connection.bytes_in > 0


async def test_a_small_request_is_one_write() -> None:
    async with pair() as (connection, server):
        await connection.send_request(post(5), b"hello", END)
        data = await server.transport.receive()
        assert data.endswith(b"\r\n\r\nhello")


async def test_a_body_in_pieces_with_trailers() -> None:
    async with pair() as (connection, server):
        await connection.send_request(post(CHUNKED), b"ab", None)
        await connection.send_data(b"cd")
        await connection.send_end(End(Headers([(b"x-sum", b"4")])))
        assert (await server.head()).headers[b"transfer-encoding"] == b"chunked"
        rest = await server.take(len(b"2\r\nab\r\n2\r\ncd\r\n0\r\nx-sum: 4\r\n\r\n"))
        assert rest == b"2\r\nab\r\n2\r\ncd\r\n0\r\nx-sum: 4\r\n\r\n"


async def test_the_end_of_a_body_of_known_length_needs_no_write() -> None:
    async with pair() as (connection, server):
        await connection.send_request(post(2), b"", None)
        await connection.send_data(b"ok")
        await connection.send_end()
        assert (await server.message()).body == b"ok"


async def test_informational_heads_come_one_by_one() -> None:
    async with pair() as (connection, server):
        await connection.send_request(get(), b"", END)
        await server.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
        assert (await connection.read_head()).status == 103
        assert (await connection.read_head()).status == 204
        assert await body_of(connection) == b""


async def test_a_body_until_close() -> None:
    async with pair() as (connection, server):
        await connection.send_request(get(), b"", END)
        await server.message()
        await server.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        server.close()
        await connection.read_head()
        assert await body_of(connection) == b"all of it"
        assert not connection.codec.start_next()


Break = Callable[[TcpTransport], Awaitable[None]]


async def close(server: TcpTransport) -> None:
    server.close()


async def reset(server: TcpTransport) -> None:
    server.reset()


@pytest.mark.parametrize("served", [0, 1])
@pytest.mark.parametrize("how", [close, reset])
async def test_a_server_that_leaves_instead_of_answering(how: Break, served: int) -> None:
    async with pair() as (connection, server):
        connection.served = served
        await connection.send_request(get(), b"", END)
        await server.message()
        await how(server.transport)  # type: ignore[arg-type]
        with pytest.raises(ProxyFault) as broken:
            await connection.read_head()
        assert (broken.value.flag, broken.value.sent, broken.value.reused) == ("UC", True, bool(served))


async def test_a_server_that_left_before_the_request() -> None:
    async with pair() as (connection, server):
        server.transport.reset()
        with pytest.raises(ProxyFault) as broken:
            await connection.send_request(get(), b"", END)
        assert broken.value.flag == "UC"
        assert connection.bytes_out == 0


async def test_a_body_cut_short() -> None:
    async with pair() as (connection, server):
        await connection.send_request(get(), b"", END)
        await server.message()
        await server.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        server.close()
        await connection.read_head()
        with pytest.raises(ProxyFault) as broken:
            await body_of(connection)
        assert broken.value.flag == "UC"


async def test_a_body_broken_by_a_reset() -> None:
    async with pair() as (connection, server):
        await connection.send_request(get(), b"", END)
        await server.message()
        await server.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
        await connection.read_head()
        server.transport.reset()
        with pytest.raises(ProxyFault) as broken:
            await body_of(connection)
        assert broken.value.flag == "UC"


async def test_a_head_that_is_no_http() -> None:
    async with pair() as (connection, server):
        await connection.send_request(get(), b"", END)
        await server.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        with pytest.raises(ProxyFault) as broken:
            await connection.read_head()
        assert (broken.value.flag, broken.value.status) == ("UPE", 502)


async def test_a_body_that_is_no_body() -> None:
    async with pair() as (connection, server):
        await connection.send_request(get(), b"", END)
        await server.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n")
        await connection.read_head()
        with pytest.raises(ProxyFault) as broken:
            await body_of(connection)
        assert broken.value.flag == "UPE"


async def test_close() -> None:
    async with pair() as (connection, server):
        connection.close()
        assert await server.rest() == b""
