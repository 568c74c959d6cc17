"""Active health checks: the tally by itself, the task on virtual time against fake transports."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio

from agent.codec.http2 import Http2
from agent.upstream.endpoint import Endpoint
from agent.upstream.health import Tally, check_cluster, request_bytes, status_error
from mesh import config
from mesh.config import HealthCheck


def verdicts(answers: str, healthy_threshold: int = 1) -> str:
    """'+' and '-' in; the verdict after each answer out."""
    tally = Tally()
    out = ""
    for answer in answers:
        tally.observe("" if answer == "+" else "refused", HealthCheck(healthy_threshold=healthy_threshold))
        out += "+" if tally.passing else "-"
    return out


@pytest.mark.parametrize(
    ("answers", "expected"),
    [("+", "+"), ("-", "-"), ("+--+---+", "++++++-+"), ("+--+--", "++++++"), ("-+", "-+"), ("+---", "+++-")],
)
def test_three_failures_in_a_row_and_one_success(answers: str, expected: str) -> None:
    assert verdicts(answers) == expected


def test_healthy_threshold() -> None:
    assert verdicts("-+-++", healthy_threshold=2) == "----+"


def test_the_tally_remembers_why() -> None:
    tally = Tally()
    assert tally.observe("refused", HealthCheck())
    assert not tally.observe("status 500", HealthCheck())
    assert (tally.failures, tally.successes, tally.last_error) == (2, 0, "status 500")


def no_http2() -> Http2:
    raise AssertionError("this check is not by gRPC")


class FakeTransport:
    """Answers with `answer` in two pieces, then end of stream; never, when it is None."""

    local = remote = "fake:0"

    def __init__(self, answer: bytes | None) -> None:
        self.pieces = None if answer is None else [answer[:5], answer[5:], b""]
        self.sent = b""
        self.closed = False

    async def receive(self) -> bytes:
        if self.pieces is None:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        return self.pieces.pop(0) if self.pieces else b""

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += data

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()

    def unread(self, data: bytes) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True

    def reset(self) -> None:
        self.closed = True

    def peer_gone(self) -> bool:
        return False

    def quiet(self) -> bool:
        return True


class FakeUpstream:
    """Connects as told by `answer`: bytes, None (silence), or an error to raise."""

    def __init__(self, answer: bytes | Exception | None) -> None:
        self.answer = answer
        self.made: list[FakeTransport] = []

    async def connect(self, endpoint: Endpoint) -> FakeTransport:
        await trio.lowlevel.checkpoint()
        if isinstance(self.answer, Exception):
            raise self.answer
        self.made.append(FakeTransport(self.answer))
        return self.made[-1]


async def checked(
    upstream: FakeUpstream, rules: HealthCheck, seconds: float, then: Callable[[], Awaitable[None]] | None = None
) -> tuple[Endpoint, list[bool]]:
    endpoint = Endpoint(config.Endpoint("10.0.0.1", 80))
    changes: list[bool] = []
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:

            async def check() -> None:
                await check_cluster(
                    rules,
                    lambda: [endpoint],
                    connect=upstream.connect,
                    http2=no_http2,
                    rng=random.Random(1),
                    changed=lambda changed: changes.append(changed.healthy),
                )

            nursery.start_soon(check)
            if then is not None:
                await then()
    return endpoint, changes


async def test_a_good_status_keeps_the_endpoint_healthy(autojump_clock: trio.testing.MockClock) -> None:
    upstream = FakeUpstream(b"HTTP/1.1 204 No Content\r\n\r\n")
    endpoint, changes = await checked(upstream, HealthCheck(path="/ready", host="h"), 25)
    assert changes == []
    assert endpoint.check.successes == 3  # at 0, about 10 and about 20
    assert upstream.made[0].sent.startswith(b"GET /ready HTTP/1.1\r\nhost: h\r\n")
    assert all(transport.closed for transport in upstream.made)


@pytest.mark.parametrize(
    ("answer", "path", "error"),
    [
        (b"HTTP/1.1 500 no\r\n", "/", "status 500"),
        (b"HTTP/1.1", "/", "closed before a status line came"),
        (b"x" * 9000, "/", "no status line"),
        (b"SSH-2.0\r\n", "/", "not an HTTP/1 response"),
        (None, "/", "no answer within 1 s"),
        (OSError("refused"), "", "OSError: refused"),
    ],
)
async def test_failures_keep_traffic_away_and_say_why(
    answer: bytes | Exception | None, path: str, error: str, autojump_clock: trio.testing.MockClock
) -> None:
    upstream = FakeUpstream(answer)
    endpoint, changes = await checked(upstream, HealthCheck(path=path), 5)
    assert changes == [False]
    assert endpoint.state == "unhealthy"
    assert endpoint.check.last_error == error
    assert all(transport.closed for transport in upstream.made)


async def test_an_endpoint_comes_back(autojump_clock: trio.testing.MockClock) -> None:
    upstream = FakeUpstream(OSError("refused"))

    async def recover() -> None:
        await trio.sleep(5)
        upstream.answer = b""

    endpoint, changes = await checked(upstream, HealthCheck(), 15, recover)  # no path: a connect is enough
    assert changes == [False, True]
    assert endpoint.healthy


def test_the_host_defaults_to_the_address() -> None:
    request = request_bytes(HealthCheck(path="/r"), Endpoint(config.Endpoint("::1", 80)))
    assert b"\r\nhost: [::1]:80\r\n" in request


@pytest.mark.parametrize(
    ("line", "error"),
    [(b"HTTP/1.0 399 x\n", ""), (b"HTTP/1.1 400\r\n", "status 400"), (b"\n", "not an HTTP/1 response")],
)
def test_status_lines(line: bytes, error: str) -> None:
    assert status_error(line) == error


async def test_every_check_is_counted_and_every_verdict_told(autojump_clock: trio.testing.MockClock) -> None:
    upstream = FakeUpstream(b"")
    endpoint = Endpoint(config.Endpoint("10.0.0.1", 80))
    counted: list[bool] = []
    judged: list[bool] = []
    rules = HealthCheck(interval=10.0, unhealthy_interval=1.0)

    async def check() -> None:
        await check_cluster(
            rules,
            lambda: [endpoint],
            connect=upstream.connect,
            http2=no_http2,
            rng=random.Random(1),
            changed=lambda _: None,
            judged=lambda each: judged.append(each.checked),
            counted=counted.append,
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(check)
        await trio.sleep(1)
        assert (judged, counted) == ([True], [True]), "the first verdict is told although nothing changed"
        upstream.answer = OSError("refused")
        await trio.sleep(35)
        assert judged == [True, False]
        asked = len(counted)
        await trio.sleep(6)
        assert len(counted) - asked >= 5, "who fails is asked more often"
        upstream.answer = b""
        await trio.sleep(1.2)
        assert judged == [True, False, True]
        nursery.cancel_scope.cancel()
