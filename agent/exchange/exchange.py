"""One request and its response: policy, route, cluster, endpoint, connection, relay, and what is told afterwards.

The driver calls `exchange`; deciders are called from here and never call each other. Every way out ends in one
record. forward.py makes the tries; reply.py words what the proxy itself answers.
"""

from __future__ import annotations

from typing import Final

import trio

from agent.codec.headers import Headers
from agent.codec.message import End, ProtocolError, ResponseHead
from agent.dataplane import Dataplane, Downstream
from agent.exchange import faults, forwarding, reply
from agent.exchange.authorization import authorize_request
from agent.exchange.canonical import is_odd, location
from agent.exchange.faults import ProxyFault
from agent.exchange.forward import Forward
from agent.exchange.grpc import is_grpc
from agent.exchange.record import Record
from agent.exchange.relay import Stream
from agent.exchange.tunnel import connect_tunnel
from agent.route.action import CompiledRoute
from agent.route.rewrite import set_authority
from mesh.net.strand import become_task

_PROTOCOLS: Final = {b"1.1": "HTTP/1.1", b"2": "HTTP/2"}


async def exchange(stream: Stream, dataplane: Dataplane) -> None:
    """Serve the request that `stream` holds. Faults of either side end here; only cancellation passes through."""
    downstream = stream.downstream
    if stream.chain.authority:
        set_authority(stream.head, stream.chain.authority.encode())
    record = Record(dataplane.clock())
    stream.attach(record)
    _describe(record, stream, downstream)
    try:
        await _serve(stream, dataplane, record)
    except ProxyFault as fault:
        await _answer_fault(stream, fault, record, dataplane)
    except ProtocolError as error:
        await _answer_fault(stream, _blame(error), record, dataplane)
    except BaseException as exc:  # cancellation, alone or in a nursery's group, or a bug
        if stream.timed_out and not isinstance(exc, Exception):
            _note_lateness(stream, record)
        else:
            record.flags += ("DC",) if stream.client_gone else ("LR",)
            record.termination_details = "internal_error" if isinstance(exc, Exception) else "exchange_cancelled"
        raise
    finally:
        stream.detach()
        record.bytes_received = stream.bytes_in
        record.bytes_sent = stream.bytes_out
        dataplane.finish(record)


def _blame(error: ProtocolError) -> ProxyFault:
    """A body that breaks the protocol is the client's fault; what cannot be encoded is ours."""
    details = f"http1.codec_error:{error.reason}"
    if error.status >= 500:
        return ProxyFault("proxy", "", details, status=500)
    return ProxyFault("downstream", "DPE", details, status=error.status)


def _note_lateness(stream: Stream, record: Record) -> None:
    """The sweeper ended the exchange; the driver answers or resets."""
    status, details = stream.lateness
    record.flags += ("SI",) if details == "stream_idle_timeout" else ()
    if stream.started:
        record.termination_details = details
    else:
        record.response_code, record.details = status, details


def _describe(record: Record, stream: Stream, downstream: Downstream) -> None:
    head = stream.head
    record.method = head.method
    record.path = head.path
    record.authority = head.authority
    record.protocol = _PROTOCOLS.get(head.version, "HTTP/1.0")
    record.grpc = is_grpc(head.headers)
    record.user_agent = head.headers.index.get(b"user-agent", b"")
    record.inbound = downstream.config.direction == "inbound"
    record.downstream_remote = downstream.transport.remote
    record.downstream_local = downstream.transport.local
    if downstream.peer is not None:
        record.mtls = True
        record.peer_principal = downstream.principal
        record.source = downstream.source


async def _serve(stream: Stream, dataplane: Dataplane, record: Record) -> None:
    head = stream.head
    served = forwarding.strip_request_hops(head)
    _enter(stream, dataplane, record)
    if not served:
        raise ProxyFault("proxy", "", "upgrade_failed", status=403)
    plan = dataplane.plan
    if head.method == b"CONNECT":
        await connect_tunnel(stream, plan, dataplane, record)
        return
    if is_odd(head.path) and await _canonicalize(stream, record, dataplane):
        return
    authz = stream.downstream.guard.authz
    if authz is not None:
        authorize_request(authz, head, stream.downstream, dataplane)
    route = plan.find_route(stream.chain, head)
    record.route = route.name
    if b"max-forwards" in head.headers.index and not forwarding.count_hop(head):
        raise faults.last_hop(head.method)
    if route.fault is not None:
        await _inject(route, stream, record, dataplane)
        if stream.complete:
            return
    if route.redirect is not None or route.direct is not None:
        await _answer_here(stream, route, record, dataplane)
        return
    target = route.pick_cluster(dataplane.rng)
    if target is None or target.upstream is None:
        record.cluster = target.cluster if target is not None else ""
        raise faults.no_cluster(route.missing_cluster_status)
    record.cluster = target.cluster
    record.service = target.upstream.config
    route.finalize_request(head, target, record)
    await Forward(stream, route, target, record, dataplane).run()


def _enter(stream: Stream, dataplane: Dataplane, record: Record) -> None:
    head = stream.head
    downstream = stream.downstream
    tls = downstream.tls  # not the scheme: an absolute target may name any
    if stream.chain.use_remote_address:
        if not downstream.address:
            downstream.address = forwarding.bare_address(downstream.transport.remote)
        record.request_id = forwarding.enter_gateway(head, downstream.address, dataplane.request_ids, tls=tls)
        if downstream.client_cert:
            forwarding.set_client_cert(head, downstream.client_cert)
    else:
        record.request_id = forwarding.enter_sidecar(head, dataplane.request_ids, tls=tls)
        if record.inbound:
            forwarding.set_client_cert(head, downstream.client_cert)
    record.forwarded_for = head.headers.index.get(b"x-forwarded-for", b"")


async def _canonicalize(stream: Stream, record: Record, dataplane: Dataplane) -> bool:
    """Give the request its one form of path. True: the client was told to ask again under that form."""
    head = stream.head
    path, redirect = dataplane.path_rules[stream.chain.path_normalization].canonical(head.path)
    head.path = path
    if not redirect:
        return False
    if record.grpc:
        raise faults.bad_path()  # gRPC knows no redirects
    record.details = "path_normalization_failed"
    headers = Headers()
    headers.add(b"location", location(path))
    await _send_local(stream, 307, b"", headers, record, dataplane)
    return True


async def _inject(route: CompiledRoute, stream: Stream, record: Record, dataplane: Dataplane) -> None:
    assert route.fault is not None
    delay, abort = route.fault.roll(dataplane.rng)
    if delay:
        record.flags += ("DI",)
        await become_task()
        with trio.CancelScope() as scope:
            stream.attempt = scope
            await trio.sleep(delay)
        if scope.cancelled_caught:
            raise faults.cut(stream)
    if abort is None:
        return
    record.flags += ("FI",)
    record.details = "fault_filter_abort"
    headers = Headers()
    headers.add(b"x-mesh-reply", b"FI fault_filter_abort")
    headers.add(b"x-request-id", record.request_id)
    body = b"fault filter abort"
    await _send_local(stream, abort.status, body, headers, record, dataplane, grpc_status=abort.grpc_status)


async def _answer_here(stream: Stream, route: CompiledRoute, record: Record, dataplane: Dataplane) -> None:
    record.details = "direct_response"
    headers = Headers()
    if route.redirect is not None:
        port = stream.downstream.config.port
        headers.add(b"location", route.redirect.location(stream.head, port))
        status, body = route.redirect.status, b""
    else:
        assert route.direct is not None
        status, body = route.direct.status, route.direct.body
    await _send_local(stream, status, body, headers, record, dataplane, route)


async def _send_local(
    stream: Stream,
    status: int,
    body: bytes,
    headers: Headers,
    record: Record,
    dataplane: Dataplane,
    route: CompiledRoute | None = None,
    grpc_status: int | None = None,
) -> None:
    head, body = reply.reply(
        status, body, headers, record, dataplane, keep_alive=not dataplane.draining, grpc_status=grpc_status
    )
    if route is not None:
        route.finalize_response(head, stream.head, None, record)
    await _send_whole(stream, head, body, record)


async def _send_whole(stream: Stream, head: ResponseHead, body: bytes, record: Record) -> None:
    """One response in one write; then read off a request that is all but finished, so the connection can go on."""
    record.response_code = head.status
    if stream.chain.server_name:
        head.headers.put(b"server", stream.chain.server_name.encode())
    stream.write_head(head)
    if body:
        stream.write_data(body)
    stream.write_end()
    await stream.flush()
    while not stream.request_done:
        if stream.next_event() is None:
            return  # the rest has not come: the driver closes, lingering


async def _end_call(stream: Stream, fault: ProxyFault, record: Record) -> None:
    """A gRPC response has its status at its end: a fault can be told even when it has begun."""
    fault.tell_begun()
    stream.write_end(End(reply.grpc_trailers(fault, record)))
    try:
        await stream.flush()
    except ProxyFault:
        record.flags += ("DC",)
        stream.close()


async def _answer_fault(stream: Stream, fault: ProxyFault, record: Record, dataplane: Dataplane) -> None:
    if fault.flag and fault.flag not in record.flags:
        record.flags += (fault.flag,)
    record.transport_failure = fault.transport
    if fault.origin == "downstream" and fault.flag == "DC":
        record.details = record.details or fault.details
        stream.close()
        return
    if stream.complete and fault.origin == "downstream":
        record.termination_details = fault.details  # the answer is out; the driver closes the connection
        return
    if stream.started:
        record.termination_details = fault.details.replace("_before_response", "_after_response")
        if record.grpc and stream.can_end:
            await _end_call(stream, fault, record)
        else:
            stream.abandon()  # too late for a status: the client must see that the message is cut
        return
    record.details = fault.details
    keep_alive = not dataplane.draining and fault.origin != "downstream"
    head, body = reply.fault_response(fault, record, dataplane, keep_alive=keep_alive)
    try:
        await _send_whole(stream, head, body, record)
    except ProxyFault:
        record.flags += ("DC",)
        stream.close()
    except ProtocolError:
        record.termination_details = "request_body_broken"  # the answer is out; the driver closes the connection
