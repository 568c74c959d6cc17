"""Bodies on their way through: every framing in both directions, early answers, and memory that stays bounded."""

from __future__ import annotations

import pytest
import trio

from tests.agent.exchange.scripts import Step, ok, steps
from tests.rig import HungUp, Script, ScriptedUpstream, Wire, idle_counts, serving, settle, until, web

pytestmark = pytest.mark.usefixtures("engine")

MIB = 1024 * 1024


async def raw(wire: Wire, request: bytes) -> tuple[bytes, bytes]:
    """Head and body bytes of the answer to the last request of a connection."""
    await wire.send(request)
    head, _, body = (await wire.rest()).partition(b"\r\n\r\n")
    return head.lower(), body


CLOSE = b"GET / HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n"
HEAD = CLOSE.replace(b"GET", b"HEAD")


@pytest.mark.parametrize(
    ("answer", "then", "field", "body"),
    [
        (b"200 OK\r\ncontent-length: 5\r\n\r\nhello", "go on", b"content-length: 5", b"hello"),
        (b"200 OK\r\ncontent-length: 0\r\n\r\n", "go on", b"content-length: 0", b""),
        (
            b"200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            "go on",
            b"transfer-encoding: chunked",
            b"5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            b"200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n",
            "go on",
            b"trailer: x-sum",
            b"2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n",
        ),
        (b"200 OK\r\n\r\nhello", "close", b"transfer-encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
        (b"204 No Content\r\n\r\n", "go on", b"204", b""),
        (b"304 Not Modified\r\ncontent-length: 99\r\n\r\n", "go on", b"content-length: 99", b""),
    ],
)
async def test_an_answer_keeps_its_body(answer: bytes, then: str, field: bytes, body: bytes) -> None:
    async with ScriptedUpstream(steps(Step(b"HTTP/1.1 " + answer, then))).running() as upstream:
        async with serving(web(upstream.port)) as proxy, proxy.connect() as wire:
            with trio.fail_after(5):
                head, got = await raw(wire, CLOSE)
    assert field in head
    assert got == body
    assert proxy.records[0].flags == ()
    assert proxy.records[0].bytes_sent == len(head) + 4 + len(body)


async def test_an_answer_to_head_has_the_length_and_no_body() -> None:
    async with ScriptedUpstream(steps(Step(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"))).running() as upstream:
        async with serving(web(upstream.port)) as proxy, proxy.connect() as wire:
            with trio.fail_after(5):
                head, body = await raw(wire, HEAD)
    assert b"content-length: 5" in head
    assert body == b""


async def test_an_http10_client_gets_the_body_until_the_end_of_the_connection() -> None:
    answer = Step(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    async with ScriptedUpstream(steps(answer)).running() as upstream:
        async with serving(web(upstream.port)) as proxy, proxy.connect() as wire:
            with trio.fail_after(5):
                head, body = await raw(wire, b"GET / HTTP/1.0\r\nhost: app\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"hello"
    assert proxy.records[0].protocol == "HTTP/1.0"


async def test_one_connection_serves_one_exchange_after_the_other() -> None:
    async with ScriptedUpstream().running() as upstream, serving(web(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            with idle_counts(proxy.cluster()):
                for path in (b"/a", b"/b", b"/c"):
                    assert (await wire.ask(path)).body == path
        await proxy.settled()
    assert upstream.accepted == 1
    assert [record.response_code for record in proxy.records] == [200, 200, 200]


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with ScriptedUpstream().running() as upstream, serving(web(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            await wire.send(b"GET /a HTTP/1.1\r\nhost: app\r\n\r\nGET /b HTTP/1.1\r\nhost: app\r\n\r\n")
            assert [(await wire.message()).body for _ in range(2)] == [b"/a", b"/b"]


def reading_until(end: bytes, got: list[bytes]) -> Script:
    """Keep what comes up to `end`, then answer."""

    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        data = b""
        while not data.endswith(end):
            more = await wire.transport.receive()
            if not more:
                raise HungUp
            data += more
        got.append(data)
        await wire.send(ok().data)

    return script


async def test_a_chunked_request_keeps_its_pieces_and_trailers() -> None:
    got: list[bytes] = []
    async with ScriptedUpstream(reading_until(b"x-sum: 7\r\n\r\n", got)).running() as upstream:
        async with serving(web(upstream.port)) as proxy, proxy.connect() as wire:
            with trio.fail_after(5):
                await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n")
                await settle()
                await wire.send(b"2\r\nhi\r\n")
                await settle()
                await wire.send(b"0\r\nx-sum: 7\r\n\r\n")
                assert (await wire.message()).status == 200
    assert got[0].endswith(b"\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n")


async def test_a_short_body_is_sent_on_in_one_piece_when_all_is_there() -> None:
    async with ScriptedUpstream().running() as upstream, serving(web(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 6\r\n\r\nhal")
            await settle()
            assert upstream.accepted == 0
            await wire.send(b"ves")
            assert (await wire.message()).body == b"halves"


async def test_a_long_body_streams() -> None:
    body = b"x" * 300_000
    async with ScriptedUpstream().running() as upstream, serving(web(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            with trio.fail_after(5), idle_counts(proxy.cluster()):
                await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: %d\r\n\r\n" % len(body))
                await until(lambda: upstream.accepted)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wire.send, body)
                    assert (await wire.message()).body == body
                assert (await wire.ask(b"/next")).body == b"/next"
    assert upstream.accepted == 1


async def test_informational_answers_go_to_clients_that_know_them() -> None:
    answer = Step(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + ok().data)
    async with ScriptedUpstream(steps(answer)).running() as upstream, serving(web(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            hints = await wire.ask()
            assert (hints.status, hints.headers[b"link"]) == (103, b"</a>")
            assert (await wire.message()).body == b"ok"
        async with proxy.connect() as wire:
            with trio.fail_after(5):
                head, body = await raw(wire, b"GET / HTTP/1.0\r\nhost: app\r\n\r\n")
    assert head.startswith(b"http/1.1 200")
    assert body == b"ok"


async def test_expect_continue_is_between_the_two_ends() -> None:
    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        upstream.requests.append(await wire.head())
        await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await wire.answer(body=await wire.take(4))

    async with ScriptedUpstream(script).running() as upstream, serving(web(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            with trio.fail_after(5):
                await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
                assert (await wire.head()).status == 100
                await wire.send(b"body")
                assert (await wire.message()).body == b"body"
    assert upstream.requests[0].headers[b"expect"] == b"100-continue"


@pytest.mark.parametrize("framing", [b"content-length: 1000000", b"transfer-encoding: chunked"])
async def test_an_early_answer_comes_while_the_request_still_streams(framing: bytes) -> None:
    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        upstream.requests.append(await wire.head())
        await wire.answer(413, b"too large")
        await wire.rest()

    async with ScriptedUpstream(script).running() as upstream, serving(web(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            with trio.fail_after(5), idle_counts(proxy.cluster()):
                await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\n%s\r\n\r\n" % framing)
                answer = await wire.message()
                await until(lambda: not upstream.open)
                wire.close()
                await proxy.settled()
    assert (answer.status, answer.body) == (413, b"too large")
    assert proxy.records[0].response_code == 413


async def test_a_client_that_reads_slowly_holds_the_upstream_back() -> None:
    total = 48 * MIB
    sent = 0

    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        nonlocal sent
        await wire.message()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        piece = b"x" * 65536
        while sent < total:
            await wire.send(piece)
            sent += len(piece)

    async with ScriptedUpstream(script).running() as upstream, serving(web(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            with trio.fail_after(20):
                await wire.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
                await settle()
                held = sent
                await settle()
                assert held == sent < total  # what is on its way fits in the kernel's buffers
                assert (await wire.head()).status == 200
                left = total
                while left:
                    left -= len(await wire.take(min(left, 65536)))
    assert sent == total


async def test_an_upstream_that_reads_slowly_holds_the_client_back() -> None:
    total = 48 * MIB
    go = trio.Event()

    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.head()
        await go.wait()
        left = total
        while left:
            left -= len(await wire.take(min(left, 65536)))
        await wire.answer(body=b"all of it")

    sent = 0
    async with ScriptedUpstream(script).running() as upstream, serving(web(upstream.port)) as proxy:
        async with proxy.connect() as wire, trio.open_nursery() as nursery:

            async def upload() -> None:
                nonlocal sent
                await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: %d\r\n\r\n" % total)
                piece = b"x" * 65536
                while sent < total:
                    await wire.send(piece)
                    sent += len(piece)

            with trio.fail_after(20):
                nursery.start_soon(upload)
                await settle()
                held = sent
                await settle()
                assert held == sent < total
                go.set()
                assert (await wire.message()).body == b"all of it"


async def test_a_short_body_that_stalls_is_sent_on_and_answered_early() -> None:
    async def eager(upstream: ScriptedUpstream, wire: Wire) -> None:
        await wire.head()
        await wire.take(4)
        await wire.answer(body=b"enough")
        await wire.rest()

    async with ScriptedUpstream(eager).running() as upstream:
        async with serving(web(upstream.port)) as proxy, proxy.connect() as wire:
            with trio.fail_after(5):
                await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 1000\r\n\r\npart")
                assert (await wire.message()).body == b"enough"
                assert await wire.rest() == b""
