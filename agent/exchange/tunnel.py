"""Exchanges that become byte tunnels: an accepted upgrade (WebSocket) and CONNECT on the outbound proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from agent.codec.headers import Headers
from agent.codec.message import ResponseHead
from agent.dataplane import Dataplane
from agent.exchange import faults
from agent.exchange.faults import ProxyFault
from agent.exchange.record import Record
from agent.exchange.relay import Stream
from agent.upstream.tcp import relay_bytes
from mesh.net.tcp import Transport

if TYPE_CHECKING:
    from agent.plan import Plan
    from agent.upstream.connections import Lease


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
        client = stream.downstream.transport
        upstream = await cluster.open_tcp(endpoint, (client.remote, client.local))
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
    result = await relay_bytes(
        stream.tunnel(),
        upstream,
        idle_timeout=idle_timeout,
        clock=dataplane.clock,
        pipes=dataplane.pipes,
        shuttle=dataplane.shuttle,
    )
    stream.bytes_in += result.from_downstream
    stream.bytes_out += result.from_upstream
