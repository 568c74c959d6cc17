from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from agent.admin import Admin, State
from agent.certificates import ShownCertificate
from agent.codec.message import Limits
from agent.dataplane import ClientSide, Downstream
from agent.upstream.cluster import Cluster
from agent.upstream.stats import ClusterStats
from mesh import config
from mesh.build import build
from mesh.errors import ConfigError
from mesh.feed.node import Node
from mesh.net.http import Request, Response, serve_http
from mesh.telemetry import log
from mesh.telemetry.metrics import Registry

NAME = "outbound|9080||reviews.default.svc.cluster.local"


class FakeAgent:
    """An agent with one cluster, one listener and two certificates, which notes what it is told to do."""

    def __init__(self) -> None:
        self.state: State = "LIVE"
        self.node = Node(id="sidecar~cart.default", role="sidecar", agent_version="0.1.0")
        self.registry = Registry()
        settings = config.Cluster(NAME, breakers=config.CircuitBreakers(max_connections=7))
        self.cluster = Cluster(
            settings,
            clock=lambda: 0.0,
            rng=random.Random(1),
            identity=lambda: None,
            stats=ClusterStats(self.registry, NAME),
            codec_limits=Limits(),
        )
        endpoints = (
            config.Endpoint("10.0.0.1", 80, locality="eu/a/1", workload=config.Workload("reviews-v1")),
            config.Endpoint("10.0.0.2", 80, health="unhealthy"),
        )
        self.cluster.set_endpoints(endpoints)
        self.snapshot: config.Snapshot | None = config.Snapshot(
            listeners={"out": config.Listener("out", "outbound")},
            clusters={NAME: settings},
            endpoints={NAME: config.ClusterEndpoints(NAME, endpoints)},
        )
        self.told: list[str] = []

    def bootstrap(self) -> Mapping[str, Any]:
        return {"drain_time": 5.0}

    def clusters(self) -> Iterable[Cluster]:
        return [self.cluster]

    def listeners(self) -> Mapping[str, str]:
        return {"out": "127.0.0.1:41234"}

    def connections(self) -> Iterable[Downstream]:
        return ()

    def exchanges(self) -> Iterable[ClientSide]:
        return ()

    def feed(self) -> Mapping[str, Any]:
        return {"pilot": "ws://127.0.0.1:15010", "connected": True}

    def certificates(self) -> Sequence[ShownCertificate]:
        uri = "spiffe://cluster.local/ns/default/sa/cart"
        return [
            ShownCertificate("1a", (uri,), 0.0, 86400.0 * 1.5, False),
            ShownCertificate("2b", (), 0.0, 86400.0 * 100, True),
            ShownCertificate("3c", (), 0.0, 86400.0 * 10, False, "kubernetes://default/web"),
        ]

    def wall(self) -> float:
        return 3600.0

    def uptime(self) -> float:
        return 12.9

    def explain(self, method: str, url: str, headers: Sequence[tuple[str, str]]) -> Any:
        if url == "nonsense":
            raise ConfigError("not a URL", remedy="write http://host/path")
        return {"method": method, "url": url, "headers": headers}

    def drain(self) -> None:
        self.told.append("drain")

    def quit(self) -> None:
        self.told.append("quit")


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


async def ask(
    agent: FakeAgent, path: str, method: str = "GET", host: str = "127.0.0.1:15000", /, **query: str
) -> Response:
    return await Admin(agent).handle(Request(method, path, query, {"host": host}))


async def read(agent: FakeAgent, path: str, /, **query: str) -> Any:
    """The page as text, or decoded when it is JSON."""
    response = await ask(agent, path, **query)
    assert response.status == 200, response.body
    return json.loads(response.body) if response.content_type == "application/json" else response.body.decode()


async def test_ready_tells_the_state(agent: FakeAgent) -> None:
    assert await read(agent, "/ready") == "LIVE\n"
    states: tuple[State, ...] = ("PRE_INITIALIZING", "INITIALIZING", "DRAINING")
    for state in states:
        agent.state = state
        response = await ask(agent, "/ready")
        assert (response.status, response.body.decode()) == (503, f"{state}\n")


async def test_statistics_for_prometheus(agent: FakeAgent) -> None:
    agent.registry.counter("istio_requests_total", "Requests.").child((("code", "200"),)).inc()
    response = await ask(agent, "/stats/prometheus")
    assert response.content_type.startswith("text/plain; version=0.0.4")
    names = {family.name for family in text_string_to_metric_families(response.body.decode())}
    assert "istio_requests" in names
    names = {family.name for family in text_string_to_metric_families(await read(agent, "/stats", format="prometheus"))}
    assert "istio_requests" in names


async def test_statistics_as_text_and_json_filtered(agent: FakeAgent) -> None:
    agent.registry.counter("istio_requests_total", "Requests.").child((("code", "200"),)).inc(3)
    agent.registry.counter("istio_idle_total", "Idle.").child()
    assert (
        await read(agent, "/stats", filter="istio_.*total")
        == 'istio_idle_total: 0\nistio_requests_total{code="200"}: 3\n'
    )
    assert await read(agent, "/stats", filter="^nothing$") == ""
    assert "istio_idle_total" not in await read(agent, "/stats", usedonly="")
    stats = await read(agent, "/stats", filter="requests_total", format="json")
    assert stats == {"stats": [{"name": 'istio_requests_total{code="200"}', "value": 3}]}


async def test_a_bad_filter_or_format_says_so(agent: FakeAgent) -> None:
    assert (await ask(agent, "/stats", filter="(")).status == 400
    response = await ask(agent, "/stats", format="xml")
    assert response.status == 400
    assert b"write one of text, json, prometheus" in response.body


async def test_config_dump_has_every_section(agent: FakeAgent) -> None:
    dump = await read(agent, "/config_dump")
    sections = {content["section"]: content for content in dump["configs"]}
    assert list(sections) == ["bootstrap", "clusters", "endpoints", "listeners", "routes", "secrets", "feed"]
    assert sections["bootstrap"]["node"]["id"] == "sidecar~cart.default"
    assert sections["clusters"]["dynamic_active_clusters"][0]["config"]["breakers"] == {"max_connections": 7}
    assert sections["listeners"]["dynamic_listeners"][0]["address"] == "127.0.0.1:41234"
    assert sections["secrets"]["dynamic_active_secrets"][0]["private_key"] == "[redacted]"
    assert sections["feed"]["subscription"]["connected"] is True


async def test_config_dump_narrows_and_survives_the_time_before_the_first_snapshot(agent: FakeAgent) -> None:
    dump = await read(agent, "/config_dump", resource="clusters", name_regex="ratings")
    assert dump == {"configs": [{"section": "clusters", "dynamic_active_clusters": []}]}
    assert (await ask(agent, "/config_dump", resource="clutsers")).status == 400
    agent.snapshot = None
    dump = await read(agent, "/config_dump", resource="clusters")
    assert dump["configs"][0]["dynamic_active_clusters"] == []


async def test_clusters_and_listeners_and_certs(agent: FakeAgent) -> None:
    assert f"{NAME}::10.0.0.1:80::cx_active::0\n" in await read(agent, "/clusters")
    statuses = (await read(agent, "/clusters", format="json"))["cluster_statuses"]
    assert statuses[0]["name"] == NAME
    assert await read(agent, "/listeners") == "out::127.0.0.1:41234\n"
    listeners = await read(agent, "/listeners", format="json")
    assert listeners["listener_statuses"] == [{"name": "out", "local_address": "127.0.0.1:41234"}]
    certificates, web = (await read(agent, "/certs"))["certificates"]
    assert [each["secret"] for each in web["cert_chain"]] == ["kubernetes://default/web"]
    assert certificates["cert_chain"][0]["days_until_expiration"] == 1
    assert certificates["cert_chain"][0]["subject_alt_names"] == [{"uri": "spiffe://cluster.local/ns/default/sa/cart"}]
    assert certificates["ca_cert"][0]["expiration_time"] == "1970-04-11T00:00:00.000Z"


async def test_server_info_tells_version_and_uptime(agent: FakeAgent) -> None:
    info = await read(agent, "/server_info")
    assert (info["version"], info["build"], info["state"]) == ("0.1.0", build(), "LIVE")
    assert info["uptime_current_epoch"] == "12s"


async def test_explain_passes_the_request_on(agent: FakeAgent) -> None:
    url = "http://reviews:9080/"
    answer = await read(agent, "/explain", url=url, method="post", header="End-User: jason\nx-a:b:c")
    assert answer == {"method": "POST", "url": url, "headers": [["end-user", "jason"], ["x-a", "b:c"]]}


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ({}, b"url is missing; write /explain?url="),
        ({"url": "http://a/", "header": "nocolon"}, b"'nocolon' is no header"),
        ({"url": "nonsense"}, b"not a URL; write http://host/path"),
    ],
)
async def test_explain_says_what_is_wrong(agent: FakeAgent, query: dict[str, str], what: bytes) -> None:
    response = await ask(agent, "/explain", **query)
    assert response.status == 400
    assert what in response.body


@pytest.mark.parametrize(
    ("path", "told"), [("/drain", "drain"), ("/drain_listeners", "drain"), ("/quitquitquit", "quit")]
)
async def test_changes_are_made_by_post_only(agent: FakeAgent, path: str, told: str) -> None:
    response = await ask(agent, path)
    assert response.status == 400
    assert b"send it with POST" in response.body
    assert agent.told == []
    assert (await ask(agent, path, "POST")).body == b"OK\n"
    assert agent.told == [told]


async def test_pages_are_not_posted_to(agent: FakeAgent) -> None:
    assert (await ask(agent, "/stats", "POST")).status == 405
    assert (await ask(agent, "/ready", "HEAD")).status == 200


async def test_log_levels_are_changed_and_shown(agent: FakeAgent) -> None:
    try:
        assert (await ask(agent, "/logging", "POST", level="warning")).body == b"all: warning\n"
        response = await ask(agent, "/logging", "POST", paths="feed:debug,tls:error", http="info")
        assert response.body == b"all: warning\nfeed: debug\ntls: error\nhttp: info\n"
        response = await ask(agent, "/logging", "POST", level="off", feed="loud")
        assert response.status == 400
        assert b"'loud' is no log level" in response.body
        assert log.levels()[""] == "warning", "a refused change changes nothing"
    finally:
        log.setup()


async def test_help_lists_every_page_and_a_wrong_path_too(agent: FakeAgent) -> None:
    for path in ("/", "/help"):
        page = await read(agent, path)
        assert all(name in page for name in ("/ready", "/config_dump", "POST /drain", "/tasks"))
    response = await ask(agent, "/config-dump")
    assert response.status == 404
    assert b"there is no /config-dump" in response.body
    assert b"/config_dump" in response.body
    assert (await ask(agent, "/ready/")).status == 200


async def test_tasks_shows_this_very_test(agent: FakeAgent) -> None:
    page = await read(agent, "/tasks")
    assert "test_tasks_shows_this_very_test" in page
    assert len(page.splitlines()) > 1
    told = await read(agent, "/tasks", format="json", limit="1")
    assert told["trees"][0]["name"]
    assert told["left_out"][0]["tasks"] > 0
    assert "more tasks; ask for them with limit=N" in await read(agent, "/tasks", limit="1")
    assert (await read(agent, "/tasks", format="json", view="exchanges", min_age="1.5"))["exchanges"] == []
    for key, value in (("limit", "x"), ("min_age", "-1"), ("view", "forest")):
        assert (await ask(agent, "/tasks", **{key: value})).status == 400


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:15000", "localhost:1", "LOCALHOST.", "[::1]:80", "127.8.9.1", ""]
)
async def test_loopback_hosts_are_served(agent: FakeAgent, host: str) -> None:
    assert (await ask(agent, "/ready", "GET", host)).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "10.0.0.1:15000", "localhost.evil.example", "127.0.0.1.evil.example", "[::2]", "a]b"]
)
async def test_other_hosts_are_refused(agent: FakeAgent, host: str) -> None:
    response = await ask(agent, "/quitquitquit", "POST", host)
    assert response.status == 403
    assert b"is not loopback" in response.body
    assert agent.told == []


async def test_requests_of_web_pages_are_refused(agent: FakeAgent) -> None:
    admin = Admin(agent)
    for origin, status in (("https://evil.example", 403), ("null", 403), ("http://localhost:3000", 200)):
        response = await admin.handle(Request("POST", "/drain", {}, {"host": "127.0.0.1", "origin": origin}))
        assert response.status == status
    assert agent.told == ["drain"]


async def test_it_serves_over_a_real_port(agent: FakeAgent, nursery: trio.Nursery) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(serve_http, listener, Admin(agent).handle)
    with trio.fail_after(10):
        async with await trio.open_tcp_stream(*listener.socket.getsockname()) as stream:
            await stream.send_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            received = b""
            async for chunk in stream:
                received += chunk
    assert received.startswith(b"HTTP/1.1 200")
    assert received.endswith(b"\r\n\r\nLIVE\n")
