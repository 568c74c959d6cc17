"""Load that misbehaves on purpose, and the app that does so too. Trio, loopback, every wait with a deadline."""

from __future__ import annotations

import random
from collections import Counter

import trio

_DEADLINE = 10.0
_BODY = b"x" * 2000
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
_GET = b"GET %s HTTP/1.1\r\nhost: app.soak.test\r\n\r\n"


async def serve_app(stream: trio.SocketStream) -> None:
    """A small HTTP/1.1 server. /die sends half a body and closes; /slow waits before it answers."""
    pending = b""
    with trio.move_on_after(120):
        try:
            async with stream:
                while True:
                    while b"\r\n\r\n" not in pending:
                        chunk = await stream.receive_some(65536)
                        if not chunk:
                            return
                        pending += chunk
                    head, _, pending = pending.partition(b"\r\n\r\n")
                    pending = await _swallow_body(stream, head, pending)
                    path = head.split(b" ", 2)[1]
                    if path == b"/die":
                        await stream.send_all(_OK[: len(_OK) // 2])
                        return
                    if path == b"/slow":
                        await trio.sleep(0.3)
                    await stream.send_all(_OK)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the proxy hung up, as some clients make it do


async def _swallow_body(stream: trio.SocketStream, head: bytes, pending: bytes) -> bytes:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            missing = int(line.partition(b":")[2]) - len(pending)
            while missing > 0:
                chunk = await stream.receive_some(65536)
                if not chunk:
                    return b""
                missing -= len(chunk)
            return b""
    return pending


async def polite(port: int, seen: Counter[str]) -> None:
    """Twenty GETs on one connection."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for _ in range(20):
            await stream.send_all(_GET % b"/")
            status, length = await _response(stream)
            seen[f"polite {status}"] += 1
            if length != len(_BODY):
                seen["polite truncated"] += 1


async def uploader(port: int, seen: Counter[str]) -> None:
    """A body in pieces."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"POST /up HTTP/1.1\r\nhost: app.soak.test\r\ncontent-length: 40000\r\n\r\n")
        for _ in range(20):
            await stream.send_all(_BODY)
        status, _ = await _response(stream)
        seen[f"upload {status}"] += 1


async def hangs_up_in_head(port: int, seen: Counter[str]) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: app.so")
    seen["hung up in head"] += 1


async def hangs_up_in_body(port: int, seen: Counter[str]) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: app.soak.test\r\ncontent-length: 5000\r\n\r\nhalf")
    seen["hung up in body"] += 1


async def hangs_up_waiting(port: int, seen: Counter[str]) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(_GET % b"/slow")
        with trio.move_on_after(0.05):
            await stream.receive_some(1)
    seen["hung up waiting"] += 1


async def dying_app(port: int, seen: Counter[str]) -> None:
    """The app ends in the middle of its answer; the client must see a broken one, never a whole one."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(_GET % b"/die")
        status, length = await _response(stream)
        seen["dying app taken for whole" if status == 200 and length == len(_BODY) else "dying app seen"] += 1


async def nonsense(port: int, seen: Counter[str]) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"\x00\xff nonsense\r\n\r\n")
        status, _ = await _response(stream)
        seen[f"nonsense {status}"] += 1


STORIES = (polite, polite, polite, uploader, hangs_up_in_head, hangs_up_in_body, hangs_up_waiting, dying_app, nonsense)


async def drive(port: int, seconds: float, seen: Counter[str], *, clients: int = 12, seed: int = 1) -> None:
    """`clients` at a time play random stories for `seconds`; faults of the connection itself are counted too."""
    rng = random.Random(seed)

    async def client() -> None:
        while trio.current_time() < end:
            story = rng.choice(STORIES)
            with trio.move_on_after(_DEADLINE) as scope:
                try:
                    await story(port, seen)
                except (OSError, trio.BrokenResourceError) as exc:
                    seen[f"{story.__name__} {type(exc).__name__}"] += 1
            if scope.cancelled_caught:
                seen[f"{story.__name__} hung"] += 1

    end = trio.current_time() + seconds
    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(client)


async def _response(stream: trio.SocketStream) -> tuple[int, int]:
    """Status and received length of the body; 0 when the peer closed before a head."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = await stream.receive_some(65536)
        if not chunk:
            return 0, 0
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    wanted = next(
        (int(x.partition(b":")[2]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0
    )
    length = len(body)
    while length < wanted:
        chunk = await stream.receive_some(65536)
        if not chunk:
            break
        length += len(chunk)
    return int(head.split(b" ", 2)[1]), length
