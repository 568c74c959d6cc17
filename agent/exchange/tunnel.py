"""Exchanges that become byte tunnels: an accepted upgrade (WebSocket) and CONNECT on the outbound proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from agent.codec.headers import Headers
from agent.codec.message import End, ResponseHead
from agent.dataplane import Dataplane
from agent.exchange import faults
from agent.exchange.faults import ProxyFault
from agent.exchange.record import Record
from agent.exchange.relay import Stream
from agent.upstream.tcp import relay_bytes
from mesh.net.batch import WriteBatch
from mesh.net.tcp import Transport

if TYPE_CHECKING:
    from agent.plan import Plan
    from agent.upstream.cluster import Lease


async def relay_upgrade(
    stream: Stream,
    response: ResponseHead,
    connection: Lease,
    dataplane: Dataplane,
) -> None:
    """Pass a 101 on and then the bytes, until both sides end or `idle_timeout`. The route's timeout is over."""
    if stream.head.upgrade is None:
        raise faults.malformed("unasked_101")
    stream.write_head(response)
    await stream.flush()
    await _tunnel(stream, connection.tunnel(), stream.chain.idle_timeout, dataplane)


async def connect_tunnel(stream: Stream, plan: Plan, dataplane: Dataplane, record: Record) -> None:
    """CONNECT host:port on the explicit outbound proxy; anywhere else it is refused with 403 (Envoy)."""
    if not stream.chain.route_by_port:
        raise ProxyFault("proxy", "", "upgrade_failed", status=403)
    cluster = plan.connect_cluster(stream.chain, stream.head.authority)
    record.cluster = cluster.name
    record.service = cluster.config
    record.route = "connect"
    endpoint = await cluster.pick_original(stream.head.authority, b"https") if cluster.dynamic else cluster.pick()
    record.upstream_host = endpoint.name
    record.destination = endpoint.config.workload
    record.attempts = 1
    with trio.CancelScope() as scope:
        stream.attempt = scope
        upstream = await cluster.open_tcp(endpoint)
        try:
            stream.attempt = None
            record.response_code = 200
            record.details = "via_upstream"
            stream.write_head(ResponseHead(200, Headers(), reason=b"Connection Established"))
            await stream.flush()
            await _tunnel(stream, upstream, stream.chain.idle_timeout, dataplane)
        finally:
            cluster.close_tcp(endpoint, upstream)
    if scope.cancelled_caught:
        raise faults.cut(stream)


async def _tunnel(stream: Stream, upstream: Transport, idle_timeout: float, dataplane: Dataplane) -> None:
    result = await relay_bytes(stream.tunnel(), upstream, idle_timeout=idle_timeout, clock=dataplane.clock)
    stream.bytes_in += result.from_downstream
    stream.bytes_out += result.from_upstream


class Ends(Protocol):
    """A stream of either end, once it carries a tunnel."""

    fault: ProxyFault | None

    def next_event(self) -> bytes | End | None: ...
    async def fill(self) -> None: ...
    async def send_data(self, data: bytes) -> None: ...
    async def send_end(self) -> None: ...
    def reset(self) -> None: ...


class StreamTransport:
    """The two directions of an HTTP/2 stream as a Transport; `under` is the connection that it is part of."""

    def __init__(self, stream: Ends, under: Transport) -> None:
        self.local = under.local
        self.remote = under.remote
        self._stream = stream
        self._pushed = b""
        self._ended = False
        self._closed = False

    async def receive(self) -> bytes:
        if self._pushed:
            data, self._pushed = self._pushed, b""
            return data
        try:
            while not self._ended:
                event = self._stream.next_event()
                if event is None:
                    await self._stream.fill()
                elif isinstance(event, End):
                    self._ended = True
                else:
                    return event
        except ProxyFault as fault:
            raise trio.BrokenResourceError(fault.details) from fault
        return b""

    async def send(self, data: bytes) -> None:
        try:
            await self._stream.send_data(data)
        except ProxyFault as fault:
            raise trio.BrokenResourceError(fault.details) from fault

    async def send_eof(self) -> None:
        try:
            await self._stream.send_end()
        except ProxyFault as fault:
            raise trio.BrokenResourceError(fault.details) from fault

    def send_nowait(self, data: bytes) -> bool:
        raise NotImplementedError("a stream has a window: use send")

    async def drain(self) -> None:
        pass

    def batch_writes(self, batch: WriteBatch) -> None:
        pass  # streams of a connection leave together anyway

    def unread(self, data: bytes) -> None:
        self._pushed = data + self._pushed

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._stream.reset()

    def reset(self) -> None:
        self.close()

    def peer_gone(self) -> bool:
        return self._stream.fault is not None

    def quiet(self) -> bool:
        return not self._ended and not self._pushed and self._stream.fault is None

    def peer_finished(self) -> bool:
        return self._ended or self._stream.fault is not None
