"""Circuit breakers count what they admit and what they refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.upstream.limits import Limit, Limits
from mesh.config import CircuitBreakers


@given(st.integers(0, 5), st.lists(st.booleans(), max_size=40))
def test_a_limit_never_holds_more_than_it_may(limit: int, steps: list[bool]) -> None:
    """True tries to get in, False gives back when something is held; held == admitted - released always."""
    breaker = Limit(limit)
    held = refused = 0
    for enter in steps:
        if enter:
            admitted = breaker.try_admit()
            assert admitted is (held < limit)
            held += admitted
            refused += not admitted
        elif held:
            breaker.release()
            held -= 1
        assert (breaker.held, breaker.refused) == (held, refused)
        assert breaker.state == ("admitting" if held < limit else "refusing")


def test_a_double_release_is_a_bug_that_shows() -> None:
    limits = Limits(CircuitBreakers())
    with pytest.raises(RuntimeError, match="released more"):
        limits.release_request()


def test_each_kind_has_its_own_limit_and_its_own_overflow() -> None:
    limits = Limits(CircuitBreakers(max_connections=1, max_pending_requests=1, max_requests=2, max_retries=1))
    assert limits.try_admit_request()
    assert limits.try_admit_connection()
    assert limits.try_admit_pending()
    assert limits.try_admit_retry()
    assert not limits.try_admit_retry()
    assert not limits.try_admit_pending()
    assert not limits.try_admit_connection()
    assert limits.overflows() == {
        "upstream_rq_active_overflow": 0,
        "upstream_cx_overflow": 1,
        "upstream_rq_pending_overflow": 1,
        "upstream_rq_retry_overflow": 1,
    }
    limits.release_retry()
    assert limits.try_admit_retry()


def test_the_state_is_that_of_a_new_request() -> None:
    limits = Limits(CircuitBreakers(max_connections=1, max_pending_requests=1, max_requests=3))
    states = []
    for act in (
        limits.try_admit_connection,
        limits.try_admit_pending,
        limits.release_pending,
        limits.try_admit_request,
        limits.try_admit_request,
        limits.try_admit_request,
        limits.release_request,
    ):
        act()
        states.append(limits.state)
    full = "refusing"
    assert states == ["admitting", full, "admitting", "admitting", "admitting", full, "admitting"]


def test_new_limits_apply_to_the_next_and_keep_what_is_held() -> None:
    limits = Limits(CircuitBreakers())
    limits.try_admit_request()
    limits.reconfigure(CircuitBreakers(max_requests=1))
    assert not limits.try_admit_request()
    limits.reconfigure(CircuitBreakers(max_requests=2))
    assert limits.try_admit_request()
