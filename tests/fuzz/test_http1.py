"""A bounded run of the HTTP/1 fuzzer; the invariants are in tests/fuzz/http1.py."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import http1

bounded = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
randoms = st.randoms(use_true_random=False)


@given(randoms)
@bounded
def test_both_engines_read_requests_alike(random: Random) -> None:
    http1.check_requests(random)


@given(randoms)
@bounded
def test_both_engines_read_responses_alike(random: Random) -> None:
    http1.check_responses(random)


@given(randoms)
@bounded
def test_chunked_bodies_are_what_both_libraries_read(random: Random) -> None:
    http1.check_chunked(random)
