"""Deadlines that travel: how they are read, and how they are written for the next hop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.codec.headers import Headers
from agent.exchange import deadline


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"15S", 15.0),
        (b"250m", 0.25),
        (b"5000u", 0.005),
        (b"1000000n", 0.001),
        (b"99999999H", 99999999 * 3600.0),
        (b"007S", 7.0),
    ],
)
def test_a_timeout(value: bytes, seconds: float) -> None:
    assert deadline.parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"1", b"S", b"123456789S", b"-1S", b"+1S", b"1.5S", b"1s", b"1h", b"1 S", b" 1S", b"1S ", b"\xb2S"),
        *(b"1S, 2S", b"0S", b"00000000n"),
    ],
)
def test_a_malformed_timeout(value: bytes) -> None:
    assert deadline.parse_timeout(value) is None


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        (0.3, b"300m"),
        (0.0015, b"1m"),
        (0.0001, b"1m"),
        (99_999.999, b"99999999m"),
        (100_000.0, b"100000S"),
        (1e8, b"1666666M"),
        (1e10, b"2777777H"),
        (1e20, b"99999999H"),
    ],
)
def test_a_timeout_is_written(seconds: float, value: bytes) -> None:
    assert deadline.format_timeout(seconds) == value


@given(st.floats(0.001, 1e11))
def test_what_is_written_is_read_and_never_longer(seconds: float) -> None:
    read = deadline.parse_timeout(deadline.format_timeout(seconds))
    assert read is not None
    assert read <= seconds * (1 + 1e-6) + 1e-8


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [((), deadline.NEVER), (((b"grpc-timeout", b"3S"),), 3.0), (((b"Grpc-Timeout", b"3s"),), None)],
)
def test_what_a_grpc_client_states(fields: tuple[tuple[bytes, bytes], ...], seconds: float | None) -> None:
    assert deadline.stated_timeout(Headers(fields)) == seconds


@pytest.mark.parametrize(
    ("timeout", "expected", "left"),
    [
        (5.0, b"2000", 2.0),
        (5.0, b"8000", 5.0),
        (0.0, b"8000", 8.0),
        (0.0, None, 0.0),
        (5.0, None, 5.0),
        (5.0, b"0", 5.0),
        (0.0, b"0", 0.0),
        (5.0, b"soon", 5.0),
        (5.0, b"-1", 5.0),
        (5.0, b"1" * 9, 5.0),
    ],
)
def test_the_callers_budget_bounds_a_timeout(timeout: float, expected: bytes | None, left: float) -> None:
    headers = Headers(() if expected is None else ((b"x-envoy-expected-rq-timeout-ms", expected),))
    assert deadline.within_callers(timeout, headers) == left


@pytest.mark.parametrize(("left", "expected", "stated"), [(0.3, b"300", b"300m"), (1e-9, b"1", b"1m")])
@pytest.mark.parametrize("grpc", [True, False])
def test_the_next_hop_is_told(left: float, expected: bytes, stated: bytes, grpc: bool) -> None:
    headers = Headers(((b"grpc-timeout", b"9S"),))
    deadline.announce(headers, left, grpc=grpc)
    assert headers.get(b"x-envoy-expected-rq-timeout-ms") == expected
    assert headers.get(b"grpc-timeout") == (stated if grpc else b"9S")
