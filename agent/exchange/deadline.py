"""Deadlines that travel: what a caller says of the time it has left, and what the next hop is told of it. Pure.

A gRPC client states its deadline in `grpc-timeout`; it counts from the moment the request arrives. A mesh peer's proxy
states the time of its try in `x-envoy-expected-rq-timeout-ms`; like a route's timeout it counts from the moment the
whole request is here. Each hop passes on what is left of both.
"""

from __future__ import annotations

from typing import Final

from agent.codec.headers import Headers

NEVER: Final = float("inf")

_EXPECTED: Final = b"x-envoy-expected-rq-timeout-ms"
_GRPC: Final = b"grpc-timeout"
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_WRITTEN: Final[tuple[tuple[bytes, float], ...]] = ((b"m", 1e-3), (b"S", 1.0), (b"M", 60.0), (b"H", 3600.0))
_DIGITS: Final = 8


def parse_timeout(value: bytes) -> float | None:
    """Seconds of a grpc-timeout: one to eight digits and a unit (H M S m u n). None: malformed, as 0 is, which the
    protocol does not allow and Envoy takes for none."""
    unit = _UNITS.get(value[-1:])
    digits = value[:-1]
    if unit is None or not digits.isdigit() or len(digits) > _DIGITS:
        return None
    return int(digits) * unit or None


def format_timeout(seconds: float) -> bytes:
    """`seconds` as grpc-timeout, in the finest unit from milliseconds up that holds it; rounded down, but at least
    one millisecond."""
    for unit, size in _WRITTEN:
        count = int(seconds / size + 1e-6)  # 0.3 s are 300 ms, whatever floating point makes of it
        if count < 10**_DIGITS:
            return b"%d%s" % (max(1, count), unit)
    return b"9" * _DIGITS + b"H"


def stated_timeout(headers: Headers) -> float | None:
    """Seconds that a gRPC client gives its call; infinity when it says nothing, None when what it says is malformed."""
    value = headers.index.get(_GRPC)
    return NEVER if value is None else parse_timeout(value)


def within_callers(timeout: float, headers: Headers) -> float:
    """A timeout (seconds, 0: none), shortened to what the caller's proxy expects."""
    value = headers.index.get(_EXPECTED)
    if value is None or not value.isdigit() or len(value) > _DIGITS or not (expected := int(value) / 1000):
        return timeout
    return min(timeout, expected) if timeout else expected


def announce(headers: Headers, left: float, *, grpc: bool) -> None:
    """Tell the next hop how many seconds it has."""
    headers.put(_EXPECTED, b"%d" % max(1, int(left * 1000 + 1e-6)))
    if grpc:
        headers.put(_GRPC, format_timeout(left))
