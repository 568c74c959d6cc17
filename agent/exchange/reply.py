"""Answers that the proxy itself gives: the only place that chooses their status, headers and body.

Texts and details are Envoy's. A reply to a fault, injected ones included, names its reason in `x-mesh-reply` and
the request id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.codec.headers import Headers
from agent.codec.message import ResponseHead
from agent.exchange import grpc
from agent.exchange.faults import ProxyFault
from agent.exchange.record import Record

if TYPE_CHECKING:
    from agent.dataplane import Dataplane, Downstream


def local_response(
    status: int, body: bytes, headers: Headers, dataplane: Dataplane, *, keep_alive: bool = True
) -> tuple[ResponseHead, bytes]:
    """Head and body of a local reply; `headers` gains content-type, content-length and date."""
    if body and b"content-type" not in headers:
        headers.add(b"content-type", b"text/plain")
    if status >= 200 and status not in (204, 304):
        headers.put(b"content-length", b"%d" % len(body))
    headers.add(b"date", dataplane.http_date())
    return ResponseHead(status, headers, content_length=len(body), keep_alive=keep_alive), body


def reply(
    status: int,
    body: bytes,
    headers: Headers,
    record: Record,
    dataplane: Dataplane,
    *,
    keep_alive: bool,
    grpc_status: int | None = None,
) -> tuple[ResponseHead, bytes]:
    """Head and body of a local reply in the kind that the client understands.

    To a gRPC client, and to anybody when `grpc_status` is given, it is trailers-only: HTTP 200, a grpc-status (the
    one that `status` stands for when none is given), and the body as grpc-message.
    """
    if not record.grpc and grpc_status is None:
        return local_response(status, body, headers, dataplane, keep_alive=keep_alive)
    if grpc_status is None:
        grpc_status = grpc.status_of_http(status)
    record.grpc_status = str(grpc_status)
    headers.put(b"content-type", b"application/grpc")
    _tell(headers, grpc_status, body)
    return local_response(200, b"", headers, dataplane, keep_alive=keep_alive)


def _tell(headers: Headers, grpc_status: int, body: bytes) -> None:
    headers.put(b"grpc-status", b"%d" % grpc_status)
    if body:
        headers.put(b"grpc-message", grpc.message(body))


def grpc_trailers(fault: ProxyFault, record: Record) -> Headers:
    """How a gRPC response that had begun ends with a fault."""
    trailers = Headers()
    status = grpc.status_of_http(fault.status) if fault.grpc_status is None else fault.grpc_status
    record.grpc_status = str(status)
    _tell(trailers, status, fault.body)
    return trailers


def fault_response(
    fault: ProxyFault, record: Record, dataplane: Dataplane, *, keep_alive: bool
) -> tuple[ResponseHead, bytes]:
    """What the client gets for a fault."""
    headers = Headers()
    reason = ",".join(record.flags) or "-"
    details = fault.details.partition("[")[0]  # which policy refused is not for the client
    headers.add(b"x-mesh-reply", f"{reason} {details}".encode("ascii", "replace"))
    if record.request_id:
        headers.add(b"x-request-id", record.request_id)
    if fault.flag == "UO":
        headers.add(b"x-envoy-overloaded", b"true")
    return reply(
        fault.status,
        fault.body,
        headers,
        record,
        dataplane,
        keep_alive=keep_alive,
        grpc_status=fault.grpc_status,
    )


def refused_record(downstream: Downstream, dataplane: Dataplane, status: int, reason: str) -> Record:
    """The record of bytes that never became a request."""
    record = Record(dataplane.clock())
    record.flags = ("DPE",)
    record.details = f"http1.codec_error:{reason}"
    record.response_code = status
    record.inbound = downstream.config.direction == "inbound"
    record.downstream_remote = downstream.transport.remote
    record.downstream_local = downstream.transport.local
    return record
