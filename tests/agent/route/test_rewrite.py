"""Path, authority and header changes."""

from __future__ import annotations

import pytest

from agent.codec.headers import Headers
from agent.codec.message import RequestHead, ResponseHead
from agent.exchange.record import Record
from agent.route.rewrite import compile_headers, compile_rewrite, finalize_request, merge_for_single
from mesh.config import HeaderOps, Rewrite, StringMatch

RECORD = Record(0.0)


def head(path: bytes = b"/", *fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", path, Headers([(b"Host", b"old"), *fields]), scheme=b"http", authority=b"old")


@pytest.mark.parametrize(
    ("matched", "prefix", "path", "expected"),
    [
        (StringMatch("prefix", "/foo"), "/bar", b"/foo/baz?q=/foo", b"/bar/baz?q=/foo"),
        (StringMatch("prefix", "/foo"), "/", b"/foo/bar", b"//bar"),
        (StringMatch("prefix", "/foo"), "/", b"/foobar", b"/bar"),
        (StringMatch("prefix", "/foo/"), "/", b"/foo/bar", b"/bar"),
        (StringMatch("prefix", "/foo"), "/bar", b"/foobar", b"/barbar"),
        (StringMatch("prefix", "/foo", ignore_case=True), "/bar", b"/FOO/x", b"/bar/x"),
        (StringMatch("exact", "/foo"), "/bar", b"/foo?q=1", b"/bar?q=1"),
        (StringMatch("regex", "/f.*"), "/bar", b"/foo/x?q", b"/bar?q"),
        (None, "/new/", b"/foo", b"/new/foo"),
        (StringMatch("prefix", "/foo"), "", b"/foo/x", b"/x"),
    ],
)
def test_prefix_rewrites(matched: StringMatch | None, prefix: str, path: bytes, expected: bytes) -> None:
    rewrite = compile_rewrite(Rewrite(prefix=prefix), matched)
    assert rewrite is not None
    assert rewrite.path(path) == expected


def test_regex_rewrites_leave_the_query_alone() -> None:
    rewrite = compile_rewrite(Rewrite(regex="/v1", substitution="/v2"), None)
    assert rewrite is not None
    assert rewrite.path(b"/v1/a/v1?x=/v1") == b"/v2/a/v2?x=/v1"


def test_a_rewritten_request_records_its_old_path_and_carries_the_new_host() -> None:
    request = head(b"/foo/x")
    rewrite = compile_rewrite(Rewrite(prefix="/bar", authority="new"), StringMatch("prefix", "/foo"))
    finalize_request(request, None, rewrite, RECORD)
    assert (request.path, request.target, request.authority) == (b"/bar/x", b"/bar/x", b"new")
    assert request.headers.items == [(b"host", b"new"), (b"x-envoy-original-path", b"/foo/x")]


def test_an_authority_rewrite_leaves_the_path_unrecorded() -> None:
    request = head()
    finalize_request(request, None, compile_rewrite(Rewrite(authority="new"), None), RECORD)
    assert b"x-envoy-original-path" not in request.headers


@pytest.mark.parametrize("rewrite", [None, Rewrite()])
def test_nothing_to_rewrite_compiles_to_nothing(rewrite: Rewrite | None) -> None:
    assert compile_rewrite(rewrite, None) is None


def test_operations_remove_then_set_then_add_in_the_order_of_levels() -> None:
    reports: list[str] = []
    inner = HeaderOps(remove=("X-Gone",), set=(("x-set", "inner"),), add=(("x-add", "1"),))
    outer = HeaderOps(set=(("X-Set", "outer"),), add=(("x-add", "2"), ("x-gone", "back")))
    ops = compile_headers([inner, None, outer], reports)
    assert ops is not None
    request = head(b"/", (b"x-gone", b"1"), (b"X-Set", b"old"), (b"x-add", b"0"))
    finalize_request(request, ops, None, RECORD)
    assert request.headers.index == {
        b"host": b"old",
        b"x-set": b"outer",
        b"x-add": b"0, 1, 2",
        b"x-gone": b"back",
    }
    assert reports == []


def test_operators_see_the_request_as_it_came() -> None:
    ops = compile_headers([HeaderOps(set=(("x-path", "%REQ(:path)%"),))], [])
    request = head(b"/foo")
    finalize_request(request, ops, compile_rewrite(Rewrite(prefix="/bar"), StringMatch("exact", "/foo")), RECORD)
    assert request.headers.index[b"x-path"] == b"/foo"


def test_an_empty_value_changes_nothing() -> None:
    ops = compile_headers([HeaderOps(set=(("x-a", "%REQ(none)%"), ("x-b", "")))], [])
    request = head(b"/", (b"x-a", b"kept"))
    finalize_request(request, ops, None, RECORD)
    assert request.headers.index[b"x-a"] == b"kept"
    assert b"x-b" not in request.headers


@pytest.mark.parametrize("name", [":authority", "host", "Host"])
def test_setting_the_authority_rewrites_the_host(name: str) -> None:
    ops = compile_headers([HeaderOps(set=((name, "set"),), add=((name, "add"),))], [])
    request = head()
    finalize_request(request, ops, None, RECORD)
    assert (request.authority, request.headers.index[b"host"]) == (b"set", b"set")


def test_the_authority_may_hold_operators_and_yields_to_the_rewrite() -> None:
    ops = compile_headers([HeaderOps(set=(("host", "%REQ(x-h)%"),))], [])
    request = head(b"/", (b"x-h", b"from-header"))
    finalize_request(request, ops, None, RECORD)
    assert request.authority == b"from-header"
    finalize_request(request, ops, compile_rewrite(Rewrite(authority="rewrite"), None), RECORD)
    assert request.authority == b"rewrite"


@pytest.mark.parametrize(
    "ops", [HeaderOps(remove=("host",)), HeaderOps(set=((":path", "/x"),)), HeaderOps(add=((":method", "X"),))]
)
def test_pseudo_headers_are_refused_and_reported(ops: HeaderOps) -> None:
    reports: list[str] = []
    assert compile_headers([ops], reports) is None
    assert len(reports) == 1


def test_response_operations_read_the_response() -> None:
    ops = compile_headers([HeaderOps(set=(("x-copy", "%RESP(x-a)%"),), remove=("x-a",))], [])
    assert ops is not None
    response = ResponseHead(200, Headers([(b"x-a", b"1"), (b"x-b", b"2")]))
    ops.apply(response.headers, head(), RECORD, response)
    assert response.headers.items == [(b"x-b", b"2")]  # removals come first, so the operator finds nothing


def test_the_only_destination_is_merged_into_the_route() -> None:
    of_route = HeaderOps(remove=("a",), set=(("x", "route"),))
    of_target = HeaderOps(remove=("b",), set=(("x", "target"),))
    assert merge_for_single(of_route, of_target) == HeaderOps(("a", "b"), (("x", "route"), ("x", "target")))
    assert merge_for_single(None, of_target) is of_target
    assert merge_for_single(of_route, None) is of_route
    assert merge_for_single(None, None) is None
