"""Circuit breakers: how much of everything one proxy may have going towards one cluster.

Each limit counts what it admitted and what it refused. The cluster asks before it acts and releases after;
nothing here waits.
"""

from __future__ import annotations

from typing import Literal

from mesh import config


class Limit:
    """One counted limit: `held` now, `refused` in total (Envoy's *_overflow)."""

    __slots__ = ("held", "limit", "refused")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.refused = 0

    @property
    def state(self) -> Literal["admitting", "refusing"]:
        """`refusing` while the limit is reached."""
        return "admitting" if self.held < self.limit else "refusing"

    def try_admit(self) -> bool:
        """Take one place; False, and counted, when there is none."""
        if self.held < self.limit:
            self.held += 1
            return True
        self.refused += 1
        return False

    def release(self) -> None:
        """Give one place back. Raises RuntimeError when none is held: a double release would hide an overflow."""
        if self.held <= 0:
            raise RuntimeError("released more than was admitted")
        self.held -= 1


class Limits:
    """The four limits of a cluster. `try_admit_x` takes a place and says whether it got one, `release_x` returns it."""

    __slots__ = (
        "connections",
        "pending",
        "release_connection",
        "release_pending",
        "release_request",
        "release_retry",
        "requests",
        "retries",
        "try_admit_connection",
        "try_admit_pending",
        "try_admit_request",
        "try_admit_retry",
    )

    def __init__(self, breakers: config.CircuitBreakers) -> None:
        self.requests = Limit(breakers.max_requests)
        self.connections = Limit(breakers.max_connections)
        self.pending = Limit(breakers.max_pending_requests)
        self.retries = Limit(breakers.max_retries)
        # Bound once: asking costs one call, not two.
        self.try_admit_request = self.requests.try_admit
        self.release_request = self.requests.release
        self.try_admit_connection = self.connections.try_admit
        self.release_connection = self.connections.release
        self.try_admit_pending = self.pending.try_admit
        self.release_pending = self.pending.release
        self.try_admit_retry = self.retries.try_admit
        self.release_retry = self.retries.release

    @property
    def state(self) -> Literal["admitting", "refusing"]:
        """`refusing` when a new request would be turned away: at the request limit, or no connection and no queue."""
        if self.requests.state == "refusing":
            return "refusing"
        full = self.connections.state == "refusing" and self.pending.state == "refusing"
        return "refusing" if full else "admitting"

    def reconfigure(self, breakers: config.CircuitBreakers) -> None:
        """Take new limits; what is held stays admitted."""
        self.requests.limit = breakers.max_requests
        self.connections.limit = breakers.max_connections
        self.pending.limit = breakers.max_pending_requests
        self.retries.limit = breakers.max_retries

    def overflows(self) -> dict[str, int]:
        """Refusals so far under Envoy's statistic names."""
        return {
            "upstream_rq_active_overflow": self.requests.refused,
            "upstream_cx_overflow": self.connections.refused,
            "upstream_rq_pending_overflow": self.pending.refused,
            "upstream_rq_retry_overflow": self.retries.refused,
        }
