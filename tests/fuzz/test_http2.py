"""A bounded run of the HTTP/2 fuzzer; the invariants are in tests/fuzz/http2.py."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import http2

bounded = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
randoms = st.randoms(use_true_random=False)


@given(randoms)
@bounded
def test_both_engines_read_requests_alike(random: Random) -> None:
    http2.check_requests(random)


@given(randoms)
@bounded
def test_both_engines_read_responses_alike(random: Random) -> None:
    http2.check_responses(random)
