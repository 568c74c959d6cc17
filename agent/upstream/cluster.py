"""A living cluster: its endpoints, who is picked, how many may be in use, and the connections to them.

Clusters are keyed by name and outlive snapshots: a push reconfigures them, pools and ejections stay.
Waiting for a connection at the limit is the only wait here besides connecting.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection, Iterator

import trio

from agent.codec import http1_client
from agent.codec.message import Limits as CodecLimits
from agent.exchange import faults
from agent.upstream.balancer import Balancer, compile_balancer, usable
from agent.upstream.connect import ClientCredentials, ClientIdentity, open_connection
from agent.upstream.endpoint import Endpoint
from agent.upstream.http1 import Http1Connection
from agent.upstream.limits import Limits
from agent.upstream.outlier import LocalFailure, OutlierDetector
from agent.upstream.pool import Pool
from agent.upstream.stats import ClusterStats
from mesh import config
from mesh.net.authority import split_port
from mesh.net.batch import WriteBatch
from mesh.net.tcp import Transport, resolve

Key = tuple[str, int]
_MAX_ORIGINAL = 1024
"""Destinations that a passthrough cluster remembers; the oldest idle one goes first (Envoy's DNS cache: 1024)."""

_FAILURES = {
    "remote_connection_failure": LocalFailure.CONNECT_FAILURE,
    "connection_timeout": LocalFailure.CONNECT_TIMEOUT,
    "per_try_timeout": LocalFailure.TIMEOUT,
}


class Cluster:
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
        batch: Callable[[], WriteBatch | None] = lambda: None,
        refused: Callable[[str, str, int], None] = lambda where, reason, count: None,
        ejections_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = settings.name
        self.config = settings
        self.clock = clock
        self.rng = rng
        self.endpoints: dict[Key, Endpoint] = {}
        self.usable: tuple[Endpoint, ...] = ()
        self.limits = Limits(settings.breakers)
        self.balancer: Balancer = compile_balancer(settings.lb_policy)
        self.outlier = OutlierDetector(settings.outlier) if settings.outlier else None
        self.ejected: set[Endpoint] = set()
        self.closed = False
        self.stats = stats
        self.dynamic = settings.discovery == "original_dst"
        self._next_sweep = 0.0
        self._identity = identity
        self._credentials = credentials
        self._codec_limits = codec_limits
        self._engine = engine
        self._batch = batch
        self._refused = refused
        self._ejections_changed = ejections_changed
        self._waiting: deque[trio.Event] = deque()

    # What a push changes

    def reconfigure(self, settings: config.Cluster) -> None:
        """Take new settings; connections made under other TLS or pool settings close now, or when they are idle."""
        old, self.config = self.config, settings
        if settings.lb_policy != old.lb_policy:
            self.balancer = compile_balancer(settings.lb_policy)
        if settings.breakers != old.breakers:
            self.limits.reconfigure(settings.breakers)
            for _ in range(len(self._waiting)):
                self._wake_one()
        if settings.outlier != old.outlier:
            self._reset_outlier(settings.outlier)
        if settings.health_check is None and old.health_check is not None:
            for endpoint in self.endpoints.values():  # nobody checks any more, so no verdict stands
                endpoint.check = None
                endpoint.set_checked(True)
        if settings.tls != old.tls or settings.connection != old.connection:
            for endpoint in self.endpoints.values():
                self._drain(endpoint)
        self.refresh()

    def _reset_outlier(self, settings: config.OutlierDetection | None) -> None:
        if settings is None or self.outlier is None:
            if self.outlier is not None:
                self.outlier.release_all()
            self.ejected.clear()
            self.outlier = OutlierDetector(settings) if settings else None
        else:
            self.outlier.reconfigure(settings)

    def set_endpoints(self, settings: tuple[config.Endpoint, ...]) -> None:
        """Replace the endpoint list; those that stay keep pools, counters and ejections."""
        if self.dynamic:
            return
        fresh: dict[Key, Endpoint] = {}
        for entry in settings:
            key = (entry.address, entry.port)
            endpoint = self.endpoints.get(key)
            if endpoint is None:
                endpoint = Endpoint(entry)
                endpoint.pool = Pool()
            else:
                if endpoint.config.tls != entry.tls:
                    self._drain(endpoint)
                endpoint.reconfigure(entry)
            fresh[key] = endpoint
        for key, endpoint in self.endpoints.items():
            if key not in fresh:
                endpoint.removed = True
                self.ejected.discard(endpoint)
                if self.outlier is not None:
                    self.outlier.forget(endpoint)
                self._drain(endpoint)
        self.endpoints = fresh
        self.refresh()

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
            self._drain(endpoint)

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
        return endpoint

    def _forget_oldest(self) -> None:
        for key, endpoint in self.endpoints.items():
            if not endpoint.active:
                endpoint.removed = True
                self._drain(endpoint)
                del self.endpoints[key]
                return

    def take(self, endpoint: Endpoint) -> Http1Connection | None:
        """Lease an idle connection; None when there is none."""
        pool: Pool = endpoint.pool
        connection = pool.take()
        if pool.closed:
            self._count_closed(endpoint)
        if connection is not None:
            connection.sent = connection.received = False
        return connection

    async def lease(self, endpoint: Endpoint) -> Http1Connection:
        """An idle or a new connection; give it back with `give` or `discard`, whatever happens.

        Raises ProxyFault UO when the pending queue is full, UF when connecting fails.
        """
        return self.take(endpoint) or await self._open_or_wait(endpoint)

    async def _open_or_wait(self, endpoint: Endpoint) -> Http1Connection:
        if not self.limits.try_admit_connection():
            self.stats.upstream_cx_overflow.inc()
            if not (self._close_one_idle() and self.limits.try_admit_connection()):
                return await self._wait_for_connection(endpoint)
        return await self._open(endpoint)

    async def _open(self, endpoint: Endpoint) -> Http1Connection:
        # the connection is counted; every way out but success uncounts it
        pool = endpoint.pool
        try:
            transport = await self._connect(endpoint)
        except BaseException as exc:
            if isinstance(exc, faults.ProxyFault):
                self._count_failed(endpoint, exc)
            self._release_connection()
            raise
        self._count_opened(endpoint)
        batch = self._batch()
        if batch is not None:
            transport.batch_writes(batch)
        codec = http1_client(self._codec_limits, self._engine)
        return Http1Connection(transport, codec, endpoint, pool, self.clock())

    async def _wait_for_connection(self, endpoint: Endpoint) -> Http1Connection:
        if not self.limits.try_admit_pending():
            self.stats.upstream_rq_pending_overflow.inc()
            raise faults.overflow()
        self.stats.upstream_rq_pending_active.inc()
        try:
            turn = trio.Event()
            self._waiting.append(turn)
            while True:
                try:
                    await turn.wait()
                except BaseException:
                    self._give_up_turn(turn)
                    raise
                connection = self.take(endpoint)
                if connection is not None:
                    return connection
                if self.limits.try_admit_connection() or (
                    self._close_one_idle() and self.limits.try_admit_connection()
                ):
                    return await self._open(endpoint)
                turn = trio.Event()
                self._waiting.appendleft(turn)  # a newcomer was quicker; whoever waited longest stays first
        finally:
            self.limits.release_pending()
            self.stats.upstream_rq_pending_active.dec()

    def _give_up_turn(self, turn: trio.Event) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)
        else:
            self._wake_one()  # the turn was given to this cancelled request: pass it on

    def _wake_one(self) -> None:
        if self._waiting:
            self._waiting.popleft().set()

    def _close_one_idle(self) -> bool:
        for endpoint in self.endpoints.values():
            if endpoint.pool.idle:
                self.discard(endpoint.pool.idle.pop(0), wake=False)
                return True
        return False

    def give(self, connection: Http1Connection, now: float) -> None:
        """Back into the pool when it can serve again, else closed."""
        endpoint = connection.endpoint
        connection.served += 1
        limit = self.config.connection.max_requests_per_connection
        lifetime = self.config.connection.max_connection_duration
        if (
            self.closed
            or endpoint.removed
            or connection.pool is not endpoint.pool
            or (limit and connection.served >= limit)
            or (lifetime and now - connection.born >= lifetime)
            or not connection.codec.start_next()
        ):
            self.discard(connection)
            return
        endpoint.pool.give(connection, now)
        if self._waiting:
            self._wake_one()

    def discard(self, connection: Http1Connection, *, wake: bool = True) -> None:
        """Close a connection for good."""
        connection.close()
        for reason, count in connection.codec.counts.items():
            self._refused("upstream_codec", reason, count)
        self._count_closed_one(connection.endpoint)
        self._release_connection(wake=wake)

    def _release_connection(self, *, wake: bool = True) -> None:
        self.limits.release_connection()
        if wake:
            self._wake_one()

    def _count_closed(self, endpoint: Endpoint) -> None:
        for _ in endpoint.pool.closed:
            self._count_closed_one(endpoint)
            self._release_connection()
        endpoint.pool.closed.clear()

    def _count_opened(self, endpoint: Endpoint) -> None:
        endpoint.cx_total += 1
        endpoint.cx_active += 1
        self.stats.upstream_cx_total.inc()
        self.stats.upstream_cx_active.inc()

    def _count_closed_one(self, endpoint: Endpoint) -> None:
        endpoint.cx_active -= 1
        self.stats.upstream_cx_active.dec()

    def _count_failed(self, endpoint: Endpoint, fault: faults.ProxyFault) -> None:
        endpoint.cx_connect_fail += 1
        self.stats.upstream_cx_connect_fail.inc()
        if fault.reason == "connection_timeout":
            self.stats.upstream_cx_connect_timeout.inc()

    def _drain(self, endpoint: Endpoint) -> None:
        endpoint.pool.drain()
        self._count_closed(endpoint)
        endpoint.pool = Pool()  # leased connections belong to the old one and are not taken back

    async def open_tcp(self, endpoint: Endpoint) -> Transport:
        """A fresh connection for opaque bytes; hand it to `close_tcp` afterwards. Raises ProxyFault UO or UF."""
        if not self.limits.try_admit_connection():
            self.stats.upstream_cx_overflow.inc()
            raise faults.overflow()
        try:
            transport = await self._connect(endpoint)
        except BaseException as exc:
            if isinstance(exc, faults.ProxyFault):
                self._count_failed(endpoint, exc)
            self._release_connection()
            raise
        self._count_opened(endpoint)
        return transport

    async def open_check(self, endpoint: Endpoint) -> Transport:
        """A connection for an active health check; limits and counters do not see it. Raises ProxyFault UF."""
        return await self._connect(endpoint)

    async def _connect(self, endpoint: Endpoint) -> Transport:
        return await open_connection(
            self.config, endpoint.config, self._identity(), self._credentials, endpoint.resumption
        )

    def close_tcp(self, endpoint: Endpoint, transport: Transport) -> None:
        """End what `open_tcp` began."""
        transport.close()
        self._count_closed_one(endpoint)
        self._release_connection()

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
        idle_timeout = self.config.connection.idle_timeout
        for endpoint in self.endpoints.values():
            if endpoint.pool.idle:
                endpoint.pool.expire(now, idle_timeout)
                if endpoint.pool.closed:
                    self._count_closed(endpoint)
