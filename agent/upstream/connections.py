"""The half of a cluster that opens connections, lends them to exchanges and takes them back, within its limits.

A connection is for one exchange at a time (HTTP/1), shared by streams (HTTP/2), or for opaque bytes. Waiting for one at
the limit is the only wait here besides connecting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import trio

from agent.codec import http1_client, http2_client
from agent.codec.http2 import Http2, Http2Limits
from agent.codec.message import Limits as CodecLimits
from agent.exchange import faults
from agent.upstream.connect import NOBODY, Client, ClientCredentials, ClientIdentity, open_connection
from agent.upstream.endpoint import Endpoint
from agent.upstream.http1 import Http1Connection
from agent.upstream.http2 import Http2Connection, Http2Lease
from agent.upstream.limits import Limits
from agent.upstream.pool import Pool
from agent.upstream.stats import ClusterStats
from agent.upstream.stream_pool import Opening, StreamPool
from mesh import config
from mesh.net.batch import WriteBatch
from mesh.net.tcp import Transport

Key = tuple[str, int]
Lease: TypeAlias = Http1Connection | Http2Lease
"""What an exchange has of the upstream: a connection for itself, or a stream of a shared one."""


class Connections:
    """`nursery` owns the tasks that read HTTP/2 connections; without one there can be none."""

    def __init__(
        self,
        settings: config.Cluster,
        *,
        clock: Callable[[], float],
        identity: Callable[[], ClientIdentity | None],
        credentials: ClientCredentials | None = None,
        stats: ClusterStats,
        codec_limits: CodecLimits,
        engine: str = "auto",
        nursery: trio.Nursery | None = None,
        batch: Callable[[], WriteBatch | None] = lambda: None,
        refused: Callable[[str, str, int], None] = lambda where, reason, count: None,
    ) -> None:
        self.config = settings
        self.clock = clock
        self.endpoints: dict[Key, Endpoint] = {}
        self.limits = Limits(settings.breakers)
        self.closed = False
        self.stats = stats
        requests = self.limits.requests
        stats.upstream_rq_active.watch(lambda: requests.held)
        self._identity = identity
        self._credentials = credentials
        self._codec_limits = codec_limits
        self._http2_limits = Http2Limits(codec_limits.max_head_bytes, codec_limits.max_fields)
        self._engine = engine
        self._nursery = nursery
        self._batch = batch
        self._refused = refused
        self._waiting: deque[trio.Event] = deque()

    @property
    def _shares(self) -> bool:
        """Whether a connection may serve one client after another."""
        return self.config.proxy_protocol == "off"

    @property
    def queued(self) -> int:
        """Requests that wait for a connection and have not been called."""
        return len(self._waiting)

    def wake_all(self) -> None:
        """The limits have changed: whoever waits for a connection asks again."""
        for _ in range(len(self._waiting)):
            self.wake_one()

    def multiplexes(self, version: bytes) -> bool:
        """Whether a request of this HTTP version goes upstream over HTTP/2."""
        protocol = self.config.protocol
        return protocol == "http2" or (protocol == "downstream" and version == b"2")

    def take(self, endpoint: Endpoint, *, multiplexed: bool = False) -> Lease | None:
        """Lease an idle connection, or a stream of one that has room; None when there is none."""
        if not self._shares:
            return None
        if multiplexed:
            streams: StreamPool = endpoint.streams
            return streams.take(self.config.connection.max_requests_per_connection)
        pool: Pool = endpoint.pool
        connection = pool.take()
        if pool.closed:
            self._count_closed(endpoint)
        if connection is not None:
            connection.sent = connection.received = False
        return connection

    async def lease(
        self,
        endpoint: Endpoint,
        client: Client = NOBODY,
        *,
        multiplexed: bool = False,
        tell: Callable[[str], None] = lambda what: None,
    ) -> Lease:
        """An idle or a new connection on behalf of `client`, or a stream of one; `tell` hears what is waited for.

        Give it back with `give` or `discard`, whatever happens.

        Raises ProxyFault UO when the pending queue is full, UF when connecting fails.
        """
        while multiplexed and (opening := endpoint.streams.opening) is not None:
            await opening.finished()
            lease = self.take(endpoint, multiplexed=True)
            if lease is not None:
                return lease
        lease = self.take(endpoint, multiplexed=multiplexed)
        return lease or await self._open_or_wait(endpoint, client, multiplexed, tell)

    async def _open_or_wait(
        self, endpoint: Endpoint, client: Client, multiplexed: bool, tell: Callable[[str], None]
    ) -> Lease:
        if not self.limits.try_admit_connection():
            self.stats.upstream_cx_overflow.inc()
            if not (self._close_one_idle() and self.limits.try_admit_connection()):
                return await self._wait_for_connection(endpoint, client, multiplexed, tell)
        return await self._open(endpoint, client, multiplexed)

    async def _open(self, endpoint: Endpoint, client: Client, multiplexed: bool) -> Lease:
        return await (self._open_shared(endpoint, client) if multiplexed else self._open_own(endpoint, client))

    async def _open_shared(self, endpoint: Endpoint, client: Client) -> Http2Lease:
        pool: StreamPool = endpoint.streams
        assert self._nursery is not None
        opening = Opening()
        if self._shares:
            pool.opening = opening
        try:
            transport = await self._connect(endpoint, client)
        except BaseException as exc:
            if isinstance(exc, faults.ProxyFault):
                self._count_failed(endpoint, exc)
                opening.fault = exc
            self._release_connection()
            raise
        finally:
            pool.opening = None
            opening.done.set()
        self._count_opened(endpoint)
        codec = http2_client(self._http2_limits, self._engine, self.clock)
        most = self.config.connection.max_concurrent_streams
        connection = Http2Connection(transport, codec, endpoint, self.clock(), self.wake_one, most_streams=most)
        # for this request alone: nobody will come for it again, or it speaks for one client
        left = self.closed or endpoint.removed or pool is not endpoint.streams
        connection.closing = left or not self._shares
        pool.connections.append(connection)
        connection.open(self._nursery, self._batch())
        name = f"upstream connection to {endpoint.name}"
        self._nursery.start_soon(connection.run, lambda ended: self._shared_ended(pool, ended), name=name)
        return pool.lend(connection, self.config.connection.max_requests_per_connection)

    def _shared_ended(self, pool: StreamPool, connection: Http2Connection) -> None:
        pool.connections.remove(connection)
        for reason, count in connection.codec.counts.items():
            self._refused("upstream_codec", reason, count)
        if connection.codec.failed:
            self.stats.upstream_cx_protocol_error.inc()
            self._refused("upstream_http2", connection.codec.failed, 1)
        self._count_closed_one(connection.endpoint)
        self._release_connection()

    async def _open_own(self, endpoint: Endpoint, client: Client) -> Http1Connection:
        # the connection is counted; every way out but success uncounts it
        pool = endpoint.pool
        try:
            transport = await self._connect(endpoint, client)
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

    async def _wait_for_connection(
        self, endpoint: Endpoint, client: Client, multiplexed: bool, tell: Callable[[str], None]
    ) -> Lease:
        if not self.limits.try_admit_pending():
            self.stats.upstream_rq_pending_overflow.inc()
            raise faults.overflow()
        self.stats.upstream_rq_pending_active.inc()
        try:
            tell("pending queue")
            turn = trio.Event()
            self._waiting.append(turn)
            while True:
                try:
                    await turn.wait()
                except BaseException:
                    self._give_up_turn(turn)
                    raise
                connection = self.take(endpoint, multiplexed=multiplexed)
                if connection is not None:
                    return connection
                if self.limits.try_admit_connection() or (
                    self._close_one_idle() and self.limits.try_admit_connection()
                ):
                    tell("connection")
                    return await self._open(endpoint, client, multiplexed)
                turn = trio.Event()
                self._waiting.appendleft(turn)  # a newcomer was quicker; whoever waited longest stays first
        finally:
            self.limits.release_pending()
            self.stats.upstream_rq_pending_active.dec()

    def _give_up_turn(self, turn: trio.Event) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)
        else:
            self.wake_one()  # the turn was given to this cancelled request: pass it on

    def wake_one(self) -> None:
        """A place may be free: the one who has waited longest asks again."""
        if self._waiting:
            self._waiting.popleft().set()

    def _close_one_idle(self) -> bool:
        for endpoint in self.endpoints.values():
            if endpoint.pool.idle:
                self.discard(endpoint.pool.idle.pop(0), wake=False)
                return True
            for connection in endpoint.streams.connections:
                if not connection.leased and not connection.closing:
                    connection.close()  # its place is free when its task has ended, and then the queue moves on
                    return False
        return False

    def give(self, connection: Lease, now: float) -> None:
        """Back into the pool when it can serve again, else closed."""
        if isinstance(connection, Http2Lease):
            connection.finish(now, whole=True)
            return
        endpoint = connection.endpoint
        connection.served += 1
        limit = self.config.connection.max_requests_per_connection
        lifetime = self.config.connection.max_connection_duration
        if (
            self.closed
            or not self._shares
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
            self.wake_one()

    def discard(self, connection: Lease, *, wake: bool = True) -> None:
        """Close a connection for good, or reset a stream."""
        if isinstance(connection, Http2Lease):
            connection.finish(self.clock(), whole=False)
            return
        connection.close()
        for reason, count in connection.codec.counts.items():
            self._refused("upstream_codec", reason, count)
        self._count_closed_one(connection.endpoint)
        self._release_connection(wake=wake)

    def _release_connection(self, *, wake: bool = True) -> None:
        self.limits.release_connection()
        if wake:
            self.wake_one()

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

    def drain_endpoint(self, endpoint: Endpoint) -> None:
        """Close what is idle to it now, and what is leased when it comes back."""
        endpoint.pool.drain()
        self._count_closed(endpoint)
        endpoint.pool = Pool()  # leased connections belong to the old one and are not taken back
        for connection in tuple(endpoint.streams.connections):
            connection.part()
        endpoint.streams = StreamPool()

    async def open_tcp(self, endpoint: Endpoint, client: Client = NOBODY) -> Transport:
        """A fresh connection for opaque bytes, on behalf of `client`; hand it to `close_tcp` afterwards.

        Raises ProxyFault UO or UF.
        """
        if not self.limits.try_admit_connection():
            self.stats.upstream_cx_overflow.inc()
            raise faults.overflow()
        try:
            transport = await self._connect(endpoint, client)
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

    async def _connect(self, endpoint: Endpoint, client: Client = NOBODY) -> Transport:
        return await open_connection(
            self.config, endpoint.config, self._identity(), self._credentials, endpoint.resumption, client=client
        )

    def check_codec(self) -> Http2:
        """A codec for a health check by gRPC."""
        return http2_client(self._http2_limits, self._engine, self.clock)

    def close_tcp(self, endpoint: Endpoint, transport: Transport) -> None:
        """End what `open_tcp` began."""
        transport.close()
        self._count_closed_one(endpoint)
        self._release_connection()

    def close_old(self, now: float) -> None:
        """Once in a while: close connections idle or alive for too long."""
        settings = self.config.connection
        for endpoint in self.endpoints.values():
            if endpoint.pool.idle:
                endpoint.pool.expire(now, settings.idle_timeout)
                if endpoint.pool.closed:
                    self._count_closed(endpoint)
            for connection in tuple(endpoint.streams.connections):
                if connection.is_old(now, settings.idle_timeout, settings.max_connection_duration):
                    connection.part()
                if settings.http2_keepalive is not None and not connection.keep_alive(now, *settings.http2_keepalive):
                    self._refused("upstream_http2", "keepalive_timeout", 1)
                    connection.close()
