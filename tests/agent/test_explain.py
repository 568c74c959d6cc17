"""Explanations of whole snapshots, through the deciders that serve real requests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent.explain import Call, Explanation, explain, explain_plan, explain_url
from agent.plan import Plan
from agent.route.table import RouteTable
from agent.upstream.endpoint import Endpoint
from mesh.config import (
    Cluster,
    ClusterEndpoints,
    DirectResponse,
    Fault,
    FaultAbort,
    FilterChain,
    HeaderOps,
    HttpChain,
    Listener,
    Origin,
    Redirect,
    RetryPolicy,
    Rewrite,
    Route,
    RouteAction,
    RouteConfig,
    RouteMatch,
    Snapshot,
    StringMatch,
    TcpChain,
    UpstreamTls,
    VirtualHost,
    WeightedCluster,
)
from mesh.config import Endpoint as EndpointConfig
from mesh.errors import ConfigError, MeshError

V1 = "outbound|9080|v1|reviews.default.svc.cluster.local"
V2 = "outbound|9080|v2|reviews.default.svc.cluster.local"
GONE = "outbound|9080|v9|reviews.default.svc.cluster.local"
EMPTY = "outbound|9080||ratings.default.svc.cluster.local"
VS = Origin("VirtualService", "default", "reviews", "spec.http[1]", "vs.yaml", 12)
DR = Origin("DestinationRule", "default", "reviews", "spec", "dr.yaml", 1)


def prefix(path: str, **more: Any) -> RouteMatch:
    return RouteMatch(path=StringMatch("prefix", path), **more)


JASON = Route(
    "jason",
    prefix("/", headers=(("end-user", StringMatch("exact", "jason")),)),
    RouteAction((WeightedCluster(V2),)),
    fault=Fault(abort=FaultAbort(500, percent=100.0)),
)
SPLIT = Route(
    "split",
    prefix("/reviews"),
    RouteAction(
        (
            WeightedCluster(V1, 90),
            WeightedCluster(V2, 10, request_headers=HeaderOps(set=(("x-to", "v2"),))),
            WeightedCluster(GONE, 0),
        ),
        timeout=3.0,
        retries=RetryPolicy(attempts=1),
        rewrite=Rewrite(prefix="/api", authority="reviews.internal"),
    ),
    request_headers=HeaderOps(
        set=(("x-from", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"), ("x-route", "%ROUTE_NAME%"))
    ),
    response_headers=HeaderOps(remove=("x-secret",), add=(("x-seen", "yes"),)),
    origin=VS,
)
OTHERS = (
    Route("moved", prefix("/old"), Redirect(prefix="/new", authority="www.example.com")),
    Route("tea", prefix("/tea"), DirectResponse(418, b"teapot"), response_headers=HeaderOps(set=(("x-t", "1"),))),
    Route("gone", prefix("/gone"), RouteAction((WeightedCluster(GONE),), missing_cluster_status=500)),
    Route("nobody", prefix("/nobody"), RouteAction((WeightedCluster(GONE, 0), WeightedCluster(V1, 0)))),
    Route("unready", prefix("/unready"), RouteAction((WeightedCluster(EMPTY),))),
)


def endpoints(cluster: str, *entries: EndpointConfig) -> ClusterEndpoints:
    return ClusterEndpoints(cluster, entries)


def listener(name: str, direction: str, port: int, *chains: FilterChain, service: str = "") -> Listener:
    return Listener(name, direction, port=port, chains=chains, service=service)  # type: ignore[arg-type]


def snapshot(unknown_host: Any = "allow_any") -> Snapshot:
    hosts = (VirtualHost("reviews:9080", ("reviews", "reviews.default.svc.cluster.local"), (JASON, SPLIT, *OTHERS)),)
    listeners = (
        listener(
            "http_proxy",
            "outbound",
            0,
            FilterChain("http", http=HttpChain(route_by_port=True, unknown_host=unknown_host)),
        ),
        listener("tcp_db:3306", "outbound", 0, FilterChain("tcp", tcp=TcpChain(((V1, 1), (V2, 3)))), service="db:3306"),
        listener(
            "0.0.0.0_80",
            "gateway",
            80,
            FilterChain("http", http=HttpChain("http.80", server_name="istio-envoy", use_remote_address=True)),
        ),
        listener("inbound|8080||", "inbound", 15006, FilterChain("mtls", "mtls", http=HttpChain("inbound|8080||"))),
    )
    clusters = (
        Cluster(V1, service="reviews.default.svc.cluster.local", subset="v1", origin=DR),
        Cluster(V2, subset="v2", tls=UpstreamTls("disable")),
        Cluster(EMPTY),
        Cluster("PassthroughCluster", discovery="original_dst"),
        Cluster("inbound|8080||", tls=UpstreamTls("istio_mutual")),
    )
    routes = (
        RouteConfig("9080", hosts),
        RouteConfig("http.80", (VirtualHost("*:80", ("*",), (SPLIT,)),)),
        RouteConfig(
            "inbound|8080||",
            (
                VirtualHost(
                    "in", ("*",), (Route("default", RouteMatch(), RouteAction((WeightedCluster("inbound|8080||"),))),)
                ),
            ),
        ),
    )
    members = (
        endpoints(V1, EndpointConfig("10.0.0.1", 80, tls="istio"), EndpointConfig("10.0.0.2", 80, health="unhealthy")),
        endpoints(V2, EndpointConfig("10.0.0.3", 80, tls="istio")),
        endpoints("inbound|8080||", EndpointConfig("127.0.0.1", 8080)),
    )
    return Snapshot(
        listeners={each.name: each for each in listeners},
        routes={each.name: each for each in routes},
        clusters={each.name: each for each in clusters},
        endpoints={each.cluster: each for each in members},
    )


def ask(path: str = "/", authority: str = "reviews:9080", **more: Any) -> Explanation:
    return explain(snapshot(), Call(authority=authority, path=path, **more))


def test_a_weighted_route_names_every_destination_and_the_request_each_would_get() -> None:
    answer = ask(
        "/reviews/1?q=1",
        headers=(("x-envoy-max-retries", "9"), ("connection", "close")),
        response_headers=(("x-secret", "s"), ("server", "app")),
        source="10.9.9.9:55",
    )
    assert (answer.outcome, answer.status, answer.route) == ("routed", 0, "split")
    assert (answer.listener, answer.route_config, answer.virtual_host) == ("http_proxy", "9080", "reviews:9080")
    assert answer.domains == ("reviews", "reviews.default.svc.cluster.local")
    assert [(place.cluster, place.weight, place.share, place.state) for place in answer.destinations] == [
        (V1, 90, 90.0, "ok"),
        (V2, 10, 10.0, "ok"),
        (GONE, 0, 0.0, "no_cluster"),
    ]
    assert answer.chosen == V1
    assert answer.decided_by == (VS, DR)
    assert (answer.timeout, answer.retries) == (3.0, RetryPolicy(attempts=1))
    assert answer.rewrite == Rewrite(prefix="/api", authority="reviews.internal")
    chosen, other = answer.destinations[:2]
    assert chosen.request is not None
    assert other.request is not None
    assert (chosen.request.path, chosen.request.authority) == ("/api/1?q=1", "reviews.internal")
    sent = dict(chosen.request.headers)
    assert sent["host"] == "reviews.internal"
    assert (sent["x-from"], sent["x-route"]) == ("10.9.9.9", "split")
    assert sent["x-envoy-original-path"] == "/reviews/1?q=1"
    assert not {"x-envoy-max-retries", "connection", "x-to"} & set(sent)
    assert dict(other.request.headers)["x-to"] == "v2"
    assert answer.response_headers == (("server", "app"), ("x-seen", "yes"))


def test_what_was_considered_before_says_why_not() -> None:
    assert [(each.route, each.why_not) for each in ask("/tea").considered] == [
        ("jason", 'header end-user is not exact "jason"'),
        ("split", 'path is not prefix "/reviews"'),
        ("moved", 'path is not prefix "/old"'),
    ]
    assert ask("/tea").considered[1].origin == VS


def test_endpoints_and_mtls_of_a_destination() -> None:
    v1, v2, gone = ask("/reviews").destinations
    assert [(each.address, each.state, each.usable, each.mtls) for each in v1.endpoints] == [
        ("10.0.0.1", "healthy", True, True),
        ("10.0.0.2", "unhealthy", False, False),
    ]
    assert (v1.mtls, v2.mtls, gone.mtls) == ("some", "none", "unknown")
    assert ask("/unready").destinations[0].mtls == "unknown"


def test_faults_are_reported_and_not_drawn() -> None:
    answer = ask("/reviews", headers=(("end-user", "jason"),))
    assert (answer.route, answer.outcome, answer.status) == ("jason", "routed", 0)
    assert answer.fault == JASON.fault


def test_redirect_and_direct_response() -> None:
    moved = ask("/old/x?y")
    assert (moved.outcome, moved.status, moved.location) == ("redirect", 301, "http://www.example.com/new/x?y")
    assert moved.response_headers == (("location", moved.location),)
    tea = ask("/tea")
    assert (tea.outcome, tea.status) == ("direct_response", 418)
    assert tea.direct is not None
    assert tea.direct.body == "teapot"
    assert tea.response_headers == (("content-type", "text/plain"), ("x-t", "1"))


@pytest.mark.parametrize(
    ("path", "outcome", "status", "flag", "chosen"),
    [
        ("/none", "no_route", 404, "NR", ""),
        ("/gone", "no_cluster", 500, "NC", GONE),
        ("/nobody", "no_cluster", 503, "NC", ""),
        ("/unready", "no_healthy_upstream", 503, "UH", EMPTY),
    ],
)
def test_what_the_proxy_itself_answers(path: str, outcome: str, status: int, flag: str, chosen: str) -> None:
    answer = ask(path)
    assert (answer.outcome, answer.status, answer.flag, answer.chosen) == (outcome, status, flag, chosen)
    assert answer.details
    if outcome == "no_route":
        assert len(answer.considered) == 7


def test_unknown_hosts_follow_the_outbound_policy() -> None:
    for authority in ("example.com:9080", "example.com"):  # unknown in a known table; no table of that port
        answer = ask("/", authority)
        assert (answer.outcome, answer.route, answer.chosen) == ("passthrough", "allow_any", "PassthroughCluster")
    answer = explain(snapshot("registry_only"), Call(authority="example.com"))
    assert (answer.outcome, answer.route, answer.status) == ("blackhole", "block_all", 502)
    answer = explain(snapshot("reject"), Call(authority="example.com"))
    assert (answer.outcome, answer.status) == ("no_route", 404)


def test_gateways_are_found_by_port_and_speak_for_the_client() -> None:
    answer = ask("/reviews", "shop.example.com", kind="gateway", source="10.7.0.1:99")
    assert (answer.listener, answer.route_config, answer.outcome) == ("0.0.0.0_80", "http.80", "routed")
    chosen = answer.destination()
    assert chosen is not None
    assert chosen.request is not None
    assert dict(chosen.request.headers)["x-forwarded-for"] == "10.7.0.1"
    assert ask("/reviews", "x:8443", kind="gateway").listener == "0.0.0.0_80"  # the only gateway port
    missing = ask("/", "x", kind="gateway", port=8443)
    assert missing.outcome == "no_listener"
    assert "0.0.0.0_80" in missing.details
    assert ask("/", "x", kind="gateway", listener="0.0.0.0_80").route_config == "http.80"


def test_inbound_needs_mtls_where_only_that_chain_is() -> None:
    secured = ask("/", "x", kind="inbound", port=8080, mtls=True)
    assert (secured.filter_chain, secured.chosen, secured.outcome) == ("mtls", "inbound|8080||", "routed")
    assert secured.destinations[0].mtls == "all"
    plain = ask("/", "x", kind="inbound")
    assert (plain.outcome, plain.flag, plain.details) == ("no_filter_chain", "NR", "filter_chain_not_found")


def test_tcp_listeners_show_their_clusters() -> None:
    answer = ask("", "db:3306", kind="tcp")
    assert (answer.outcome, answer.listener, answer.chosen) == ("tcp", "tcp_db:3306", V2)
    assert [(each.cluster, each.share) for each in answer.destinations] == [(V1, 25.0), (V2, 75.0)]
    assert ask("", "other:1", kind="tcp").outcome == "no_listener"


def test_an_upgrade_that_is_not_served_is_refused() -> None:
    answer = ask("/reviews", headers=(("connection", "upgrade"), ("upgrade", "spdy")))
    assert (answer.outcome, answer.status) == ("upgrade_refused", 403)


def test_the_path_is_routed_in_its_canonical_form() -> None:
    assert ask("/x/%2e%2e/reviews").route == ask("/reviews").route
    answer = ask("/reviews%00")
    assert (answer.outcome, answer.status, answer.details) == ("path_refused", 400, "path_normalization_failed")


def test_a_plan_in_force_knows_the_living_state() -> None:
    class FakeCluster:
        def __init__(self, settings: Cluster, *members: Endpoint) -> None:
            self.config = settings
            self.endpoints = {member.key: member for member in members}
            self.usable = tuple(member for member in members if member.healthy)

    shot = snapshot()
    member = Endpoint(EndpointConfig("10.0.0.1", 80))
    member.eject(9.0)
    clusters: Any = {V1: FakeCluster(shot.clusters[V1], member)}
    plan = Plan(shot, {name: RouteTable.compile(table) for name, table in shot.routes.items()}, clusters)
    answer = explain_plan(plan, Call(authority="reviews:9080", path="/reviews"))
    assert (answer.outcome, answer.status) == ("no_healthy_upstream", 503)
    assert answer.destinations[0].endpoints[0].state == "ejected"
    assert explain_url(shot, "GET", "http://reviews:9080/reviews", plan=plan) == answer


def test_urls_are_asked_as_an_app_or_a_client_would() -> None:
    answer = explain_url(snapshot(), "GET", "http://reviews:9080/reviews?q", [("End-User", "other")])
    assert (answer.route, answer.listener) == ("split", "http_proxy")
    answer = explain_url(snapshot(), "GET", "http://10.0.0.1:9080", [("Host", "reviews:9080"), ("end-user", "jason")])
    assert answer.route == "jason"
    answer = explain_url(snapshot(), "GET", "http://shop/reviews", role="gateway")
    assert answer.listener == "0.0.0.0_80"
    assert explain_url(snapshot(), "GET", "http://shop:81/", role="gateway").outcome == "no_listener"


@pytest.mark.parametrize("url", ["reviews:9080/x", "/path", "http://", "ftp://x/"])
def test_what_is_not_a_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(MeshError, match="write for example"):
        explain_url(snapshot(), "GET", url)


def test_routes_that_cannot_compile_raise_their_fault() -> None:
    shot = snapshot()
    bad = Route("bad", RouteMatch(path=StringMatch("regex", "(")), DirectResponse(200))
    shot.routes["9080"] = RouteConfig("9080", (VirtualHost("v", ("*",), (bad,)),))
    with pytest.raises(ConfigError, match="route bad"):
        explain(shot, Call(authority="reviews:9080"))


def test_an_empty_snapshot_has_no_listener() -> None:
    answer = explain(Snapshot(), Call(authority="x"))
    assert (answer.outcome, answer.details) == ("no_listener", "no http_proxy listener for this call; listeners: none")


def test_the_answer_is_json() -> None:
    answer = ask("/reviews")
    assert msgspec.json.decode(msgspec.json.encode(answer), type=Explanation) == answer
