"""One exchange end to end through a listener: what is decided before a cluster is asked, and what is told after."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
import trio.testing

from agent.bootstrap import Settings
from mesh import config
from mesh.config import DirectResponse, Fault, FaultAbort, FaultDelay, HeaderOps, Redirect, Rewrite, WeightedCluster
from tests.agent.exchange.scripts import HANG_UP, listener, ok, route, steps, to
from tests.rig import (
    Message,
    ScriptedUpstream,
    Serving,
    cluster,
    endpoint,
    http_listener,
    mesh_identity,
    serving,
    settle,
    snapshot,
    web,
)

UNREACHED = 9  # discard: nothing of these tests connects there


def given(action: Any, *clusters: tuple[str, int], front: config.Listener | None = None, **fields: Any) -> Any:
    """One route, and clusters by name and port."""
    made = snapshot(front or http_listener(), route(action, **fields))
    for name, port in clusters:
        made.clusters[name] = cluster(name)
        made.endpoints[name] = config.ClusterEndpoints(name, (endpoint(port),))
    return made


async def ask(proxy: Serving, path: bytes = b"/", extra: bytes = b"") -> Message:
    async with proxy.connect() as wire:
        with trio.fail_after(30):
            return await wire.ask(path, extra=extra)


# Answers of the proxy itself


async def test_a_host_that_nobody_serves() -> None:
    table = config.RouteConfig("web", (config.VirtualHost("one", ("one",)),))
    async with serving(snapshot(http_listener(), table)) as proxy:
        for host in (b"other", b"one"):
            async with proxy.connect() as wire:
                answer = await wire.ask(host=host)
                assert (answer.status, answer.body) == (404, b"")
                assert answer.headers[b"x-mesh-reply"] == b"NR route_not_found"
    record = proxy.records[0]
    assert (record.flags, record.details, record.authority) == (("NR",), "route_not_found", b"other")


async def test_a_direct_answer() -> None:
    headers = HeaderOps(set=(("x-from", "here"),))
    async with serving(given(DirectResponse(418, b"teapot"), response_headers=headers)) as proxy:
        answer = await ask(proxy)
        async with proxy.connect() as wire:
            await wire.send(b"HEAD / HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n")
            head = await wire.head()
            assert (head.headers[b"content-length"], await wire.rest()) == (b"6", b"")
    assert (answer.status, answer.body, answer.headers[b"x-from"]) == (418, b"teapot", b"here")
    assert answer.headers[b"content-type"] == b"text/plain"
    assert b"date" in answer.headers
    record = proxy.records[0]
    assert (record.details, record.response_code, record.flags, record.route) == ("direct_response", 418, (), "all")


async def test_a_redirect() -> None:
    async with serving(given(Redirect(308, scheme="https", authority="new.example"))) as proxy:
        answer = await ask(proxy, b"/path?q=1")
    assert (answer.status, answer.body) == (308, b"")
    assert answer.headers[b"location"] == b"https://new.example/path?q=1"


async def test_the_connection_goes_on_after_a_local_answer() -> None:
    async with serving(given(DirectResponse(200, b"here"))) as proxy, proxy.connect() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 4\r\n\r\nbody")
        assert (await wire.message()).body == b"here"
        assert (await wire.ask()).body == b"here"
        proxy.dataplane.draining = True
        assert (await wire.ask()).headers[b"connection"] == b"close"


async def test_a_local_answer_to_an_unfinished_request_ends_the_connection() -> None:
    async with serving(given(DirectResponse(200, b"here"))) as proxy, proxy.connect() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 400\r\n\r\nbody")
        with trio.fail_after(5):
            assert (await wire.message()).body == b"here"
            assert await wire.rest() == b""


@pytest.mark.parametrize("action", [DirectResponse(200, b"here"), to("gone")])
async def test_a_local_answer_reaches_a_client_whose_body_is_broken(action: Any) -> None:
    async with serving(given(action)) as proxy, proxy.connect() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        with trio.fail_after(5):
            assert (await wire.message()).status in (200, 503)
            assert await wire.rest() == b""
    assert proxy.records[0].response_code in (200, 503)
    assert proxy.records[0].termination_details


async def test_a_broken_body_on_its_way_up_is_a_bad_request() -> None:
    async with ScriptedUpstream().running() as upstream, serving(web(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            await wire.send(b"POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n")
            await settle()
            await wire.send(b"zz\r\n")
            with trio.fail_after(5):
                answer = await wire.message()
                assert await wire.rest() == b""
        await proxy.settled()
        assert proxy.cluster().limits.requests.held == 0
    assert (answer.status, answer.headers[b"connection"]) == (400, b"close")
    assert proxy.records[0].flags == ("DPE",)
    assert proxy.records[0].details.startswith("http1.codec_error:")


async def test_grpc_clients_get_their_own_kind_of_answer() -> None:
    async with ScriptedUpstream(steps(HANG_UP)).running() as upstream, serving(web(upstream.port)) as proxy:
        answer = await ask(proxy, extra=b"content-type: application/grpc+proto\r\n")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers[b"content-type"] == b"application/grpc"
    assert answer.headers[b"grpc-status"] == b"14"
    assert answer.headers[b"grpc-message"].startswith(b"upstream connect error")
    assert proxy.records[0].grpc_status == "14"


async def test_a_local_answer_names_the_request() -> None:
    async with serving(given(to("gone"))) as proxy:
        answer = await ask(proxy, extra=b"x-request-id: mine\r\n")
    assert answer.headers[b"x-request-id"] == b"mine"
    assert proxy.records[0].request_id == b"mine"


# Faults


async def test_a_delay_comes_before_routing(autojump_clock: trio.testing.MockClock) -> None:
    fault = Fault(delay=FaultDelay(7.0, 100.0))
    async with ScriptedUpstream().running() as upstream:
        async with serving(given(to("app"), ("app", upstream.port), fault=fault)) as proxy:
            answer = await ask(proxy)
    record = proxy.records[0]
    assert answer.status == 200
    assert record.flags == ("DI",)
    assert record.end - record.start == pytest.approx(7.0)


async def test_a_client_that_leaves_during_a_delay(autojump_clock: trio.testing.MockClock) -> None:
    fault = Fault(delay=FaultDelay(700.0, 100.0))
    async with serving(given(to("app"), ("app", UNREACHED), fault=fault)) as proxy:
        async with proxy.connect() as wire:
            await wire.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
            await settle()
        with trio.fail_after(5):
            await proxy.settled()
    assert proxy.records[0].flags == ("DI", "DC")


@pytest.mark.parametrize(
    ("abort", "status", "body", "field"),
    [
        (FaultAbort(418, percent=100.0), 418, b"fault filter abort", (b"content-type", b"text/plain")),
        (FaultAbort(grpc_status=14, percent=100.0), 200, b"", (b"grpc-status", b"14")),
    ],
)
async def test_an_abort(abort: FaultAbort, status: int, body: bytes, field: tuple[bytes, bytes]) -> None:
    async with serving(given(to("app"), ("app", UNREACHED), fault=Fault(abort=abort))) as proxy:
        answer = await ask(proxy)
    assert (answer.status, answer.body, answer.headers[field[0]]) == (status, body, field[1])
    assert answer.headers[b"x-mesh-reply"] == b"FI fault_filter_abort"
    assert (proxy.records[0].flags, proxy.records[0].details) == (("FI",), "fault_filter_abort")


async def test_faults_of_no_percent_do_nothing() -> None:
    fault = Fault(FaultDelay(700.0, 0.0), FaultAbort(418, percent=0.0))
    async with ScriptedUpstream().running() as upstream:
        async with serving(given(to("app"), ("app", upstream.port), fault=fault)) as proxy:
            assert [(await ask(proxy)).status for _ in range(5)] == [200] * 5
    assert {record.flags for record in proxy.records} == {()}


# Routing


async def test_a_listener_that_stands_for_a_service_says_whom_a_request_is_for() -> None:
    host = "reviews.default.svc.cluster.local"
    table = config.RouteConfig(
        "9080", (config.VirtualHost("reviews", (host,), (config.Route("r", config.RouteMatch(), to("app")),)),)
    )
    front = listener("outbound", route_by_port=True, authority=f"{host}:9080")
    async with ScriptedUpstream().running() as upstream:
        endpoints = config.ClusterEndpoints("app", (endpoint(upstream.port),))
        async with serving(snapshot(front, table, cluster(), endpoints)) as proxy:
            assert (await ask(proxy)).status == 200
    assert upstream.requests[0].headers[b"host"] == f"{host}:9080".encode()
    assert proxy.records[0].authority == f"{host}:9080".encode()


async def test_a_rewrite_changes_path_and_authority() -> None:
    table = config.RouteConfig(
        "web",
        (
            config.VirtualHost(
                "any",
                ("*",),
                (
                    config.Route(
                        "old",
                        config.RouteMatch(path=config.StringMatch("prefix", "/old")),
                        to("app", rewrite=Rewrite(prefix="/new", authority="inside")),
                    ),
                ),
            ),
        ),
    )
    async with ScriptedUpstream().running() as upstream:
        async with serving(
            snapshot(http_listener(), table, cluster(), config.ClusterEndpoints("app", (endpoint(upstream.port),)))
        ) as proxy:
            await ask(proxy, b"/old/page?q=1")
    request = upstream.requests[0]
    assert (request.path, request.headers[b"host"]) == (b"/new/page?q=1", b"inside")
    assert proxy.records[0].path == b"/old/page?q=1"


async def test_header_operations_of_route_and_destination() -> None:
    target = WeightedCluster(
        "app",
        request_headers=HeaderOps(remove=("x-b",), set=(("x-d", "destination"),)),
        response_headers=HeaderOps(add=(("x-d", "destination"),)),
    )
    other = WeightedCluster("other", weight=0)
    async with ScriptedUpstream(steps(ok(extra=b"x-app: 1\r\n"))).running() as upstream:
        async with serving(
            given(
                to(target, other),
                ("app", upstream.port),
                request_headers=HeaderOps(remove=("x-a",), add=(("x-r", "route"),)),
                response_headers=HeaderOps(remove=("x-app",), set=(("x-r", "route"),)),
            )
        ) as proxy:
            answer = await ask(proxy, extra=b"x-a: 1\r\nx-b: 1\r\nx-c: 1\r\n")
    sent = upstream.requests[0].headers
    assert not {b"x-a", b"x-b"} & sent.keys()
    assert (sent[b"x-c"], sent[b"x-r"], sent[b"x-d"]) == (b"1", b"route", b"destination")
    assert (answer.headers[b"x-r"], answer.headers[b"x-d"]) == (b"route", b"destination")
    assert b"x-app" not in answer.headers


async def test_weights_share_requests() -> None:
    async with ScriptedUpstream().running() as one, ScriptedUpstream().running() as two:
        action = to(WeightedCluster("one", 80), WeightedCluster("two", 20))
        async with serving(given(action, ("one", one.port), ("two", two.port))) as proxy:
            proxy.dataplane.rng.seed(3)
            async with proxy.connect() as wire:
                for _ in range(200):
                    await wire.ask()
    counted = Counter(record.cluster for record in proxy.records)
    assert counted == {"one": len(one.requests), "two": len(two.requests)}
    assert 143 <= counted["one"] <= 177  # three standard deviations


# The one form of a path


async def test_the_canonical_path_is_routed_and_forwarded_and_the_original_is_logged() -> None:
    admin = config.Route("admin", config.RouteMatch(config.StringMatch("prefix", "/admin")), DirectResponse(403))
    others = config.Route("others", config.RouteMatch(), to("app"))
    table = config.RouteConfig("web", (config.VirtualHost("any", ("*",), (admin, others)),))
    async with ScriptedUpstream().running() as upstream:
        members = config.ClusterEndpoints("app", (endpoint(upstream.port),))
        async with serving(snapshot(http_listener(), table, cluster(), members)) as proxy:
            assert (await ask(proxy, b"/public/%2e./admin/x")).status == 403
            assert (await ask(proxy, b"/%61dmin")).status == 403
            assert (await ask(proxy, b"/a/./b\\c?d=/../e")).body == b"/a/b/c?d=/../e"
    assert [record.path for record in proxy.records] == [b"/public/%2e./admin/x", b"/%61dmin", b"/a/./b\\c?d=/../e"]
    assert [record.route for record in proxy.records] == ["admin", "admin", "others"]


async def test_the_chain_says_how_paths_are_normalized() -> None:
    front = http_listener(path_normalization="none")
    async with ScriptedUpstream().running() as upstream:
        async with serving(given(to("app"), ("app", upstream.port), front=front)) as proxy:
            assert (await ask(proxy, b"/a/../b")).body == b"/a/../b"


async def test_a_path_that_cannot_be_read_in_one_way_is_refused() -> None:
    async with serving(given(to("app"), ("app", UNREACHED))) as proxy:
        answer = await ask(proxy, b"/a%00b")
    assert (answer.status, answer.headers[b"x-mesh-reply"]) == (400, b"- path_normalization_failed")
    assert (proxy.records[0].details, proxy.records[0].path) == ("path_normalization_failed", b"/a%00b")


async def test_escaped_slashes_may_be_answered_with_a_redirect() -> None:
    settings = Settings(path_with_escaped_slashes_action="unescape_and_redirect")
    async with serving(given(to("app"), ("app", UNREACHED)), settings=settings) as proxy:
        answer = await ask(proxy, b"/a%2f..%2fb?c=1")
        assert (answer.status, answer.headers[b"location"]) == (307, b"/b?c=1")
        answer = await ask(proxy, b"/%2fevil.example")
        assert (answer.status, answer.headers[b"location"]) == (307, b"/evil.example")
        answer = await ask(proxy, b"/a%2fb", b"content-type: application/grpc\r\n")
        assert (answer.status, answer.headers[b"grpc-status"]) == (200, b"13")


async def test_the_last_hop_answers_itself() -> None:
    async with serving(given(to("app"), ("app", UNREACHED))) as proxy:
        for method, status in ((b"TRACE", 405), (b"OPTIONS", 200)):
            async with proxy.connect() as wire:
                await wire.send(method + b" / HTTP/1.1\r\nhost: app\r\nmax-forwards: 0\r\n\r\n")
                assert (await wire.message()).status == status
    assert [record.details for record in proxy.records] == ["max_forwards_reached"] * 2


# Upgrades and CONNECT that are refused


async def test_an_upgrade_that_is_not_served() -> None:
    async with serving(given(to("app"), ("app", UNREACHED))) as proxy:
        answer = await ask(proxy, extra=b"connection: upgrade\r\nupgrade: foo\r\n")
    assert (answer.status, answer.body) == (403, b"")
    assert answer.headers[b"x-mesh-reply"] == b"- upgrade_failed"
    assert answer.headers[b"x-request-id"]
    assert (proxy.records[0].details, proxy.records[0].flags) == ("upgrade_failed", ())


async def test_h2c_is_ignored() -> None:
    async with ScriptedUpstream().running() as upstream, serving(web(upstream.port)) as proxy:
        extra = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
        assert (await ask(proxy, extra=extra)).status == 200
    assert not {b"upgrade", b"connection", b"http2-settings"} & upstream.requests[0].headers.keys()


async def test_connect_is_refused_at_a_gateway() -> None:
    async with serving(given(to("app"), ("app", UNREACHED))) as proxy, proxy.connect() as wire:
        await wire.send(b"CONNECT app:443 HTTP/1.1\r\nhost: app:443\r\n\r\n")
        answer = await wire.message()
        assert (answer.status, answer.headers[b"connection"]) == (403, b"close")
    assert proxy.records[0].details == "upgrade_failed"


# Records


async def test_every_exchange_leaves_one_record() -> None:
    async with ScriptedUpstream().running() as upstream, serving(web(upstream.port)) as proxy:
        async with proxy.connect() as wire:
            local = wire.transport.local
            await wire.send(b"POST /x HTTP/1.1\r\nhost: app\r\nuser-agent: test\r\ncontent-length: 4\r\n\r\nbody")
            await wire.message()
        await proxy.settled()
    (record,) = proxy.records
    assert (record.method, record.path, record.authority) == (b"POST", b"/x", b"app")
    assert (record.user_agent, record.response_code, record.flags, record.details) == (b"test", 200, (), "via_upstream")
    assert (record.cluster, record.upstream_host) == ("app", f"127.0.0.1:{upstream.port}")
    assert record.bytes_received == len(
        b"POST /x HTTP/1.1\r\nhost: app\r\nuser-agent: test\r\ncontent-length: 4\r\n\r\nbody"
    )
    assert (record.downstream_remote, record.downstream_local) == (local, f"127.0.0.1:{proxy_port(record)}")
    assert record.upstream_local
    text = proxy.registry.exposition().decode()
    assert "istio_requests_total{" in text
    assert 'response_flags="-"' in text
    assert 'envoy_http_downstream_rq_total{http_conn_manager_prefix="outbound"} 1' in text


def proxy_port(record: Any) -> str:
    return record.downstream_local.rpartition(":")[2]


async def test_a_mesh_peer_is_named_in_the_record() -> None:
    own, peer = mesh_identity("own"), mesh_identity("peer")
    front = listener("inbound", tls=True, route_config="web")
    async with ScriptedUpstream().running() as upstream:
        async with serving(given(to("app"), ("app", upstream.port), front=front), identity=own) as proxy:
            async with proxy.connect(peer) as wire:
                assert (await wire.ask(extra=b"x-forwarded-client-cert: forged-hop\r\n")).status == 200
    (record,) = proxy.records
    assert (record.inbound, record.mtls) == (True, True)
    assert record.peer_principal == str(peer.spiffe_id)
    assert record.source is not None
    assert record.source.service_account == "peer"
    assert upstream.requests[0].headers[b"x-forwarded-client-cert"].startswith(b"forged-hop,By=")


async def test_a_bug_costs_one_connection_and_is_on_record(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(given(to("app"), ("app", UNREACHED))) as proxy:

        def fake_find_route(chain: object, head: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(type(proxy.dataplane.plan), "find_route", staticmethod(fake_find_route))
        async with proxy.connect() as wire:
            await wire.send(b"GET / HTTP/1.1\r\nhost: app\r\n\r\n")
            with trio.fail_after(5):
                assert await wire.rest() == b""
    assert proxy.records[0].termination_details == "internal_error"
    assert proxy.refused() == {("connection", "internal_error"): 1}
