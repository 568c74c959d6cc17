"""Passive health: eject an endpoint that keeps failing, let it back in later.

Pure bookkeeping on numbers and a clock passed in. `observe` sees every attempt's outcome and ejects at once;
`sweep` runs every `interval`, ends ejections whose time is over and forgives old ones. Rules are Envoy's
consecutive detectors; active checks are in health.py.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Literal, TypeAlias

from agent.upstream.endpoint import Endpoint
from mesh import config

MAX_EJECTION_TIME = 300.0
"""Envoy's max_ejection_time; a longer base_ejection_time raises it."""

Reason: TypeAlias = Literal["consecutive_5xx", "consecutive_gateway_failure", "consecutive_local_origin_failure"]


class LocalFailure(Enum):
    """What went wrong before the endpoint answered."""

    CONNECT_FAILURE = auto()
    """No connection or no TLS."""
    CONNECT_TIMEOUT = auto()
    """No connection in time."""
    TIMEOUT = auto()
    """No answer in time."""
    RESET = auto()
    """Closed or reset before the response began."""


Outcome: TypeAlias = int | LocalFailure
"""A response status, or what kept the endpoint from giving one."""


class Ejection:
    """Why and for how long an endpoint was ejected; `times` counts the ejections in a row."""

    __slots__ = ("duration", "endpoint", "reason", "times", "until")

    def __init__(self, endpoint: Endpoint, reason: Reason, until: float, duration: float, times: int) -> None:
        self.endpoint = endpoint
        self.reason = reason
        self.until = until
        self.duration = duration
        self.times = times


class _History:
    """Counters of one endpoint; lives in its `outlier` slot."""

    __slots__ = ("errors", "gateway", "local", "reason", "times")

    def __init__(self) -> None:
        self.errors = 0
        self.gateway = 0
        self.local = 0
        self.reason: Reason | None = None
        self.times = 0


class OutlierDetector:
    """The detector of one cluster in one proxy."""

    __slots__ = ("_known", "_next_sweep", "config", "ejected", "ejections", "overflow")

    def __init__(self, detection: config.OutlierDetection) -> None:
        self.config = detection
        self.ejected = 0
        """Endpoints ejected now."""
        self.ejections: dict[Reason, int] = {}
        """Ejections so far, by reason."""
        self.overflow = 0
        """Ejections that max_ejection_percent refused."""
        self._known: dict[Endpoint, _History] = {}
        self._next_sweep = float("-inf")

    def observe(
        self, endpoint: Endpoint, outcome: Outcome, now: float, hosts_total: int, ejected_now: int | None = None
    ) -> Ejection | None:
        """Count one attempt; the ejection, already applied to the endpoint, when this attempt caused one.

        `ejected_now` defaults to the detector's own count.
        """
        history: _History | None = endpoint.outlier
        if history is None:
            if outcome.__class__ is int and outcome < 500:
                return None
            history = endpoint.outlier = _History()
        reason = self._count(history, outcome)
        if reason is None or endpoint.ejected_until is not None:
            return None
        already = self.ejected if ejected_now is None else ejected_now
        if 100 * (already + 1) > self.config.max_ejection_percent * hosts_total:
            self.overflow += 1
            return None
        return self._eject(endpoint, history, reason, now)

    def sweep(self, now: float) -> list[Endpoint]:
        """End ejections whose time is over and return those endpoints; forgive one ejection of the others.

        May be called more often than every `interval`: calls in between do nothing.
        """
        if now < self._next_sweep:
            return []
        self._next_sweep = now + self.config.interval
        back = []
        for endpoint, history in list(self._known.items()):
            if endpoint.ejected_until is None:
                history.times -= 1
                if history.times <= 0:
                    del self._known[endpoint]
            elif now >= endpoint.ejected_until:
                endpoint.uneject()
                self.ejected -= 1
                history.errors = history.gateway = history.local = 0
                back.append(endpoint)
        return back

    def ejected_for(self, endpoint: Endpoint) -> Reason | None:
        """Why the endpoint was ejected last; None: never, or long ago."""
        history = self._known.get(endpoint)
        return history.reason if history is not None else None

    def forget(self, endpoint: Endpoint) -> None:
        """The endpoint left the cluster."""
        if self._known.pop(endpoint, None) is not None and endpoint.ejected_until is not None:
            self.ejected -= 1
            endpoint.uneject()
        endpoint.outlier = None

    def release_all(self) -> list[Endpoint]:
        """Detection ends (the rule was removed): every ejected endpoint comes back and is returned."""
        back = [endpoint for endpoint in self._known if endpoint.ejected_until is not None]
        for endpoint in list(self._known):
            self.forget(endpoint)
        return back

    def reconfigure(self, detection: config.OutlierDetection) -> None:
        """Take new settings; counts and running ejections stay."""
        self.config = detection

    def _count(self, history: _History, outcome: Outcome) -> Reason | None:
        """Advance the counters; the reason whose threshold this outcome reached. Reaching it starts the count anew."""
        rules = self.config
        if isinstance(outcome, LocalFailure):
            if rules.split_external_local_origin_errors:
                history.local += 1
                if 0 < rules.consecutive_local_origin_failures <= history.local:
                    history.local = 0
                    return "consecutive_local_origin_failure"
                return None
            gateway = True
        else:
            history.local = 0
            if outcome < 500:
                history.errors = history.gateway = 0
                return None
            gateway = 502 <= outcome <= 504
        history.gateway = history.gateway + 1 if gateway else 0
        history.errors += 1
        if gateway and 0 < rules.consecutive_gateway_errors <= history.gateway:
            history.errors = history.gateway = 0
            return "consecutive_gateway_failure"
        if 0 < rules.consecutive_5xx <= history.errors:
            history.errors = history.gateway = 0
            return "consecutive_5xx"
        return None

    def _eject(self, endpoint: Endpoint, history: _History, reason: Reason, now: float) -> Ejection:
        history.times += 1
        history.reason = reason
        base = self.config.base_ejection_time
        duration = min(base * history.times, max(MAX_EJECTION_TIME, base))
        self._known[endpoint] = history
        self.ejected += 1
        self.ejections[reason] = self.ejections.get(reason, 0) + 1
        endpoint.eject(now + duration)
        return Ejection(endpoint, reason, now + duration, duration, history.times)
