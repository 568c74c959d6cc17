"""Send one request upstream, as often as the retry policy allows, and bring its response home.

A try in flight waits on two sockets only, so its deadline and a client that hangs up end it by closing them
(`cancel`, called by the data plane's clock); waits that are no socket's have cancel scopes. A scope per try would
cost a fifth of all that a request costs here.
"""

from __future__ import annotations

from typing import Final

import trio

from agent.codec.headers import Headers
from agent.codec.message import ProtocolError, ResponseHead
from agent.dataplane import Dataplane
from agent.exchange import faults, forwarding
from agent.exchange.deadline import NEVER, announce, stated_timeout, within_callers
from agent.exchange.faults import ProxyFault
from agent.exchange.grpc import http_of_status, status_number
from agent.exchange.record import Record
from agent.exchange.relay import RequestBody, Stream, relay_request, relay_response
from agent.exchange.retry import CONTROL_HEADERS, Retry
from agent.exchange.tunnel import relay_upgrade
from agent.route.action import CompiledRoute, WeightedTarget
from agent.upstream.cluster import Cluster
from agent.upstream.connections import Lease
from agent.upstream.endpoint import Endpoint
from mesh.net.strand import become_task

_LONGEST: Final = 3600.0  # seconds for a response to begin where no timeout is set: no wait is without an end
_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})  # RFC 9110 9.2.2


class Forward:
    """The tries of one exchange. `committed`: something of a response went to the client, so no further try."""

    __slots__ = (
        "_cluster",
        "_connection",
        "_cut",
        "_dataplane",
        "_deadline",
        "_healed",
        "_multiplexed",
        "_now",
        "_record",
        "_request_failure",
        "_retry",
        "_retrying",
        "_route",
        "_stated",
        "_stream",
        "_target",
        "_timeout",
        "_tried",
        "_waits",
        "body",
        "committed",
        "deadline",
    )

    def __init__(
        self,
        stream: Stream,
        route: CompiledRoute,
        target: WeightedTarget,
        record: Record,
        dataplane: Dataplane,
    ) -> None:
        self._stream = stream
        self._route = route
        self._target = target
        self._cluster: Cluster = target.upstream
        self._record = record
        self._dataplane = dataplane
        self._deadline = NEVER
        self._stated = NEVER
        """When a gRPC client gives up."""
        self._now = dataplane.clock() if record.flags else record.start  # a delay may have been injected
        self._retry = Retry.of(route.retry, stream.head)
        self._timeout = route.timeout if self._retry.timeout is None else self._retry.timeout
        if record.inbound and record.mtls:
            self._timeout = within_callers(self._timeout, stream.head.headers)
        if record.grpc:
            self._hear_deadline()
        self._tried: list[Endpoint] = []
        self._healed = False
        self._retrying = False
        self._request_failure: ProxyFault | ProtocolError | None = None
        self._multiplexed = self._cluster.multiplexes(stream.head.version)
        self._connection: Lease | None = None
        self._cut = False
        self.body = RequestBody(dataplane.settings.request_body_buffer_bytes)
        self.committed = False
        self.deadline = NEVER
        """When the try in flight is to be cut; the data plane's clock looks at it."""
        self._waits = "request body"  # while there is no connection
        stream.forward = self

    def cancel(self) -> None:
        """Cut the try in flight: its upstream connection is reset, and so is a client that saw a response begin, unless
        it can be told why."""
        self._cut = True
        self._stream.attempt = None  # what is closed here is not a client that has gone
        if self._connection is not None:
            self._connection.cut()
        if self._stream.started and not (self._record.grpc and self._stream.can_end):
            self._stream.abandon()

    # What /tasks asks

    @property
    def whole_deadline(self) -> float:
        """When the time for the whole response ends."""
        return self._deadline

    def waits_for(self) -> str:
        """What keeps it, one of mesh.telemetry.tasks.WAITS."""
        connection = self._connection
        if connection is None:
            return self._waits
        if connection.writing:
            return "upstream to read"
        if self._stream.started:
            return "upstream body"
        return "upstream head" if self.body.end is not None else "request body"

    async def run(self) -> None:
        """Try until a response was relayed. Raises the last ProxyFault."""
        cluster, stream, dataplane = self._cluster, self._stream, self._dataplane
        self._drop_control()
        stream.head.keep_alive = True  # the client's wish to close is not the upstream's
        if stream.head.upgrade is not None:
            forwarding.complete_upgrade(stream.head, dataplane.rng)
        if not self.body.take_none(stream):
            await self.body.read(stream)
            if self.body.waited:
                self._now = dataplane.clock()
        if stream.client_gone:
            raise faults.client_gone()
        if self._now >= self._stated:
            raise faults.deadline_exceeded()
        if self._timeout and self.body.end is not None:
            self._deadline = min(self._stated, self._now + self._timeout)
        if not cluster.limits.try_admit_request():
            cluster.stats.upstream_rq_pending_overflow.inc()
            raise faults.overflow()
        try:
            while not await self._try():
                await self._back_off()
                self.body.rewind()
        finally:
            cluster.limits.release_request()
            if self._retrying:
                cluster.limits.release_retry()

    def _hear_deadline(self) -> None:
        """A gRPC client's own deadline begins with the request; the route's timeout is the most that it may be."""
        stated = stated_timeout(self._stream.head.headers)
        if stated is None:
            self._dataplane.stats.refused("grpc", "bad_timeout")
        elif stated != NEVER:
            self._deadline = self._stated = self._record.start + min(stated, self._timeout or stated)

    def _drop_control(self) -> None:
        if self._retry.asked:
            headers = self._stream.head.headers
            for name in CONTROL_HEADERS.intersection(headers.index):
                headers.remove(name)

    async def _try(self) -> bool:
        """One try. True: the response was relayed; False: try again. Raises ProxyFault when it is not to be retried."""
        record = self._record
        record.attempts += 1
        cluster = self._cluster
        now = self._now
        per_try = self._retry.policy.per_try_timeout
        self.deadline = min(self._deadline, now + (per_try or _LONGEST))
        endpoint = await self._pick_original() if cluster.dynamic else cluster.pick(self._tried)
        self._tried.append(endpoint)
        record.upstream_host = endpoint.name
        record.destination = endpoint.config.workload
        self._announce(per_try, now)
        fault: ProxyFault | None = None
        done = False
        try:
            connection = cluster.take(endpoint, multiplexed=self._multiplexed) or await self._lease(endpoint)
            done = await self._send_and_relay(connection, endpoint)
        except ProxyFault as exc:
            fault = exc
        if self._cut:
            self._cut = False
            fault = self._why_cut()
        if fault is None:
            return done
        cluster.observe_fault(endpoint, fault)
        if self._may_try_again(fault):
            return False
        if self._retry.used:
            fault.tell_retried()
        raise fault

    def _announce(self, per_try: float, now: float) -> None:
        headers = self._stream.head.headers
        if not self._record.inbound:
            headers.put(b"x-envoy-attempt-count", b"%d" % self._record.attempts)
        if self._timeout or per_try or self._stated != NEVER:
            whole = self._timeout or NEVER if self._deadline == NEVER else self._deadline - now
            left = min(per_try or NEVER, whole)
            if left != NEVER:
                announce(headers, left, grpc=self._record.grpc)

    async def _pick_original(self) -> Endpoint:
        head = self._stream.head
        self._waits = "name resolution"
        await become_task()
        with trio.CancelScope(deadline=self.deadline) as scope:
            self._stream.attempt = scope
            return await self._cluster.pick_original(head.authority, head.scheme)
        raise self._why_cut()

    async def _lease(self, endpoint: Endpoint) -> Lease:
        """Connect, or wait for a connection; these waits are no socket's that `cancel` could close."""
        self._waits = "connection"
        await become_task()
        with trio.CancelScope(deadline=self.deadline) as scope:
            self._stream.attempt = scope
            client = self._stream.downstream.transport
            return await self._cluster.lease(
                endpoint, (client.remote, client.local), multiplexed=self._multiplexed, tell=self._wait_for
            )
        raise self._why_cut()

    def _wait_for(self, what: str) -> None:
        self._waits = what

    async def _send_and_relay(self, connection: Lease, endpoint: Endpoint) -> bool:
        if not self._multiplexed:
            await become_task()
        cluster = self._cluster
        kept = False
        self._connection = connection
        self._stream.attempt = self
        self._dataplane.arm(self)
        endpoint.active += 1
        endpoint.rq_total += 1
        body = self.body
        try:
            self._record.upstream_local = connection.local
            await connection.send_request(self._stream.head, body.data, body.end)
            if body.end is not None:
                done = await self._respond(connection, endpoint)
            else:
                done = await self._respond_while_sending(connection, endpoint)
            if done and not self._stream.tunnelled:
                cluster.give(connection, self._now)
                kept = True
            return done
        finally:
            self._dataplane.disarm(self)
            self._connection = None
            endpoint.active -= 1
            if not kept:
                cluster.discard(connection)

    async def _respond_while_sending(self, connection: Lease, endpoint: Endpoint) -> bool:
        """The request's body is still coming: a second task sends it on while this one reads the response."""
        done = False
        fault: ProxyFault | ProtocolError | None = None
        self._request_failure = None
        self.body.streamed = True
        await become_task()
        async with trio.open_nursery() as nursery:

            async def send_body() -> None:
                try:
                    await relay_request(self._stream, connection, self.body)
                except (ProxyFault, ProtocolError) as exc:
                    self._request_failure = exc
                    if isinstance(exc, ProtocolError) or exc.origin == "downstream":
                        nursery.cancel_scope.cancel()
                else:
                    if self._timeout:
                        self._deadline = self.deadline = min(self._stated, self._dataplane.clock() + self._timeout)
                        self._dataplane.arm(self)

            nursery.start_soon(send_body, name="request body")
            try:
                done = await self._respond(connection, endpoint)
            except (ProxyFault, ProtocolError) as exc:
                fault = exc
            nursery.cancel_scope.cancel()
        if fault is not None:
            raise fault
        if not done and self._request_failure is not None:
            raise self._request_failure
        return done

    async def _respond(self, connection: Lease, endpoint: Endpoint) -> bool:
        response = await connection.read_head()
        while response.status < 200 and response.status != 101:
            if self._stream.head.version != b"1.0":
                self.committed = True
                self._stream.write_head(response)
                await self._stream.flush()
            response = await connection.read_head()
        status = response.status
        started, self._now = self._now, self._dataplane.clock()
        self._observe_status(endpoint, response)
        if self._retry.wants_response(status, response.headers) and self._admit_retry():
            return False
        self.committed = True
        if self.body.end is None:
            self.body.forget()
        self.deadline = self._deadline  # the timeout of one try ends with its head
        self._record.upstream_service_time = round((self._now - started) * 1000)
        self._record.details = "via_upstream"
        self._record.response_code = status
        self._prepare(response)
        if status == 101:
            self.deadline = NEVER
            await relay_upgrade(self._stream, response, connection, self._dataplane)
            return True
        self._stream.write_head(response)
        trailers = await relay_response(self._stream, connection)
        if self._record.grpc:
            self._observe_grpc_end(endpoint, trailers)
        return True

    def _prepare(self, response: ResponseHead) -> None:
        headers = response.headers
        forwarding.strip_response_hops(response)
        service_time = self._record.upstream_service_time or 0
        headers.put(b"x-envoy-upstream-service-time", b"%d" % service_time)
        server_name = self._stream.chain.server_name
        if server_name:
            headers.put(b"server", server_name.encode())
        index = headers.index
        if b"date" not in index:
            headers.extend(((b"date", self._dataplane.http_date()),))
        if b"grpc-status" in index:
            self._record.grpc_status = index[b"grpc-status"].decode("latin-1")
        self._route.finalize_response(response, self._stream.head, self._target, self._record)
        response.keep_alive = not self._dataplane.draining

    # Whether to try again

    def _may_repeat(self) -> bool:
        return not self.committed and self.body.repeatable

    def _may_try_again(self, fault: ProxyFault) -> bool:
        if fault.origin != "upstream":
            return False
        retry = self._retry
        harmless = fault.untouched or self._stream.head.method in _IDEMPOTENT
        if fault.reused and harmless and not self._healed and self._may_repeat():
            # the peer parted with the connection as it was taken: not a failure of the request, so not a retry
            self._healed = retry.immediate = True
            self._record.attempts -= 1
            self._tried.pop()
            return True
        return retry.wants_fault(fault) and self._admit_retry()

    def _admit_retry(self) -> bool:
        """Whether a try that the policy would repeat may be repeated now; says in the record why not."""
        if not self._may_repeat():
            if not self.committed:
                self._cluster.stats.retry_or_shadow_abandoned.inc()
            return False
        if not self._retry.spend():
            self._record.flags += ("URX",)
            return False
        if not self._retrying and not self._cluster.limits.try_admit_retry():
            self._cluster.stats.upstream_rq_retry_overflow.inc()
            self._record.flags += ("UO",)
            return False
        self._retrying = True  # and stays so to the end: the limit is on retries under way, not on waiting ones
        self._retry.immediate = False
        return True

    async def _back_off(self) -> None:
        retry = self._retry
        if retry.immediate:
            return
        self._waits = "retry back-off"
        await become_task()
        with trio.CancelScope(deadline=self._deadline) as scope:
            self._stream.attempt = scope
            await trio.sleep(retry.delay(self._dataplane.rng))
        if scope.cancelled_caught:
            raise self._why_cut()
        self._now = self._dataplane.clock()
        if not retry.ignore_previous_hosts:
            self._tried.clear()

    # What is told of a try

    def _why_cut(self) -> ProxyFault:
        if self._stream.client_gone or self._stream.timed_out:
            return faults.cut(self._stream)
        now = self._dataplane.clock()
        if now >= self._deadline:
            self._cluster.stats.upstream_rq_timeout.inc()
            if now >= self._stated:
                return faults.deadline_exceeded()
            return faults.route_timeout(204 if self._retry.alt_response else 504)
        self._cluster.stats.upstream_rq_per_try_timeout.inc()
        return faults.per_try_timeout()

    def _observe_status(self, endpoint: Endpoint, response: ResponseHead) -> None:
        status = response.status
        told = response.headers.index.get(b"grpc-status") if self._record.grpc else None
        if told is not None:
            status = http_of_status(status_number(told.decode("latin-1")))
        if told is not None or not self._record.grpc:
            _count(endpoint, ok=status < 500)
        if self._cluster.outlier is not None:
            self._cluster.observe(endpoint, status)

    def _observe_grpc_end(self, endpoint: Endpoint, trailers: Headers | None) -> None:
        """A call's status comes with its end, unless the head said it; without any, it has failed."""
        if not self._record.grpc_status:
            told = trailers.index.get(b"grpc-status", b"") if trailers is not None else b""
            self._record.grpc_status = told.decode("latin-1")
            _count(endpoint, ok=http_of_status(status_number(self._record.grpc_status)) < 500)


def _count(endpoint: Endpoint, *, ok: bool) -> None:
    if ok:
        endpoint.rq_success += 1
    else:
        endpoint.rq_error += 1
