"""The control plane's metrics of pushing and signing; istiod's names where it has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mesh.config import ResourceKind
from mesh.telemetry.metrics import Registry

XDS_TYPE: dict[ResourceKind, str] = {
    "secret": "sds",
    "cluster": "cds",
    "endpoints": "eds",
    "listener": "lds",
    "route": "rds",
}
_CONVERGENCE = (0.1, 0.5, 1, 3, 5, 10, 20, 30)  # istiod's buckets, seconds
_DEBOUNCE = (0.01, 0.1, 0.5, 1, 3, 5, 10)


class PushStats:
    """Families of the feed's server side, and the few verbs that count into them."""

    def __init__(self, registry: Registry, *, version: str) -> None:
        self.registry = registry
        self._version = version
        self._pushes = registry.counter("pilot_xds_pushes", "Resource pushes sent, by type.")
        self._rejects = registry.counter("pilot_total_xds_rejects", "Resources that agents rejected, by type.")
        self._triggers = registry.counter("pilot_push_triggers", "Causes of pushes, by type.")
        self._refusals = registry.counter("trioweave_feed_refusals_total", "Agents turned away, by reason.")
        self._events = registry.counter("trioweave_feed_events_total", "Happenings of feed sessions, by event.")
        self._config = registry.counter("pilot_k8s_cfg_events", "Objects read, by kind and event.")
        self._csr = registry.counter("citadel_server_csr_count", "Certificate requests received.").child()
        self._issued = registry.counter("citadel_server_success_cert_issuance_count", "Certificates issued.").child()
        self._csr_errors = registry.counter("citadel_server_csr_sign_err_count", "Requests refused.").child()
        self._stale = registry.counter("pilot_xds_expired_nonce", "Answers to a push not outstanding.").child()
        self.full_pushes = registry.counter("trioweave_full_pushes_total", "First pushes to empty agents.").child()
        self.resumed = registry.counter("trioweave_resumed_sessions_total", "Sessions resumed by hash.").child()
        self.internal_errors = registry.counter(
            "pilot_total_xds_internal_errors", "Translations that failed; the proxy keeps its last push."
        ).child()
        self.convergence = registry.histogram(
            "pilot_proxy_convergence_time", "Seconds from a change to the proxy's answer.", _CONVERGENCE
        ).child()
        self.debounce_time = registry.histogram(
            "pilot_debounce_time", "Seconds that a batch of changes was held.", _DEBOUNCE
        ).child()
        registry.gauge("pilot_info", "Version of this pilot.").child((("version", version),)).set(1)

    def watch_connected(self, agents_by_version: Callable[[], Iterable[tuple[str, int]]]) -> None:
        """Take the number of connected agents, by version, from `agents_by_version`."""
        self.registry.gauge("pilot_xds", "Connected proxies, by version.").collect(
            lambda: [((("version", version),), count) for version, count in agents_by_version()]
        )

    def watch_root_expiry(self, not_after: float) -> None:
        """Expose the end of the authority's certificate."""
        self.registry.gauge("citadel_server_root_cert_expiry_timestamp", "End of the root certificate.").child().set(
            not_after
        )

    def pushed(self, kinds: Iterable[ResourceKind]) -> None:
        """Count one push of each kind in it."""
        for kind in set(kinds):
            self._pushes.child((("type", XDS_TYPE[kind]),)).inc()

    def rejected(self, kind: ResourceKind) -> None:
        self._rejects.child((("type", XDS_TYPE[kind]),)).inc()

    def triggered(self, triggers: Iterable[str]) -> None:
        for trigger in triggers:
            self._triggers.child((("type", trigger),)).inc()

    def refused(self, reason: str) -> None:
        self._refusals.child((("reason", reason),)).inc()

    def event(self, event: str, count: int = 1) -> None:
        self._events.child((("event", event),)).inc(count)

    def config_event(self, kind: str, event: str, count: int = 1) -> None:
        self._config.child((("type", kind), ("event", event))).inc(count)

    def stale_answer(self) -> None:
        self._stale.inc()

    def signed(self, error: str) -> None:
        """Count one certificate request and how it ended."""
        self._csr.inc()
        (self._csr_errors if error else self._issued).inc()
