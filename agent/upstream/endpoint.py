"""One address of a cluster, alive: its health, its counters, and what is in flight to it.

Health is one word out of three sources: discovery, active checks (health.py) and passive ejection (outlier.py).
An endpoint outlives pushes as long as its address and port stay.
"""

from __future__ import annotations

from typing import Any, Literal

from agent.upstream.resumption import Resumption
from mesh import config


class Endpoint:
    """`healthy` is the balancers' answer, kept up to date by the methods; read `state` for the word.

    `active` counts requests now; `rq_*` and `cx_*` are totals but for `cx_active`. `inflight` holds what
    the exchange may cancel; `pool` and `streams` belong to the cluster; `outlier` and `check` to the two detectors.
    """

    __slots__ = (
        "active",
        "address",
        "check",
        "checked",
        "config",
        "cx_active",
        "cx_connect_fail",
        "cx_total",
        "ejected_until",
        "healthy",
        "inflight",
        "key",
        "name",
        "outlier",
        "pool",
        "port",
        "removed",
        "resumption",
        "rq_error",
        "rq_success",
        "rq_timeout",
        "rq_total",
        "streams",
        "weight",
    )

    def __init__(self, endpoint: config.Endpoint) -> None:
        self.config = endpoint
        self.address = endpoint.address
        self.port = endpoint.port
        self.key = (endpoint.address, endpoint.port)
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        self.name = f"{host}:{endpoint.port}"
        """`address:port` as logs and stats write it."""
        self.weight = max(1, endpoint.weight)
        self.active = 0
        self.rq_total = 0
        self.rq_success = 0
        self.rq_error = 0
        self.rq_timeout = 0
        self.cx_active = 0
        self.cx_total = 0
        self.cx_connect_fail = 0
        self.checked = True
        """What active checks say; True without them."""
        self.ejected_until: float | None = None
        """When the ejection may end; None: not ejected."""
        self.removed = False
        """The cluster no longer has it; what is in flight ends, nothing new begins."""
        self.inflight: set[Any] = set()
        self.resumption = Resumption()
        self.pool: Any = None
        self.streams: Any = None
        self.outlier: Any = None
        self.check: Any = None
        self.healthy = endpoint.health == "healthy"

    @property
    def state(self) -> Literal["healthy", "unhealthy", "ejected"]:
        """What keeps traffic away, if anything; discovery and active checks count before ejection."""
        if self.healthy:
            return "healthy"
        if self.ejected_until is not None and self.checked and self.config.health == "healthy":
            return "ejected"
        return "unhealthy"

    @property
    def ejected(self) -> bool:
        """Whether an ejection keeps traffic away."""
        return self.ejected_until is not None

    @ejected.setter
    def ejected(self, ejected: bool) -> None:
        self.ejected_until = float("inf") if ejected else None
        self._combine()

    def reconfigure(self, endpoint: config.Endpoint) -> bool:
        """Take what discovery says now (same address and port); True when `healthy` or the weight changed."""
        before = (self.healthy, self.weight)
        self.config = endpoint
        self.weight = max(1, endpoint.weight)
        self._combine()
        return (self.healthy, self.weight) != before

    def set_checked(self, passing: bool) -> bool:
        """Take the active checks' verdict; True when `healthy` changed."""
        self.checked = passing
        return self._combine()

    def eject(self, until: float) -> bool:
        """Keep traffic away until a sweep after `until`; True when `healthy` changed."""
        self.ejected_until = until
        return self._combine()

    def uneject(self) -> bool:
        """Let traffic back in; True when `healthy` changed."""
        self.ejected_until = None
        return self._combine()

    def _combine(self) -> bool:
        before = self.healthy
        self.healthy = self.config.health == "healthy" and self.checked and self.ejected_until is None
        return self.healthy is not before

    def __repr__(self) -> str:
        return f"<Endpoint {self.name} {self.state}>"
