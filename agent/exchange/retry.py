"""May this try be repeated, and when? Pure: policy and outcome in, an answer out.

Conditions are Envoy's (`x-envoy-retry-on` words). What the exchange has to see to by itself: nothing of a
response has gone downstream, the request body can be sent again, and the cluster admits another retry.
"""

from __future__ import annotations

from random import Random

from agent.codec.headers import Headers
from agent.codec.message import RequestHead
from agent.exchange.faults import ProxyFault
from mesh import config

GRPC_CONDITIONS = {
    "cancelled": b"1",
    "deadline-exceeded": b"4",
    "internal": b"13",
    "resource-exhausted": b"8",
    "unavailable": b"14",
}
"""Condition to the grpc-status, in the response's headers, that it stands for."""

HTTP_CONDITIONS = frozenset(
    {
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "refused-stream",
        "retriable-4xx",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
    }
)
_CONNECT_REASONS = frozenset({"remote_connection_failure", "local_connection_failure", "connection_timeout"})
_REFUSED_REASONS = frozenset({"refused_stream", "remote_refused_stream_reset"})
_ANY_RESET = frozenset({"5xx", "gateway-error", "reset"})
"""Envoy counts a reset as the 5xx that it would become."""

_RETRY_ON = b"x-envoy-retry-on"
_GRPC_ON = b"x-envoy-retry-grpc-on"
_MAX_RETRIES = b"x-envoy-max-retries"
_CODES = b"x-envoy-retriable-status-codes"
_HEADER_NAMES = b"x-envoy-retriable-header-names"
_TIMEOUT = b"x-envoy-upstream-rq-timeout-ms"
_PER_TRY = b"x-envoy-upstream-rq-per-try-timeout-ms"
_ALT_RESPONSE = b"x-envoy-upstream-rq-timeout-alt-response"
_HEDGE = b"x-envoy-hedge-on-per-try-timeout"

CONTROL_HEADERS = frozenset(
    {_RETRY_ON, _GRPC_ON, _MAX_RETRIES, _CODES, _HEADER_NAMES, _TIMEOUT, _PER_TRY, _ALT_RESPONSE, _HEDGE}
)
"""Request headers that steer the proxy that serves the route."""


class RetryPolicy:
    """A compiled config.RetryPolicy, or one widened by a request's own headers.

    `unserved` names the conditions that have no effect here.
    """

    __slots__ = (
        "_connect",
        "_on",
        "_policy",
        "_refused",
        "_reset",
        "attempts",
        "backoff_base",
        "backoff_max",
        "codes",
        "grpc",
        "header_names",
        "ignore_previous_hosts",
        "per_try_timeout",
        "unserved",
    )

    def __init__(self, policy: config.RetryPolicy) -> None:
        self._policy = policy
        self.attempts = policy.attempts
        self.per_try_timeout = policy.per_try_timeout
        self.backoff_base = policy.backoff_base
        self.backoff_max = policy.backoff_max
        self.ignore_previous_hosts = policy.ignore_previous_hosts
        self.codes: frozenset[int] = frozenset(policy.status_codes)
        self.header_names: tuple[bytes, ...] = ()
        self.grpc: frozenset[bytes] = frozenset()
        self.unserved: tuple[str, ...] = ()
        self._on: frozenset[str] = frozenset()
        self._add(policy.retry_on)

    def _add(self, words: tuple[str, ...]) -> None:
        numbers = [word for word in words if word.isascii() and word.isdigit()]
        self.codes |= frozenset(int(number) for number in numbers)
        self._on |= HTTP_CONDITIONS.intersection(words)
        if numbers:
            self._on |= {"retriable-status-codes"}
        self.grpc |= frozenset(GRPC_CONDITIONS[word] for word in words if word in GRPC_CONDITIONS)
        served = (*HTTP_CONDITIONS, *GRPC_CONDITIONS, *numbers)
        self.unserved += tuple(word for word in words if word and word not in served)
        self._reset = not _ANY_RESET.isdisjoint(self._on)
        self._connect = self._reset or "connect-failure" in self._on
        self._refused = self._reset or "refused-stream" in self._on

    def takes_fault(self, fault: ProxyFault) -> bool:
        """Whether a try that ended in `fault` fits a condition."""
        if fault.origin != "upstream" or fault.reason == "overflow":
            return False
        if fault.reason == "per_try_timeout":
            return self._reset
        if self._reset or (not fault.sent and "reset-before-request" in self._on):
            return True
        if fault.reason in _CONNECT_REASONS:
            return self._connect
        return self._refused and fault.reason in _REFUSED_REASONS

    def takes_response(self, status: int, headers: Headers) -> bool:
        """Whether a response head fits a condition."""
        index = headers.index
        on = self._on
        if status == 200 and b"grpc-status" not in index and not self.header_names and not self.codes:
            return False
        if b"x-envoy-overloaded" in index:
            return False
        if b"x-envoy-ratelimited" in index:
            return "envoy-ratelimited" in on
        if status >= 500 and ("5xx" in on or (502 <= status <= 504 and "gateway-error" in on)):
            return True
        if status == 409 and "retriable-4xx" in on:
            return True
        if status in self.codes and "retriable-status-codes" in on:
            return True
        if self.grpc and index.get(b"grpc-status") in self.grpc:
            return True
        return "retriable-headers" in on and any(name in index for name in self.header_names)

    def delay(self, rng: Random, retry: int) -> float:
        """Seconds to wait before retry number `retry` (1, 2, …): uniform in [0, (2^n - 1) x base), bound capped."""
        bound = (2.0 ** min(retry, 30) - 1) * self.backoff_base
        return rng.random() * min(bound, self.backoff_max)

    def widened(self, headers: Headers) -> RetryPolicy:
        """A copy with the conditions and limits of a request's control headers."""
        twin = RetryPolicy(self._policy)
        twin._add(_words(headers.index.get(_RETRY_ON)) + _words(headers.index.get(_GRPC_ON)))
        twin.codes |= frozenset(int(word) for word in _words(headers.index.get(_CODES)) if word.isdigit())
        twin.header_names += tuple(word.lower().encode() for word in _words(headers.index.get(_HEADER_NAMES)))
        attempts = _number(headers.index.get(_MAX_RETRIES))
        if attempts is not None:
            twin.attempts = attempts
        per_try = _number(headers.index.get(_PER_TRY))
        if per_try is not None:
            twin.per_try_timeout = per_try / 1000
        return twin


def compile_retry(policy: config.RetryPolicy) -> RetryPolicy:
    """The policy in the form that decides; compile it once per snapshot."""
    return RetryPolicy(policy)


class Retry:
    """The retries of one exchange: its policy, widened by the request's control headers, and what is spent."""

    __slots__ = ("alt_response", "asked", "attempts", "immediate", "policy", "timeout", "used")

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.attempts = policy.attempts
        """How many retries there may be in all."""
        self.used = 0
        self.asked = False
        """The request had control headers."""
        self.immediate = False
        """The next try is no retry in the policy's sense and waits for nothing; for the exchange to set."""
        self.timeout: float | None = None
        """Overall timeout that the request asks for; None: the route's; 0: none."""
        self.alt_response = False
        """A timed-out request is answered 204 instead of 504."""

    @classmethod
    def of(cls, policy: RetryPolicy | None, head: RequestHead) -> Retry:
        """For one request, whose control headers are read (and left in place). External requests must have lost
        theirs before."""
        headers = head.headers
        if CONTROL_HEADERS.isdisjoint(headers.index):
            return cls(_NEVER if policy is None else policy)
        index = headers.index
        if policy is not None or _RETRY_ON in index or _GRPC_ON in index:
            policy = (policy or _UNWRITTEN).widened(headers)
        retry = cls(policy or _NEVER)
        retry.asked = True
        timeout = _number(index.get(_TIMEOUT))
        retry.timeout = None if timeout is None else timeout / 1000
        retry.alt_response = _ALT_RESPONSE in index
        return retry

    @property
    def per_try_timeout(self) -> float:
        """Seconds for one try; 0: none."""
        return self.policy.per_try_timeout

    @property
    def ignore_previous_hosts(self) -> bool:
        """Whether a retry avoids the endpoints already tried."""
        return self.policy.ignore_previous_hosts

    def wants_fault(self, fault: ProxyFault) -> bool:
        """Whether the policy retries after this fault, spent or not."""
        return self.attempts > 0 and self.policy.takes_fault(fault)

    def wants_response(self, status: int, headers: Headers) -> bool:
        """Whether the policy retries after this response head, spent or not."""
        return self.attempts > 0 and self.policy.takes_response(status, headers)

    def spend(self) -> bool:
        """Take one retry; False when all are used."""
        if self.used >= self.attempts:
            return False
        self.used += 1
        return True

    def delay(self, rng: Random) -> float:
        """Seconds to wait before the retry just spent."""
        return self.policy.delay(rng, self.used)


_NEVER = RetryPolicy(config.RetryPolicy(attempts=0, retry_on=()))
_UNWRITTEN = RetryPolicy(config.RetryPolicy(attempts=1, retry_on=()))
"""What x-envoy-retry-on widens on a route without a policy: one retry, as in Envoy."""


def _words(value: bytes | None) -> tuple[str, ...]:
    if not value:
        return ()
    return tuple(word.strip() for word in value.decode("latin-1").split(",") if word.strip())


def _number(value: bytes | None) -> int | None:
    """A plain decimal number of at most nine digits; anything else counts as absent, as in Envoy."""
    return int(value) if value and value.isdigit() and len(value) <= 9 else None
