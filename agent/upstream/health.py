"""Active health checks: ask every endpoint of a cluster from time to time, and count its answers.

`Tally` is the pure state machine; `check_cluster` is the task that does the asking, with an injected way to
connect. What the verdicts mean for traffic is the endpoint's business (Endpoint.set_checked).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import trio

from agent.codec.http2 import Http2
from agent.exchange.faults import ProxyFault
from agent.upstream.endpoint import Endpoint
from agent.upstream.grpc_health import HealthCall
from mesh import config
from mesh.net.tcp import Transport

_MAX_STATUS_LINE = 8 * 1024
_JITTER = 0.1
"""Intervals vary by this share, so that the checks of many proxies spread out."""


Connect: TypeAlias = Callable[[Endpoint], Awaitable[Transport]]


def _nobody(told: object) -> None:
    """Hears it, and does nothing."""


class Tally:
    """Answers of one endpoint; lives in its `check` slot. The first answer decides at once, as in Envoy."""

    __slots__ = ("failures", "in_a_row", "last_error", "passing", "successes")

    def __init__(self) -> None:
        self.passing: bool | None = None
        """The verdict; None before the first answer."""
        self.in_a_row = 0
        """Answers in a row that contradict the verdict."""
        self.successes = 0
        self.failures = 0
        self.last_error = ""

    def observe(self, error: str, rules: config.HealthCheck) -> bool:
        """Count one check (`error` "" is a success); True when the verdict changed."""
        ok = not error
        if ok:
            self.successes += 1
        else:
            self.failures += 1
            self.last_error = error
        if ok is self.passing:
            self.in_a_row = 0
            return False
        self.in_a_row += 1
        threshold = rules.healthy_threshold if ok else rules.unhealthy_threshold
        if self.passing is not None and self.in_a_row < threshold:
            return False
        self.passing = ok
        self.in_a_row = 0
        return True


async def check_cluster(
    rules: config.HealthCheck,
    endpoints: Callable[[], Iterable[Endpoint]],
    *,
    connect: Connect,
    http2: Callable[[], Http2],
    rng: random.Random,
    changed: Callable[[Endpoint], None],
    judged: Callable[[Endpoint], None] = _nobody,
    counted: Callable[[bool], None] = _nobody,
) -> None:
    """Check all endpoints, wait, and again, until cancelled.

    All endpoints of a round are asked at once; each has `rules.timeout` seconds. `http2` makes the codec of a check by
    gRPC. `counted` hears of every check
    whether it succeeded, `judged` of endpoints with a new verdict (the first one too), `changed` of those whose
    `healthy` changed with it.
    """

    async def check(endpoint: Endpoint) -> None:
        error = await _outcome(rules, endpoint, connect, http2)
        counted(not error)
        tally: Tally | None = endpoint.check
        if tally is None:
            tally = endpoint.check = Tally()
        if tally.observe(error, rules):
            if endpoint.set_checked(not error):
                changed(endpoint)
            judged(endpoint)

    while True:
        async with trio.open_nursery() as round_:
            for endpoint in list(endpoints()):
                round_.start_soon(check, endpoint, name=f"health check of {endpoint.name}")
        pause = rules.interval
        if rules.unhealthy_interval and not all(endpoint.checked for endpoint in endpoints()):
            pause = rules.unhealthy_interval
        await trio.sleep(pause * (1 - _JITTER + 2 * _JITTER * rng.random()))


async def _outcome(rules: config.HealthCheck, endpoint: Endpoint, connect: Connect, http2: Callable[[], Http2]) -> str:
    error = f"no answer within {rules.timeout:g} s"
    with trio.move_on_after(rules.timeout):
        try:
            error = await _ask(rules, endpoint, connect, http2)
        except ProxyFault as fault:
            error = fault.transport or fault.reason
        except Exception as exc:  # whatever connecting or asking raises is one failed check, counted with its reason
            error = f"{type(exc).__name__}: {exc}"
    return error


async def _ask(rules: config.HealthCheck, endpoint: Endpoint, connect: Connect, http2: Callable[[], Http2]) -> str:
    """One check; what is wrong, or ""."""
    transport = await connect(endpoint)
    try:
        if rules.grpc:
            return await _call(
                HealthCall(http2(), rules.host or endpoint.name, rules.grpc_service, rules.timeout), transport
            )
        return await _get(rules, endpoint, transport) if rules.path else ""
    finally:
        transport.close()


async def _call(call: HealthCall, transport: Transport) -> str:
    while True:
        while data := call.data_to_send():
            await transport.send(data)
        if call.error is not None:
            return call.error
        call.receive_data(await transport.receive())


async def _get(rules: config.HealthCheck, endpoint: Endpoint, transport: Transport) -> str:
    await transport.send(request_bytes(rules, endpoint))
    received = b""
    while b"\n" not in received:
        data = await transport.receive()
        if not data:
            return "closed before a status line came"
        received += data
        if len(received) > _MAX_STATUS_LINE:
            return "no status line"
    return status_error(received)


def request_bytes(rules: config.HealthCheck, endpoint: Endpoint) -> bytes:
    """The check's request; Host is `rules.host` or the endpoint's address."""
    host = rules.host or endpoint.name
    return (
        f"GET {rules.path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: Trioweave/HC\r\nconnection: close\r\n\r\n".encode()
    )


def status_error(received: bytes) -> str:
    """ "" when the status line says 200..399, else what it says."""
    line = received.partition(b"\n")[0].rstrip(b"\r")
    parts = line.split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        return "not an HTTP/1 response"
    return "" if 200 <= int(parts[1]) <= 399 else f"status {parts[1].decode()}"
