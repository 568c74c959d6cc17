"""What a plan takes from a snapshot and from the plan before it: tables, clusters, and the last good version."""

from __future__ import annotations

import random

import pytest

from agent.codec.headers import Headers
from agent.codec.message import Limits, RequestHead
from agent.exchange.faults import ProxyFault
from agent.plan import Plan, compile_plan
from agent.upstream.cluster import Cluster
from agent.upstream.stats import ClusterStats
from mesh import config
from mesh.config import HttpChain, Route, RouteConfig, RouteMatch, StringMatch, VirtualHost
from mesh.telemetry.metrics import Registry
from tests.agent.exchange.scripts import route, to
from tests.rig import ScriptedUpstream, cluster, endpoint, http_listener, serving, snapshot, web

REGISTRY = Registry()
GATEWAY = HttpChain("web")
OUTBOUND = HttpChain(route_by_port=True, unknown_host="allow_any")
CLOSED = HttpChain(route_by_port=True, unknown_host="registry_only")


def make(settings: config.Cluster) -> Cluster:
    return Cluster(
        settings,
        clock=lambda: 0.0,
        rng=random.Random(1),
        identity=lambda: None,
        stats=ClusterStats(REGISTRY, settings.name),
        codec_limits=Limits(),
    )


def compiled(*resources: config.Resource, after: Plan | None = None) -> Plan:
    plan, rejected = compile_plan(snapshot(*resources), after, make)
    assert rejected == []
    return plan


def head(authority: bytes, path: bytes = b"/") -> RequestHead:
    return RequestHead(b"GET", path, Headers(), authority=authority)


def table(name: str, host: str, target: str = "app", match: RouteMatch | None = None) -> RouteConfig:
    only = Route("all", match or RouteMatch(), to(target))
    return RouteConfig(name, (VirtualHost(host, (host,), (only,)),))


BROKEN = table("web", "*", match=RouteMatch(path=StringMatch("regex", "(")))


# Finding a route


def test_a_gateway_uses_the_table_that_its_chain_names() -> None:
    plan = compiled(table("web", "shop.example"), cluster())
    assert plan.find_route(GATEWAY, head(b"shop.example")).targets[0].upstream is plan.clusters["app"]
    for chain, authority in ((GATEWAY, b"other"), (HttpChain("gone"), b"shop.example")):
        with pytest.raises(ProxyFault) as caught:
            plan.find_route(chain, head(authority))
        assert (caught.value.flag, caught.value.status) == ("NR", 404)


def test_an_explicit_proxy_uses_the_table_of_the_requests_port() -> None:
    plan = compiled(table("80", "shop"), table("9080", "shop", "other"), cluster(), cluster("other"))
    for _ in range(2):
        assert plan.find_route(OUTBOUND, head(b"shop")).targets[0].cluster == "app"
        assert plan.find_route(OUTBOUND, head(b"shop:9080")).targets[0].cluster == "other"
    assert plan.find_route(OUTBOUND, head(b"shop:1")).targets[0].cluster == "PassthroughCluster"
    assert plan.find_route(OUTBOUND, head(b"other")).name == "allow_any"
    blocked = plan.find_route(CLOSED, head(b"other"))
    assert blocked.direct is not None
    assert (blocked.name, blocked.direct.status) == ("block_all", 502)


def test_a_known_host_without_a_fitting_route_is_not_outside() -> None:
    plan = compiled(table("80", "shop", match=RouteMatch(path=StringMatch("exact", "/only"))), cluster())
    with pytest.raises(ProxyFault, match="route_not_found"):
        plan.find_route(OUTBOUND, head(b"shop", b"/else"))


# CONNECT


def test_connect_finds_a_service_by_route_or_by_name() -> None:
    named = "outbound|443||plain.example"
    plan = compiled(
        table("443", "shop"), cluster(), cluster(named), cluster("PassthroughCluster", discovery="original_dst")
    )
    assert plan.connect_cluster(OUTBOUND, b"shop:443").name == "app"
    assert plan.connect_cluster(CLOSED, b"PLAIN.example:443").name == named
    assert plan.connect_cluster(OUTBOUND, b"else:443").name == "PassthroughCluster"
    with pytest.raises(ProxyFault) as caught:
        plan.connect_cluster(CLOSED, b"else:443")
    assert caught.value.status == 502


# From plan to plan


def test_what_did_not_change_is_kept() -> None:
    routes, app = table("web", "*"), cluster()
    endpoints = config.ClusterEndpoints("app", (endpoint(1),))
    first = compiled(routes, app, endpoints)
    second = compiled(routes, app, endpoints, table("new", "*"), after=first)
    assert second.tables["web"] is first.tables["web"]
    assert second.clusters["app"] is first.clusters["app"]
    assert list(second.clusters["app"].endpoints) == [("127.0.0.1", 1)]
    assert "new" in second.tables


def test_a_changed_cluster_keeps_living() -> None:
    first = compiled(cluster(), config.ClusterEndpoints("app", (endpoint(1),)))
    kept = first.clusters["app"].endpoints["127.0.0.1", 1]
    changed = cluster(lb_policy="random")
    second = compiled(changed, config.ClusterEndpoints("app", (endpoint(1), endpoint(2))), after=first)
    assert second.clusters["app"] is first.clusters["app"]
    assert second.clusters["app"].config is changed
    assert second.clusters["app"].endpoints["127.0.0.1", 1] is kept
    assert len(second.clusters["app"].endpoints) == 2
    third = compiled(changed, after=second)
    assert third.clusters["app"].endpoints == {}


def test_another_kind_of_discovery_makes_another_cluster() -> None:
    first = compiled(table("web", "*"), cluster())
    second = compiled(table("web", "*"), cluster(discovery="original_dst"), after=first)
    assert second.clusters["app"] is not first.clusters["app"]
    assert first.clusters["app"].closed
    assert second.find_route(GATEWAY, head(b"x")).targets[0].upstream is second.clusters["app"]


def test_what_is_gone_is_closed() -> None:
    routes = table("web", "*")
    first = compiled(routes, cluster())
    second = compiled(routes, after=first)
    assert second.clusters == {}
    assert first.clusters["app"].closed
    assert second.find_route(GATEWAY, head(b"x")).targets[0].upstream is None


def test_routes_that_cannot_work_keep_their_last_good_version() -> None:
    good = compiled(table("web", "shop"), cluster())
    plan, rejected = compile_plan(snapshot(BROKEN, table("new", "*"), cluster()), good, make)
    assert [(each.kind, each.name) for each in rejected] == [("route", "web")]
    assert "route all of virtual host *" in rejected[0].reason
    assert plan.tables["web"] is good.tables["web"]
    assert plan.find_route(GATEWAY, head(b"shop")).targets[0].upstream is plan.clusters["app"]
    assert "new" in plan.tables


def test_routes_that_never_worked_are_absent() -> None:
    plan, rejected = compile_plan(snapshot(BROKEN), None, make)
    assert len(rejected) == 1
    assert plan.tables == {}
    again, rejected = compile_plan(plan.snapshot, plan, make)
    assert len(rejected) == 1
    assert again.tables == {}


def test_a_plan_tells_what_it_serves_in_part() -> None:
    action = to("app", retries=config.RetryPolicy(retry_on=("5xx", "http3-post-connect-failure")))
    doubled = VirtualHost("two", ("*",))
    given = route(action)
    first = compiled(RouteConfig("web", (*given.virtual_hosts, doubled)), cluster())
    sentences = first.reports()
    assert "web: route all: retry conditions not served: http3-post-connect-failure" in sentences
    assert any("already taken" in sentence for sentence in sentences)
    assert compiled(*first.snapshot.routes.values(), after=first).reports() == []


# In service


async def test_a_push_keeps_pooled_connections() -> None:
    async with ScriptedUpstream().running() as upstream:
        given = web(upstream.port)
        async with serving(given) as proxy:
            front = given.listeners["web"]
            async with proxy.connect() as wire:
                await wire.ask()
                proxy.apply(web(upstream.port, listener=front))
                await wire.ask()
    assert upstream.accepted == 1


async def test_a_rejected_push_is_reported_and_the_rest_of_it_served() -> None:
    async with ScriptedUpstream().running() as upstream:
        given = web(upstream.port)
        async with serving(given) as proxy, proxy.connect() as wire:
            front = given.listeners["web"]
            rejected = proxy.apply(
                snapshot(front, BROKEN, cluster(), config.ClusterEndpoints("app", (endpoint(upstream.port),)))
            )
            assert [each.name for each in rejected] == ["web"]
            assert (await wire.ask()).status == 200


async def test_a_gateway_without_routes_knows_no_host() -> None:
    async with serving(snapshot(http_listener())) as proxy, proxy.connect() as wire:
        assert (await wire.ask()).status == 404
