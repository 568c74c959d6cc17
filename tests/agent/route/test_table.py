"""The route table: which virtual host, and that the index answers like a scan in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.codec.headers import Headers
from agent.codec.message import RequestHead
from agent.route.table import RouteTable
from mesh.config import (
    DirectResponse,
    HeaderOps,
    Origin,
    RetryPolicy,
    Route,
    RouteAction,
    RouteConfig,
    RouteMatch,
    StringMatch,
    VirtualHost,
    WeightedCluster,
)
from mesh.errors import ConfigError


def head(path: bytes = b"/", authority: bytes = b"reviews", *fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", path, Headers(fields), authority=authority)


def route(name: str, path: StringMatch | None = None, **match: object) -> Route:
    return Route(name, RouteMatch(path=path, **match), DirectResponse(200))  # type: ignore[arg-type]


def hosts(*domains: tuple[str, ...]) -> RouteTable:
    return RouteTable.compile(
        RouteConfig("t", tuple(VirtualHost(d[0], d, (route(d[0]),)) for d in domains)),
    )


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        (b"a.example.com", "a.example.com"),
        (b"A.Example.COM:8080", "a.example.com"),
        (b"A.example.com.", "a.example.com"),
        (b"a.example.com.:8080", "a.example.com"),
        (b"b.example.com.", "*.example.com"),
        (b"b.example.com", "*.example.com"),
        (b"x.b.example.com", "*.b.example.com"),
        (b"example.com", "*.com"),
        (b"api.internal", "api.*"),
        (b"api.internal:80", "api.*"),
        (b"api.v1.internal", "api.v1.*"),
        (b"api.", "*"),
        (b".", "*"),
        (b"other", "*"),
        (b"[::1]:80", "[::1]"),
        (b"[::1]", "[::1]"),
        (b"ported:81", "ported:81"),
        (b"ported.:81", "ported:81"),
        (b"ported:82", "*"),
        (b"", "*"),
        (b"x" * 300, "*"),
    ],
)
def test_host_search_is_exact_then_suffix_then_prefix_then_any(authority: bytes, name: str) -> None:
    table = hosts(
        ("*",),
        ("api.*",),
        ("api.v1.*",),
        ("*.com",),
        ("*.example.com",),
        ("*.b.example.com",),
        ("a.example.com",),
        ("[::1]",),
        ("ported:81",),
    )
    for _ in range(2):  # the second answer comes from memory
        found = table.find_host(authority)
        assert found is not None
        assert found.name == name


def test_unknown_host_and_no_route_in_the_host_are_told_apart() -> None:
    table = RouteTable.compile(
        RouteConfig("t", (VirtualHost("v", ("reviews",), (route("r", StringMatch("exact", "/a")),)),))
    )
    assert table.match(head(b"/b")) is None
    assert table.host_known(b"reviews:9080")
    assert table.match(head(b"/a", b"ratings")) is None
    assert not table.host_known(b"ratings")


def test_the_memory_of_hosts_is_bounded() -> None:
    table = hosts(("a",))
    for n in range(5000):
        assert not table.host_known(b"h%d" % n)
    assert table.host_known(b"a")
    assert len(table._cache) <= 1024


def test_a_domain_taken_twice_stays_with_the_first_and_is_reported() -> None:
    table = RouteTable.compile(
        RouteConfig(
            "t", (VirtualHost("one", ("a", "*"), ()), VirtualHost("two", ("A", "*"), ()), VirtualHost("3", ("*",), ()))
        )
    )
    found = table.find_host(b"a")
    assert found is not None
    assert found.name == "one"
    assert len(table.reports) == 3
    assert "domain A of virtual host two is already taken by one" in table.reports[0]


PATHS = ("", "/", "/a", "/a/", "/a/b", "/ab", "/b", "/A", "/a/b/c")
STRINGS = st.one_of(
    st.none(),
    st.builds(StringMatch, st.sampled_from(["exact", "prefix"]), st.sampled_from(PATHS), st.booleans()),
    st.builds(StringMatch, st.just("regex"), st.sampled_from(["/a.*", "/a|/b", "/[ab]", ".*"])),
    st.just(StringMatch("present")),
)
HEADERS = st.lists(
    st.tuples(st.sampled_from(["x", "y"]), st.sampled_from([StringMatch("exact", "1"), StringMatch("present")])),
    max_size=2,
)
MATCHES = st.builds(lambda path, headers: RouteMatch(path=path, headers=tuple(headers)), STRINGS, HEADERS)


@given(
    st.lists(MATCHES, max_size=20),
    st.lists(
        st.tuples(st.sampled_from(PATHS), st.dictionaries(st.sampled_from("xy"), st.sampled_from("12"))), max_size=6
    ),
)
def test_the_index_answers_like_a_scan_in_order(
    matches: list[RouteMatch], calls: list[tuple[str, dict[str, str]]]
) -> None:
    """For every request: the compiled table gives the first route in order that matches when asked alone."""
    routes = tuple(Route(str(n), match, DirectResponse(200)) for n, match in enumerate(matches))
    table = RouteTable.compile(RouteConfig("t", (VirtualHost("v", ("*",), routes),)))
    for path, fields in calls:
        request = RequestHead(
            b"GET", path.encode() + b"?q", Headers((k.encode(), v.encode()) for k, v in fields.items())
        )
        expected = next((r for r in table.routes() if r.matches(request)), None)
        assert table.match(request) is expected


def test_large_tables_find_the_right_route_at_every_place() -> None:
    routes = [route(f"p{n}", StringMatch("prefix", f"/svc{n}/")) for n in range(300)]
    routes += [route(f"e{n}", StringMatch("exact", f"/svc{n}/exact")) for n in range(300)]
    routes.append(route("rest"))
    table = RouteTable.compile(RouteConfig("t", (VirtualHost("v", ("*",), tuple(routes)),)))
    for n in range(300):
        found = table.match(head(b"/svc%d/exact" % n))
        assert found is not None
        assert found.name == f"p{n}"  # the prefix stands first
    rest = table.match(head(b"/nothing"))
    assert rest is not None
    assert rest.name == "rest"


def test_a_bad_regex_names_its_route_and_where_it_was_written() -> None:
    origin = Origin("VirtualService", "default", "reviews", "spec.http[0]", "vs.yaml", 7)
    bad = Route("r1", RouteMatch(path=StringMatch("regex", "(")), DirectResponse(200), origin=origin)
    with pytest.raises(ConfigError) as caught:
        RouteTable.compile(RouteConfig("t", (VirtualHost("v", ("*",), (bad,)),)))
    assert str(caught.value).startswith(
        "vs.yaml:7:0 VirtualService/default/reviews spec.http[0]: route r1 of virtual host v"
    )


def test_binding_fills_in_living_clusters_and_compiled_retries() -> None:
    action = RouteAction((WeightedCluster("a"), WeightedCluster("b")), retries=RetryPolicy())
    settings = RouteConfig("t", (VirtualHost("v", ("*",), (Route("r", RouteMatch(), action), route("d"))),))
    table = RouteTable.compile(settings, upstream={"a": "A"}.get, retry=lambda policy: policy.attempts)
    first, second = table.routes()
    assert [target.upstream for target in first.targets] == ["A", None]
    assert first.retry == 2
    assert second.retry is None
    assert next(RouteTable.compile(settings, retry=lambda policy: 1).routes()).targets[0].upstream is None
    assert next(RouteTable.compile(settings).routes()).retry is None


def test_reports_of_header_operations_come_once() -> None:
    ops = HeaderOps(set=(("x", "%NOPE%"),))
    action = RouteAction((WeightedCluster("a"), WeightedCluster("b")))
    settings = RouteConfig("t", (VirtualHost("v", ("*",), (Route("r", RouteMatch(), action, request_headers=ops),)),))
    assert len(RouteTable.compile(settings).reports) == 1
