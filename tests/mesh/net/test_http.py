"""The control ports' HTTP server: framing, refusals, and faults that stay in their connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from mesh.net import http
from mesh.net.http import Request, Response, serve_http
from tests.rig import Message, Wire, connected

seen: list[Request] = []


async def pages(request: Request) -> Response:
    """A handler with one page for each way to answer."""
    seen.append(request)
    if request.path == "/bug":
        raise KeyError("no such thing")
    if request.path == "/bad-header":
        return Response(headers={"x-note": "two\nlines"})
    if request.path == "/odd-status":
        return Response(299, b"odd")
    if request.path == "/empty":
        return Response(204)
    return Response(200, request.body or request.path.encode(), headers={"x-page": "yes"})


@asynccontextmanager
async def port() -> AsyncIterator[int]:
    seen.clear()
    with trio.fail_after(300):
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(serve_http, listener, pages)
            yield listener.socket.getsockname()[1]
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def client() -> AsyncIterator[Wire]:
    async with port() as number, connected(number) as wire:
        yield wire


async def refused(raw: bytes) -> Message:
    """The answer to bytes that make no request; the connection ends after it."""
    async with client() as wire:
        await wire.send(raw)
        answer = await wire.message()
        assert await wire.rest() == b""
        return answer


async def test_a_request_is_taken_apart() -> None:
    async with client() as wire:
        answer = await wire.ask(b"/a%20b?x=1&x=2&y=", extra=b"X-Trace: 7\r\n")
        assert (answer.status, answer.body) == (200, b"/a b")
        assert answer.headers[b"x-page"] == b"yes"
        assert answer.headers[b"content-type"] == b"text/plain; charset=utf-8"
    [request] = seen
    assert (request.method, request.path, request.query) == ("GET", "/a b", {"x": "2", "y": ""})
    assert request.headers["x-trace"] == "7"


async def test_connections_are_kept_and_requests_may_be_pipelined() -> None:
    async with client() as wire:
        for path in (b"/1", b"/2"):
            assert (await wire.ask(path)).body == path
        await wire.send(b"GET /3 HTTP/1.1\r\nhost: a\r\n\r\nGET /4 HTTP/1.1\r\nhost: a\r\n\r\n")
        assert [(await wire.message()).body, (await wire.message()).body] == [b"/3", b"/4"]


async def test_bodies_by_length_and_chunked() -> None:
    async with client() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello")
        assert (await wire.message()).body == b"hello"
        await wire.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert (await wire.message()).body == b"abc"


async def test_expect_continue() -> None:
    async with client() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert (await wire.message()).status == 100
        await wire.send(b"ok")
        assert (await wire.message()).body == b"ok"


async def test_head_has_no_body() -> None:
    async with client() as wire:
        await wire.send(b"HEAD /abc HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = await wire.head()
        assert answer.headers[b"content-length"] == b"4"
        assert (await wire.ask(b"/next")).body == b"/next"


async def test_connection_close_is_obeyed() -> None:
    async with client() as wire:
        assert (await wire.ask(extra=b"connection: close\r\n")).status == 200
        assert await wire.rest() == b""


async def test_a_bug_in_a_page_is_a_500_and_the_port_goes_on() -> None:
    async with client() as wire:
        answer = await wire.ask(b"/bug")
        assert (answer.status, answer.body) == (500, b"KeyError: 'no such thing'\n")
        assert (await wire.ask(b"/next")).status == 200


@pytest.mark.parametrize("path", [b"/bad-header", b"/odd-status"])
async def test_an_answer_that_cannot_be_sent_is_a_500_and_the_port_goes_on(path: bytes) -> None:
    async with port() as number:
        async with connected(number) as wire:
            answer = await wire.ask(path)
            assert answer.status == 500
            assert b"Error" in answer.body
        async with connected(number) as wire:
            assert (await wire.ask()).status == 200


async def test_an_empty_answer() -> None:
    async with client() as wire:
        await wire.send(b"GET /empty HTTP/1.1\r\nhost: a\r\n\r\n")
        assert (await wire.message()).status == 204
        assert (await wire.ask()).status == 200


async def test_garbage_is_answered() -> None:
    answer = await refused(b"\x16\x03\x01 no HTTP\r\n\r\n")
    assert answer.status == 400
    assert answer.headers[b"connection"] == b"close"


async def test_a_target_that_is_no_url_is_answered() -> None:
    assert (await refused(b"GET //[ HTTP/1.1\r\nhost: a\r\n\r\n")).status == 400
    assert seen == []


async def test_a_body_too_large_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_BODY", 10)
    assert (await refused(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n" + b"x" * 11)).status == 413


async def test_a_client_that_hangs_up_costs_nobody_else() -> None:
    async with port() as number:
        for raw in (b"", b"GET / HT", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf"):
            async with connected(number) as wire:
                await wire.send(raw)
            async with connected(number) as wire:
                await wire.send(raw)
                wire.transport.reset()
        async with connected(number) as wire:
            assert (await wire.ask()).status == 200


async def test_an_idle_connection_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    async with client() as wire:
        started = trio.current_time()
        assert await wire.rest() == b""
        assert trio.current_time() - started == http.IDLE


async def test_a_slow_request_is_closed_too(autojump_clock: trio.testing.MockClock) -> None:
    async with client() as wire:
        await wire.send(b"GET / HTTP/1.1\r\n")
        assert await wire.rest() == b""


async def test_a_client_that_reads_nothing_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    body = b"x" * 8_000_000
    async with client() as wire, trio.open_nursery() as nursery:

        async def ask() -> None:
            await wire.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

        nursery.start_soon(ask)
        await trio.sleep(3 * http.IDLE)
        assert len(await wire.rest()) < len(body)
