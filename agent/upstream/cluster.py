"""A living cluster: its endpoints, who is picked, and what their answers tell of them.

Clusters are keyed by name and outlive snapshots: a push reconfigures them, pools and ejections stay. How connections
are opened and lent is in connections.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator

import trio

from agent.codec.message import Limits as CodecLimits
from agent.exchange import faults
from agent.upstream.balancer import Balancer, compile_balancer, usable
from agent.upstream.connect import ClientCredentials, ClientIdentity
from agent.upstream.connections import Connections
from agent.upstream.endpoint import Endpoint
from agent.upstream.outlier import LocalFailure, OutlierDetector
from agent.upstream.pool import Pool
from agent.upstream.stats import ClusterStats
from agent.upstream.stream_pool import StreamPool
from mesh import config
from mesh.net.authority import split_port
from mesh.net.batch import WriteBatch
from mesh.net.tcp import resolve

_MAX_ORIGINAL = 1024
"""Destinations that a passthrough cluster remembers; the oldest idle one goes first (Envoy's DNS cache: 1024)."""

_FAILURES = {
    "remote_connection_failure": LocalFailure.CONNECT_FAILURE,
    "connection_timeout": LocalFailure.CONNECT_TIMEOUT,
    "per_try_timeout": LocalFailure.TIMEOUT,
}


class Cluster(Connections):
    """Everything a request needs to get upstream. `usable` is the tuple that balancing picks from."""

    def __init__(
        self,
        settings: config.Cluster,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        identity: Callable[[], ClientIdentity | None],
        credentials: ClientCredentials | None = None,
        stats: ClusterStats,
        codec_limits: CodecLimits,
        engine: str = "auto",
        nursery: trio.Nursery | None = None,
        batch: Callable[[], WriteBatch | None] = lambda: None,
        refused: Callable[[str, str, int], None] = lambda where, reason, count: None,
        ejections_changed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            settings,
            clock=clock,
            identity=identity,
            credentials=credentials,
            stats=stats,
            codec_limits=codec_limits,
            engine=engine,
            nursery=nursery,
            batch=batch,
            refused=refused,
        )
        self.name = settings.name
        self.rng = rng
        self.usable: tuple[Endpoint, ...] = ()
        self.balancer: Balancer = compile_balancer(settings.lb_policy)
        self.outlier = OutlierDetector(settings.outlier) if settings.outlier else None
        self.ejected: set[Endpoint] = set()
        self.dynamic = settings.discovery == "original_dst"
        self._next_sweep = 0.0
        self._ejections_changed = ejections_changed

    # What a push changes

    def reconfigure(self, settings: config.Cluster) -> None:
        """Take new settings; connections made under other TLS or pool settings close now, or when they are idle."""
        old, self.config = self.config, settings
        if settings.lb_policy != old.lb_policy:
            self.balancer = compile_balancer(settings.lb_policy)
        if settings.breakers != old.breakers:
            self.limits.reconfigure(settings.breakers)
            self.wake_all()
        if settings.outlier != old.outlier:
            self._reset_outlier(settings.outlier)
        if settings.health_check is None and old.health_check is not None:
            for endpoint in self.endpoints.values():  # nobody checks any more, so no verdict stands
                endpoint.check = None
                endpoint.set_checked(True)
        if (settings.tls, settings.connection, settings.proxy_protocol) != (
            old.tls,
            old.connection,
            old.proxy_protocol,
        ):
            for endpoint in self.endpoints.values():
                self.drain_endpoint(endpoint)
        self.refresh()

    def _reset_outlier(self, settings: config.OutlierDetection | None) -> None:
        if settings is None or self.outlier is None:
            if self.outlier is not None:
                self.outlier.release_all()
            if self.ejected:
                self.ejected.clear()
                self._ejections_changed()
            self.outlier = OutlierDetector(settings) if settings else None
        else:
            self.outlier.reconfigure(settings)

    def set_endpoints(self, settings: tuple[config.Endpoint, ...]) -> None:
        """Replace the endpoint list; those that stay keep pools, counters and ejections."""
        if self.dynamic:
            return
        fresh: dict[tuple[str, int], Endpoint] = {}
        for entry in settings:
            key = (entry.address, entry.port)
            endpoint = self.endpoints.get(key)
            if endpoint is None:
                endpoint = Endpoint(entry)
                endpoint.pool = Pool()
                endpoint.streams = StreamPool()
            else:
                if endpoint.config.tls != entry.tls:
                    self.drain_endpoint(endpoint)
                endpoint.reconfigure(entry)
            fresh[key] = endpoint
        ejected = len(self.ejected)
        for key, endpoint in self.endpoints.items():
            if key not in fresh:
                endpoint.removed = True
                self.ejected.discard(endpoint)
                if self.outlier is not None:
                    self.outlier.forget(endpoint)
                self.drain_endpoint(endpoint)
        self.endpoints = fresh
        self.refresh()
        if len(self.ejected) != ejected:
            self._ejections_changed()

    def refresh(self) -> None:
        """Recompute `usable` after any change of health."""
        percent = self.config.outlier.min_health_percent if self.config.outlier else 0.0
        self.usable = usable(tuple(self.endpoints.values()), percent)
        self.stats.membership_total.set(len(self.endpoints))
        self.stats.membership_healthy.set(sum(endpoint.healthy for endpoint in self.endpoints.values()))
        self.stats.outlier_detection_ejections_active.set(len(self.ejected))

    def close(self) -> None:
        """The cluster is gone from the configuration: idle connections close, leased ones when given back."""
        self.closed = True
        for endpoint in self.endpoints.values():
            self.drain_endpoint(endpoint)

    # What a request asks

    def pick(self, excluded: Collection[Endpoint] = ()) -> Endpoint:
        """Choose an endpoint. Raises ProxyFault UH when none may be used."""
        hosts = self.usable
        if len(hosts) == 1:
            return hosts[0]
        endpoint = self.balancer.pick(hosts, self.rng, excluded) if hosts else None
        if endpoint is None:
            raise faults.no_healthy_upstream()
        return endpoint

    async def pick_original(self, authority: bytes, scheme: bytes) -> Endpoint:
        """Where the request itself says (PassthroughCluster); names are resolved now.

        Raises ProxyFault UF when the name does not resolve or the authority has no usable port.
        """
        host, port = split_port(authority)
        number = int(port) if port else {b"https": 443}.get(scheme, 80)
        name = host.strip(b"[]").decode("latin-1")
        if not 0 < number < 65536:
            raise faults.connect_failed(f"no port: {number}")
        try:
            with trio.fail_after(self.config.connection.connect_timeout):
                address = (await resolve(name))[0]
        except (OSError, UnicodeError, trio.TooSlowError) as exc:
            raise faults.connect_failed(f"cannot resolve {name}: {exc}") from exc
        key = (address, number)
        endpoint = self.endpoints.get(key)
        if endpoint is None:
            if len(self.endpoints) >= _MAX_ORIGINAL:
                self._forget_oldest()
            endpoint = self.endpoints[key] = Endpoint(config.Endpoint(address, number))
            endpoint.pool = Pool()
            endpoint.streams = StreamPool()
        return endpoint

    def _forget_oldest(self) -> None:
        for key, endpoint in self.endpoints.items():
            if not endpoint.active:
                endpoint.removed = True
                self.drain_endpoint(endpoint)
                del self.endpoints[key]
                return

    # What an answer tells

    def observe(self, endpoint: Endpoint, outcome: int | LocalFailure) -> None:
        """Tell the outlier detector how a try ended: a status, or a failure of this proxy's own."""
        if self.outlier is None:
            return
        refused = self.outlier.overflow
        ejection = self.outlier.observe(endpoint, outcome, self.clock(), len(self.endpoints), len(self.ejected))
        stats = self.stats
        if ejection is not None:
            self.ejected.add(endpoint)
            stats.outlier_detection_ejections_enforced_total.inc()
            getattr(stats, f"outlier_detection_ejections_enforced_{ejection.reason}").inc()
            self.refresh()
            self._ejections_changed()
        elif self.outlier.overflow != refused:
            stats.outlier_detection_ejections_overflow.inc()

    def observe_fault(self, endpoint: Endpoint, fault: faults.ProxyFault) -> None:
        """A try ended without an answer: count it where it belongs. Faults of the downstream charge nobody."""
        if fault.flag == "UT":
            endpoint.rq_timeout += 1
            self.observe(endpoint, LocalFailure.TIMEOUT)
        elif fault.origin == "upstream":
            endpoint.rq_error += 1
            self.observe(endpoint, _FAILURES.get(fault.reason, LocalFailure.RESET))

    def ejections(self) -> Iterator[tuple[Endpoint, str, float]]:
        """Endpoints ejected now: why, and until when at the earliest (the cluster's clock)."""
        for endpoint in self.ejected:
            if self.outlier is not None and endpoint.ejected_until is not None:
                yield endpoint, self.outlier.ejected_for(endpoint) or "", endpoint.ejected_until

    def tick(self, now: float) -> None:
        """Once in a while: let ejected endpoints back in, close connections idle too long."""
        if self.outlier is not None and now >= self._next_sweep:
            self._next_sweep = now + self.outlier.config.interval
            back = self.outlier.sweep(now)
            if back:
                self.ejected.difference_update(back)
                self.refresh()
                self._ejections_changed()
        self.close_old(now)
