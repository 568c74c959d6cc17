"""Drive one downstream connection of opaque bytes: choose a cluster, connect, relay both ways with half-close."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from agent.dataplane import Dataplane, Downstream
from agent.exchange import faults
from agent.exchange.authorization import authorize_connection
from agent.exchange.faults import ProxyFault
from agent.exchange.record import Record
from agent.upstream.cluster import Cluster
from agent.upstream.tcp import RelayResult, relay_bytes
from mesh import config


async def serve_tcp(downstream: Downstream, chain: config.TcpChain, dataplane: Dataplane) -> None:
    """Relay until both sides have ended. What fails closes the connection and is told in one record."""
    record = _describe(downstream, dataplane)
    try:
        if downstream.guard.authz is not None:
            authorize_connection(downstream.guard.authz, downstream, dataplane)
        with downstream.scope:
            await _relay(downstream, chain, dataplane, record)
    except ProxyFault as fault:
        if fault.flag:
            record.flags += (fault.flag,)
        record.details = fault.details
        record.transport_failure = fault.transport
        downstream.transport.reset()
    finally:
        record.end = dataplane.clock()
        dataplane.finish_tcp(record)


def _describe(downstream: Downstream, dataplane: Dataplane) -> Record:
    record = Record(dataplane.clock())
    record.protocol = "TCP"
    record.inbound = downstream.config.direction == "inbound"
    record.downstream_remote = downstream.transport.remote
    record.downstream_local = downstream.transport.local
    if downstream.peer is not None:
        record.mtls = True
        record.peer_principal = downstream.principal
        record.source = downstream.source
    return record


async def _relay(downstream: Downstream, chain: config.TcpChain, dataplane: Dataplane, record: Record) -> None:
    cluster = _pick_cluster(chain, dataplane, record)
    endpoint = cluster.pick()
    record.upstream_host = endpoint.name
    record.destination = endpoint.config.workload
    record.attempts = 1
    try:
        upstream = await cluster.open_tcp(endpoint, (downstream.transport.remote, downstream.transport.local))
    except ProxyFault as fault:
        cluster.observe_fault(endpoint, fault)
        raise
    try:
        record.upstream_local = upstream.local
        dataplane.stats.tcp_opened(record)
        result = await relay_bytes(
            downstream.transport,
            upstream,
            idle_timeout=chain.idle_timeout,
            clock=dataplane.clock,
            pipes=dataplane.pipes,
            shuttle=dataplane.shuttle,
        )
        _tell(result, record)
        if result.broken_by in ("downstream", "upstream"):
            for transport in (downstream.transport, upstream):
                transport.reset()  # neither side may take what was cut for the whole
    finally:
        cluster.close_tcp(endpoint, upstream)


def _tell(result: RelayResult, record: Record) -> None:
    record.bytes_received = result.from_downstream
    record.bytes_sent = result.from_upstream
    if result.broken_by == "downstream":
        record.flags += ("DC",)
    elif result.broken_by == "upstream":
        record.flags += ("UC",)
    elif result.broken_by == "idle":
        record.termination_details = "idle_timeout"


def _pick_cluster(chain: config.TcpChain, dataplane: Dataplane, record: Record) -> Cluster:
    names = [(name, weight) for name, weight in chain.clusters if weight > 0] or list(chain.clusters)
    if not names:
        raise faults.no_route()
    steps = list(accumulate(max(weight, 1) for _, weight in names))
    name = names[bisect_right(steps, dataplane.rng.random() * steps[-1])][0]
    record.cluster = name
    cluster = dataplane.plan.clusters.get(name)
    if cluster is None:
        raise faults.no_cluster()
    record.service = cluster.config
    return cluster
