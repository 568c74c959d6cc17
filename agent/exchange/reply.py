"""Answers that the proxy itself gives: the only place that chooses their status, headers and body.

Texts and details are Envoy's. A reply to a fault, injected ones included, names its reason in `x-mesh-reply` and
the request id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from agent.codec.headers import Headers
from agent.codec.message import RequestHead, ResponseHead
from agent.exchange.faults import ProxyFault
from agent.exchange.record import Record

if TYPE_CHECKING:
    from agent.dataplane import Dataplane, Downstream

_GRPC_STATUS: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}


def local_response(
    status: int, body: bytes, headers: Headers, dataplane: Dataplane, *, keep_alive: bool = True
) -> tuple[ResponseHead, bytes]:
    """Head and body of a local reply; `headers` gains content-type, content-length and date."""
    if body and b"content-type" not in headers:
        headers.add(b"content-type", b"text/plain")
    if status >= 200 and status not in (204, 304):
        headers.set(b"content-length", b"%d" % len(body))
    headers.add(b"date", dataplane.http_date())
    return ResponseHead(status, headers, content_length=len(body), keep_alive=keep_alive), body


def fault_response(
    fault: ProxyFault, head: RequestHead, record: Record, dataplane: Dataplane, *, keep_alive: bool
) -> tuple[ResponseHead, bytes]:
    """What the client gets for a fault; a gRPC client gets its own kind of answer (trailers-only)."""
    headers = Headers()
    reason = ",".join(record.flags) or "-"
    details = fault.details.partition("[")[0]  # which policy refused is not for the client
    headers.add(b"x-mesh-reply", f"{reason} {details}".encode("ascii", "replace"))
    if record.request_id:
        headers.add(b"x-request-id", record.request_id)
    if fault.flag == "UO":
        headers.add(b"x-envoy-overloaded", b"true")
    if (head.headers.get(b"content-type") or b"").startswith(b"application/grpc"):
        return _grpc_response(fault, headers, record, dataplane, keep_alive=keep_alive)
    return local_response(fault.status, fault.body, headers, dataplane, keep_alive=keep_alive)


def _grpc_response(
    fault: ProxyFault, headers: Headers, record: Record, dataplane: Dataplane, *, keep_alive: bool
) -> tuple[ResponseHead, bytes]:
    status = _GRPC_STATUS.get(fault.status, 2)
    record.grpc_status = str(status)
    headers.add(b"content-type", b"application/grpc")
    headers.add(b"grpc-status", b"%d" % status)
    if fault.body:
        headers.add(b"grpc-message", quote(fault.body, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode())
    return local_response(200, b"", headers, dataplane, keep_alive=keep_alive)


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
