"""Fields that a proxy changes whatever the route: hop-by-hop, identity of the request and of the client."""

from __future__ import annotations

import random
import re

import pytest
import trio

from agent.codec.headers import Headers
from agent.codec.message import RequestHead, ResponseHead
from agent.exchange import forwarding
from agent.exchange.request_ids import RequestIds
from tests.agent.exchange.scripts import listener, route, to
from tests.rig import (
    ScriptedUpstream,
    cluster,
    config,
    endpoint,
    http_listener,
    mesh_identity,
    serving,
    snapshot,
    web,
)

UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def request(*fields: tuple[bytes, bytes], upgrade: bytes | None = None) -> RequestHead:
    return RequestHead(b"GET", b"/", Headers(fields), authority=b"app", upgrade=upgrade)


def test_hop_by_hop_fields_go() -> None:
    head = request(
        (b"Host", b"app"),
        (b"Connection", b"close, X-Hop , host, te, content-length, keep-alive"),
        (b"X-Hop", b"1"),
        (b"Keep-Alive", b"5"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Transfer-Encoding", b"chunked"),
        (b"TE", b"trailers"),
        (b"Content-Length", b"0"),
        (b"X-End", b"1"),
    )
    assert forwarding.strip_request_hops(head)
    assert [name for name, _ in head.headers.items] == [b"Host", b"TE", b"Content-Length", b"X-End"]


@pytest.mark.parametrize(
    ("method", "before", "goes_on", "after"),
    [
        (b"TRACE", b"0", False, b"0"),
        (b"OPTIONS", b"0", False, b"0"),
        (b"OPTIONS", b"1", True, b"0"),
        (b"TRACE", b"10", True, b"9"),
        (b"GET", b"0", True, b"0"),
        (b"TRACE", b"-1", True, b"-1"),
    ],
)
def test_max_forwards_counts_down_for_trace_and_options(
    method: bytes, before: bytes, goes_on: bool, after: bytes
) -> None:
    head = RequestHead(method, b"/", Headers(((b"max-forwards", before),)))
    assert forwarding.count_hop(head) is goes_on
    assert head.headers.get(b"max-forwards") == after


@pytest.mark.parametrize(("value", "kept"), [(b"trailers", True), (b" Trailers", True), (b"gzip, trailers", False)])
def test_te_says_trailers_or_goes(value: bytes, kept: bool) -> None:
    head = request((b"te", value))
    forwarding.strip_request_hops(head)
    assert (b"te" in head.headers) is kept


@pytest.mark.parametrize(
    ("token", "served", "left"),
    [
        (b"websocket", True, b"websocket"),
        (b"h2c", True, None),
        (b"tls/1.2", True, None),
        (None, True, None),
        (b"foo", False, b"foo"),
    ],
)
def test_upgrades(token: bytes | None, served: bool, left: bytes | None) -> None:
    head = request((b"upgrade", token or b"websocket"), upgrade=token)
    assert forwarding.strip_request_hops(head) is served
    assert head.upgrade == left
    assert b"upgrade" not in head.headers


def test_hop_by_hop_fields_of_an_upgrade_go_too() -> None:
    head = request(
        (b"Connection", b"upgrade, x-hop"),
        (b"Upgrade", b"websocket"),
        (b"X-Hop", b"1"),
        (b"Keep-Alive", b"5"),
        (b"Sec-WebSocket-Key", b"k"),
        upgrade=b"websocket",
    )
    assert forwarding.strip_request_hops(head)
    assert [name for name, _ in head.headers.items] == [b"Sec-WebSocket-Key"]
    switching = ResponseHead(
        101, Headers(((b"connection", b"upgrade, x-hop"), (b"x-hop", b"1"), (b"keep-alive", b"5")))
    )
    forwarding.strip_response_hops(switching)
    assert switching.headers.items == []


def test_hop_by_hop_fields_of_a_response_go() -> None:
    fields = ((b"connection", b"x-hop"), (b"x-hop", b"1"), (b"keep-alive", b"5"), (b"upgrade", b"h2c"), (b"x", b"1"))
    head = ResponseHead(200, Headers(fields))
    forwarding.strip_response_hops(head)
    assert head.headers.items == [(b"x", b"1")]
    switching = ResponseHead(101, Headers(((b"upgrade", b"websocket"),)))
    forwarding.strip_response_hops(switching)
    assert b"upgrade" in switching.headers


def test_an_ipv6_peer_is_named_without_brackets() -> None:
    head = request()
    forwarding.enter_gateway(head, forwarding.bare_address("[::1]:5555"), RequestIds(random.Random(1)), tls=True)
    assert head.headers.get(b"x-forwarded-for") == b"::1"
    assert head.headers.get(b"x-forwarded-proto") == b"https"


async def test_a_gateway_trusts_nothing_that_a_client_says_of_itself() -> None:
    lies = (
        b"x-request-id: mine\r\nx-forwarded-for: 10.9.8.7\r\nx-forwarded-proto: https\r\n"
        b"x-envoy-external-address: 10.9.8.7\r\nx-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 9\r\n"
        b"x-envoy-upstream-rq-timeout-ms: 1\r\nx-envoy-internal: true\r\nx-envoy-attempt-count: 5\r\n"
        b"x-envoy-original-path: /x\r\nx-envoy-decorator-operation: x\r\nx-forwarded-client-cert: By=me\r\n"
        b"x-envoy-expected-rq-timeout-ms: 1\r\nx-custom: kept\r\n"
    )
    front = http_listener(use_remote_address=True)
    async with ScriptedUpstream().running() as upstream, serving(web(upstream.port, listener=front)) as proxy:
        async with proxy.connect() as wire:
            with trio.fail_after(5):
                assert (await wire.ask(b"http://app/", extra=lies)).status == 200
                assert (await wire.ask(b"https://app/", extra=lies)).status == 200
    for sent in (upstream.requests[0].headers, upstream.requests[1].headers):
        assert {name: value for name, value in sent.items() if name != b"x-request-id"} == {
            b"host": b"app",
            b"x-forwarded-for": b"10.9.8.7,127.0.0.1",
            b"x-forwarded-proto": b"http",
            b"x-envoy-external-address": b"127.0.0.1",
            b"x-envoy-attempt-count": b"1",
            b"x-custom": b"kept",
        }
        assert UUID.fullmatch(sent[b"x-request-id"])
    assert proxy.records[0].forwarded_for == b"10.9.8.7,127.0.0.1"


async def test_a_sidecar_keeps_what_the_app_says_and_fills_in_the_rest() -> None:
    front = listener("outbound", route_config="web")
    async with ScriptedUpstream().running() as upstream:
        async with serving(web(upstream.port, listener=front), role="sidecar") as proxy, proxy.connect() as wire:
            said = b"x-request-id: mine\r\nx-forwarded-for: 10.9.8.7\r\nx-forwarded-proto: https\r\n"
            said += b"via: 1.1 before\r\nx-forwarded-host: shop\r\nx-forwarded-port: 1\r\n"
            await wire.ask(extra=said + b"x-envoy-internal: true\r\n")
            await wire.ask(b"https://app/")  # whatever the target says, it came without TLS
    kept, filled = (each.headers for each in upstream.requests)
    assert kept[b"x-request-id"] == b"mine"
    assert (kept[b"x-forwarded-for"], kept[b"x-forwarded-proto"]) == (b"10.9.8.7", b"https")
    assert (kept[b"via"], kept[b"x-forwarded-host"], kept[b"x-forwarded-port"]) == (b"1.1 before", b"shop", b"1")
    assert b"x-envoy-internal" not in kept
    assert not {b"via", b"x-forwarded-host", b"x-forwarded-port", b"x-envoy-external-address"} & filled.keys()
    assert UUID.fullmatch(filled[b"x-request-id"])
    assert filled[b"x-forwarded-proto"] == b"http"
    assert b"x-forwarded-for" not in filled
    assert proxy.records[1].request_id == filled[b"x-request-id"]


@pytest.mark.parametrize("tls", [True, False])
async def test_client_certificates_on_inbound(tls: bool) -> None:
    own, peer = mesh_identity("own"), mesh_identity("peer")
    given = snapshot(
        listener("inbound", tls=tls, route_config="web"),
        route(to("app")),
        cluster(),
    )
    async with ScriptedUpstream().running() as upstream:
        given.endpoints["app"] = config.ClusterEndpoints("app", (endpoint(upstream.port),))
        async with serving(given, identity=own) as proxy, proxy.connect(peer if tls else None) as wire:
            await wire.ask(extra=b"x-forwarded-client-cert: By=before\r\n")
            await wire.ask()
    said, silent = (each.headers.get(b"x-forwarded-client-cert") for each in upstream.requests)
    if not tls:
        assert said is None
        assert silent is None
        return
    assert silent is not None
    element = rf'By={own.spiffe_id};Hash=[0-9a-f]{{64}};Subject="";URI={peer.spiffe_id}'.encode()
    assert re.fullmatch(element, silent)
    assert said == b"By=before," + silent
    assert b"x-envoy-attempt-count" not in upstream.requests[0].headers
