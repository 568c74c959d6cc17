"""Retry decisions: Envoy's conditions against every kind of failure."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.codec.headers import Headers
from agent.codec.message import RequestHead
from agent.exchange import faults
from agent.exchange.faults import ProxyFault
from agent.exchange.retry import CONTROL_HEADERS, Retry, RetryPolicy, compile_retry
from mesh import config

CONNECT = faults.connect_failed("refused")
CONNECT_TIMEOUT = faults.connect_failed("", timeout=True)
CLOSED = faults.terminated(sent=True, reused=False)
CLOSED_UNSENT = faults.terminated(sent=False, reused=True)
MALFORMED = faults.malformed("bad")
PER_TRY = faults.per_try_timeout()
REFUSED_STREAM = ProxyFault("upstream", "UR", "x", reason="remote_refused_stream_reset", sent=True)
EVERY = (CONNECT, CONNECT_TIMEOUT, CLOSED, CLOSED_UNSENT, MALFORMED, PER_TRY, REFUSED_STREAM)


def policy(*retry_on: str, codes: tuple[int, ...] = (), **fields: float) -> RetryPolicy:
    return compile_retry(config.RetryPolicy(retry_on=retry_on, status_codes=codes, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("condition", "taken"),
    [
        ("5xx", EVERY),
        ("gateway-error", EVERY),
        ("reset", EVERY),
        ("connect-failure", (CONNECT, CONNECT_TIMEOUT)),
        ("refused-stream", (REFUSED_STREAM,)),
        ("reset-before-request", (CONNECT, CONNECT_TIMEOUT, CLOSED_UNSENT)),
        ("retriable-4xx", ()),
        ("unavailable", ()),
    ],
)
def test_faults(condition: str, taken: tuple[ProxyFault, ...]) -> None:
    compiled = policy(condition)
    assert tuple(fault for fault in EVERY if compiled.takes_fault(fault)) == taken


@pytest.mark.parametrize(
    "fault",
    [
        faults.overflow(),
        faults.no_healthy_upstream(),
        faults.route_timeout(),
        faults.no_route(),
        faults.client_gone(),
        faults.no_cluster(),
    ],
)
def test_what_is_never_retried(fault: ProxyFault) -> None:
    assert not policy("5xx", "reset", "reset-before-request", "connect-failure").takes_fault(fault)


def test_an_overflow_reported_by_the_upstream_side_is_not_retried_either() -> None:
    assert not policy("5xx").takes_fault(ProxyFault("upstream", "UO", "x", reason="overflow"))


@pytest.mark.parametrize(
    ("condition", "status", "fields", "taken"),
    [
        ("5xx", 500, {}, True),
        ("5xx", 499, {}, False),
        ("gateway-error", 503, {}, True),
        ("gateway-error", 500, {}, False),
        ("gateway-error", 505, {}, False),
        ("retriable-4xx", 409, {}, True),
        ("retriable-4xx", 404, {}, False),
        ("reset", 503, {}, False),
        ("5xx", 503, {"x-envoy-overloaded": "true"}, False),
        ("5xx", 503, {"x-envoy-ratelimited": "true"}, False),
        ("envoy-ratelimited", 429, {"x-envoy-ratelimited": "true"}, True),
        ("envoy-ratelimited", 429, {}, False),
        ("unavailable", 200, {"grpc-status": "14"}, True),
        ("unavailable", 200, {"grpc-status": "13"}, False),
        ("cancelled", 200, {"grpc-status": "1"}, True),
        ("deadline-exceeded", 200, {"grpc-status": "4"}, True),
        ("internal", 200, {"grpc-status": "13"}, True),
        ("resource-exhausted", 200, {"grpc-status": "8"}, True),
        ("unavailable", 200, {}, False),
        ("503", 503, {}, True),
        ("retriable-status-codes", 503, {}, False),
        ("5xx", 200, {}, False),
    ],
)
def test_responses(condition: str, status: int, fields: dict[str, str], taken: bool) -> None:
    headers = Headers((name.encode(), value.encode()) for name, value in fields.items())
    assert policy(condition).takes_response(status, headers) is taken


def test_status_codes_need_their_condition() -> None:
    assert policy("retriable-status-codes", codes=(418,)).takes_response(418, Headers())
    assert not policy("5xx", codes=(418,)).takes_response(418, Headers())


def test_istios_default_does_not_retry_a_plain_503() -> None:
    default = compile_retry(config.RetryPolicy())
    assert not default.takes_response(503, Headers())
    assert default.takes_fault(CONNECT)
    assert not default.takes_fault(CLOSED)
    assert default.unserved == ()


def test_conditions_without_effect_are_named() -> None:
    assert policy("http3-post-connect-failure", "5xx", "nonsense").unserved == (
        "http3-post-connect-failure",
        "nonsense",
    )


@given(st.integers(1, 100), st.floats(0.001, 1.0), st.floats(0.001, 10.0), st.integers())
def test_delays_stay_within_the_growing_bound_and_the_cap(n: int, base: float, cap: float, seed: int) -> None:
    delay = policy(backoff_base=base, backoff_max=cap).delay(random.Random(seed), n)
    assert 0 <= delay <= min((2.0**n - 1) * base, cap)


def request(**fields: str) -> RequestHead:
    return RequestHead(
        b"GET", b"/", Headers((name.replace("_", "-").encode(), value.encode()) for name, value in fields.items())
    )


def test_attempts_are_spent_one_by_one() -> None:
    retry = Retry.of(policy("5xx", attempts=2), request())
    assert retry.wants_fault(CLOSED)
    assert retry.wants_response(500, Headers())
    assert [retry.spend() for _ in range(3)] == [True, True, False]
    assert retry.used == 2
    assert retry.delay(random.Random(1)) <= 0.075
    assert retry.ignore_previous_hosts
    assert retry.per_try_timeout == 0.0


@pytest.mark.parametrize("compiled", [None, policy("5xx", attempts=0)])
def test_no_policy_or_no_attempts_wants_nothing(compiled: RetryPolicy | None) -> None:
    retry = Retry.of(compiled, request())
    assert not retry.wants_fault(CONNECT)
    assert not retry.wants_response(503, Headers())
    assert not retry.spend()


def test_request_headers_widen_the_policy_without_touching_it() -> None:
    compiled = policy("connect-failure", "retriable-status-codes", attempts=2)
    retry = Retry.of(
        compiled,
        request(
            x_envoy_retry_on="gateway-error, retriable-headers",
            x_envoy_retry_grpc_on="internal",
            x_envoy_max_retries="5",
            x_envoy_retriable_status_codes="404,x,405",
            x_envoy_retriable_header_names="X-Again",
            x_envoy_upstream_rq_per_try_timeout_ms="250",
            x_envoy_upstream_rq_timeout_ms="1500",
            x_envoy_upstream_rq_timeout_alt_response="1",
        ),
    )
    assert (retry.attempts, retry.per_try_timeout, retry.timeout, retry.alt_response) == (5, 0.25, 1.5, True)
    assert retry.wants_fault(CLOSED)
    assert retry.wants_response(405, Headers())
    assert retry.wants_response(200, Headers([(b"grpc-status", b"13")]))
    assert retry.wants_response(200, Headers([(b"x-again", b"")]))
    assert not compiled.takes_fault(CLOSED)
    assert not compiled.takes_response(405, Headers())
    assert compiled.attempts == 2


def test_without_a_route_policy_a_request_may_ask_for_one_retry() -> None:
    retry = Retry.of(None, request(x_envoy_retry_on="5xx"))
    assert (retry.attempts, retry.wants_fault(CLOSED)) == (1, True)
    assert Retry.of(None, request(x_envoy_max_retries="3")).attempts == 0


@pytest.mark.parametrize("value", ["", "-1", "x", "1.5", "9999999999"])
def test_numbers_that_are_none_are_ignored(value: str) -> None:
    retry = Retry.of(
        policy("5xx", attempts=2), request(x_envoy_max_retries=value, x_envoy_upstream_rq_timeout_ms=value)
    )
    assert (retry.attempts, retry.timeout) == (2, None)


def test_the_control_headers_are_the_nine_of_envoy() -> None:
    assert len(CONTROL_HEADERS) == 9
    assert b"x-envoy-hedge-on-per-try-timeout" in CONTROL_HEADERS
