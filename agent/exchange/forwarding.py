"""What a proxy changes on every request and response, whatever the route: RFC 9110 7.6 and Istio's own headers.

Pure and synchronous. Route-level header operations are in route/rewrite.py.
"""

from __future__ import annotations

import base64
from random import Random
from typing import Final

from agent.codec.headers import Headers
from agent.codec.message import RequestHead, ResponseHead
from agent.exchange.request_ids import RequestIds
from agent.exchange.retry import CONTROL_HEADERS

_HOP_BY_HOP: Final = (b"keep-alive", b"proxy-connection", b"transfer-encoding")
_HOPS: Final = frozenset((*_HOP_BY_HOP, b"connection", b"te", b"upgrade"))
_EXTERNAL_ONLY: Final = CONTROL_HEADERS | {
    b"x-envoy-force-trace",
    b"x-envoy-ip-tags",
    b"x-envoy-upstream-alt-stat-name",
    b"x-envoy-expected-rq-timeout-ms",
    b"x-envoy-decorator-operation",
    b"x-envoy-downstream-service-cluster",
    b"x-envoy-downstream-service-node",
    b"x-envoy-internal",
    b"x-envoy-original-path",
    b"x-envoy-attempt-count",
    b"x-forwarded-client-cert",
}
"""What a client from outside may not say at a gateway."""
_SET_AT_EDGE: Final = frozenset(
    (b"x-forwarded-for", b"x-forwarded-proto", b"x-envoy-external-address", b"x-request-id")
)
_IGNORED_UPGRADES: Final = (b"h2c", b"tls/")


def strip_request_hops(head: RequestHead) -> bool:
    """Remove hop-by-hop fields. False: the request asks for an upgrade that is not served (403, `upgrade_failed`).

    An accepted upgrade (websocket) keeps `head.upgrade`, from which the codec writes the fields anew.
    """
    headers = head.headers
    index = headers.index
    if _HOPS.isdisjoint(index):
        return True
    nominated = index.get(b"connection")
    if nominated is not None:
        _remove_nominated(headers, nominated)
    for name in _HOP_BY_HOP:
        if name in index:
            headers.remove(name)
    te = index.get(b"te")
    if te is not None and te.strip().lower() != b"trailers":
        headers.remove(b"te")
    if b"upgrade" in index:
        token = head.upgrade
        headers.remove(b"upgrade")
        if token is None or token.startswith(_IGNORED_UPGRADES):
            head.upgrade = None
        elif token != b"websocket":
            return False
    return True


def complete_upgrade(head: RequestHead, rng: Random) -> None:
    """A WebSocket that came as an extended CONNECT has no key (RFC 8441 5); one that goes on over HTTP/1 needs it."""
    if head.version == b"2" and b"sec-websocket-key" not in head.headers.index:
        head.headers.add(b"sec-websocket-key", base64.b64encode(rng.randbytes(16)))


def _remove_nominated(headers: Headers, nominated: bytes) -> None:
    for token in nominated.lower().split(b","):
        name = token.strip()
        # a client must not be able to take away what routing and policy rest on
        if name and name not in (b"close", b"keep-alive", b"upgrade", b"host", b"te", b"content-length"):
            headers.remove(name)
    headers.remove(b"connection")


def count_hop(head: RequestHead) -> bool:
    """Max-Forwards of TRACE and OPTIONS (RFC 9110 7.6.2). False: this proxy is the last that the request may reach."""
    left = head.headers.index.get(b"max-forwards")
    if left is None or head.method not in (b"TRACE", b"OPTIONS") or not left.isdigit():
        return True
    hops = int(left[:9])
    if hops:
        head.headers.set(b"max-forwards", b"%d" % (hops - 1))
    return hops > 0


def bare_address(peer: str) -> bytes:
    """The IP address of a peer given as `IP:PORT` or `[IP]:PORT`, as forwarding fields tell it."""
    return peer.rpartition(":")[0].strip("[]").encode()


def enter_gateway(head: RequestHead, address: bytes, ids: RequestIds, *, tls: bool) -> bytes:
    """Edge treatment (use_remote_address) of a request of `address`: trust nothing the client says of itself.

    Returns the request id.
    """
    headers = head.headers
    index = headers.index
    if not _EXTERNAL_ONLY.isdisjoint(index):
        for name in _EXTERNAL_ONLY.intersection(index):
            headers.remove(name)
    before = index.get(b"x-forwarded-for")
    forwarded_for = address if before is None else before + b"," + address
    made = ids.make()
    fields = (
        (b"x-forwarded-for", forwarded_for),
        (b"x-forwarded-proto", b"https" if tls else b"http"),
        (b"x-envoy-external-address", address),
        (b"x-request-id", made),
    )
    if _SET_AT_EDGE.isdisjoint(index):
        headers.extend(fields)
    else:
        for name, value in fields:
            headers.set(name, value)
    return made


def enter_sidecar(head: RequestHead, ids: RequestIds, *, tls: bool) -> bytes:
    """Sidecars leave forwarding fields alone and fill in what is absent. Returns the request id.

    `tls` is how the request came; what its target says of that is only said.
    """
    headers = head.headers
    index = headers.index
    if b"x-envoy-internal" in index:
        headers.remove(b"x-envoy-internal")  # for a proxy at the edge to say, of whoever came in there
    if b"x-forwarded-proto" not in index:
        headers.add(b"x-forwarded-proto", b"https" if tls else b"http")
    known = index.get(b"x-request-id")
    if known is None:
        known = ids.make()
        headers.add(b"x-request-id", known)
    return known


def set_client_cert(head: RequestHead, element: bytes) -> None:
    """x-forwarded-client-cert on inbound: append this hop's element to a mesh peer's, drop anybody else's."""
    headers = head.headers
    before = headers.index.get(b"x-forwarded-client-cert")
    if element:
        headers.set(b"x-forwarded-client-cert", element if before is None else before + b"," + element)
    elif before is not None:
        headers.remove(b"x-forwarded-client-cert")


def strip_response_hops(head: ResponseHead) -> None:
    """Remove hop-by-hop fields of a response; the codec writes its own."""
    headers = head.headers
    index = headers.index
    if _HOPS.isdisjoint(index):
        return
    nominated = index.get(b"connection")
    if nominated is not None:
        _remove_nominated(headers, nominated)
    for name in _HOP_BY_HOP:
        if name in index:
            headers.remove(name)
    if b"upgrade" in index and head.status != 101:
        headers.remove(b"upgrade")
