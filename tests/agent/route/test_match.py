"""Conditions of a route: Istio's HTTPMatchRequest on real request heads."""

from __future__ import annotations

import pytest

from agent.codec.headers import Headers
from agent.codec.message import RequestHead
from agent.route.match import compile_conditions, compile_string, describe, query_value
from mesh.config import RouteMatch, StringMatch


def head(path: bytes = b"/", *fields: tuple[bytes, bytes], method: bytes = b"GET") -> RequestHead:
    return RequestHead(method, path, Headers(fields), scheme=b"http", authority=b"Reviews:9080")


def holds(match: RouteMatch, request: RequestHead) -> bool:
    return all(test(request) for _, test in compile_conditions(match))


@pytest.mark.parametrize(
    ("match", "value", "expected"),
    [
        (StringMatch("exact", "/a"), b"/a", True),
        (StringMatch("exact", "/a"), b"/A", False),
        (StringMatch("exact", "/a", ignore_case=True), b"/A", True),
        (StringMatch("prefix", "/foo"), b"/foobar", True),
        (StringMatch("prefix", "/foo"), b"/Foobar", False),
        (StringMatch("prefix", "/foo", ignore_case=True), b"/FOObar", True),
        (StringMatch("prefix", ""), b"anything", True),
        (StringMatch("regex", "/a[0-9]"), b"/a1", True),
        (StringMatch("regex", "/a[0-9]"), b"/a11", False),
        (StringMatch("present"), b"", True),
    ],
)
def test_strings(match: StringMatch, value: bytes, expected: bool) -> None:
    assert compile_string(match)(value) is expected


@pytest.mark.parametrize(
    ("wanted", "fields", "expected"),
    [
        (StringMatch("exact", "jason"), [(b"End-User", b"jason")], True),
        (StringMatch("exact", "jason"), [(b"End-User", b"Jason")], False),
        (StringMatch("exact", "jason"), [], False),
        (StringMatch("exact", ""), [], False),
        (StringMatch("present"), [(b"end-user", b"")], True),
        (StringMatch("present"), [], False),
        (StringMatch("prefix", "ja"), [(b"end-user", b"jason")], True),
        (StringMatch("regex", ".*"), [], False),
        (StringMatch("exact", "a, b"), [(b"end-user", b"a"), (b"end-user", b"b")], True),
    ],
)
def test_headers(wanted: StringMatch, fields: list[tuple[bytes, bytes]], expected: bool) -> None:
    assert holds(RouteMatch(headers=(("End-User", wanted),)), head(b"/", *fields)) is expected


@pytest.mark.parametrize(
    ("wanted", "fields", "expected"),
    [
        (StringMatch("exact", "v"), [], True),
        (StringMatch("exact", "v"), [(b"x", b"v")], False),
        (StringMatch("exact", ""), [], False),
        (StringMatch("present"), [], True),
        (StringMatch("present"), [(b"x", b"")], False),
        (StringMatch("regex", ".*"), [], False),
    ],
)
def test_a_missing_header_counts_as_empty_for_without(
    wanted: StringMatch, fields: list[tuple[bytes, bytes]], expected: bool
) -> None:
    assert holds(RouteMatch(without_headers=(("x", wanted),)), head(b"/", *fields)) is expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (":method", "GET"),
        (":path", "/p?q"),
        (":authority", "Reviews:9080"),
        ("host", "Reviews:9080"),
        (":scheme", "http"),
    ],
)
def test_pseudo_headers_look_at_the_head(name: str, value: str) -> None:
    request = head(b"/p?q")
    wanted = ((name, StringMatch("exact", value)),)
    assert holds(RouteMatch(headers=wanted), request)
    assert not holds(RouteMatch(without_headers=wanted), request)


@pytest.mark.parametrize(
    ("wanted", "path", "expected"),
    [
        (StringMatch("exact", "1"), b"/?a=1", True),
        (StringMatch("exact", "1"), b"/?a=2&a=1", False),
        (StringMatch("exact", ""), b"/?a", True),
        (StringMatch("present"), b"/?b&a", True),
        (StringMatch("present"), b"/?ab=1", False),
        (StringMatch("present"), b"/", False),
        (StringMatch("regex", "[0-9]+"), b"/?a=12", True),
        (StringMatch("prefix", "x="), b"/?a=x=1", True),
    ],
)
def test_query_parameters_take_the_first_occurrence(wanted: StringMatch, path: bytes, expected: bool) -> None:
    assert holds(RouteMatch(query=(("a", wanted),)), head(path)) is expected


def test_query_value_decodes_nothing() -> None:
    assert query_value(b"/?a=%20", b"a") == b"%20"


def test_method_scheme_and_authority_are_compared_as_they_stand() -> None:
    assert holds(RouteMatch(method=StringMatch("exact", "GET"), scheme=StringMatch("exact", "http")), head())
    assert not holds(RouteMatch(method=StringMatch("exact", "get")), head())
    assert holds(RouteMatch(authority=StringMatch("exact", "Reviews:9080")), head())
    assert not holds(RouteMatch(authority=StringMatch("exact", "reviews:9080")), head())
    assert compile_conditions(RouteMatch(method=StringMatch("present"))) == ()


def test_conditions_are_named_for_explanations() -> None:
    match = RouteMatch(
        headers=(("x", StringMatch("prefix", "a", ignore_case=True)),), query=(("q", StringMatch("present")),)
    )
    assert [words for words, _ in compile_conditions(match)] == [
        'header x is not prefix "a" in any case',
        "query parameter q is not present",
    ]
    assert describe(StringMatch("exact", "v")) == 'exact "v"'
