"""Compiled routes: destination by weight, header levels, what the route says of a request."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from agent.codec.headers import Headers
from agent.codec.message import RequestHead, ResponseHead
from agent.exchange.record import Record
from agent.route.action import CompiledRoute
from mesh.config import (
    DirectResponse,
    HeaderOps,
    Redirect,
    Rewrite,
    Route,
    RouteAction,
    RouteMatch,
    StringMatch,
    WeightedCluster,
)

RECORD = Record(0.0)


def compiled(
    action: RouteAction | Redirect | DirectResponse, match: RouteMatch | None = None, **fields: Any
) -> CompiledRoute:
    return CompiledRoute(Route("r", match or RouteMatch(), action, **fields), 0, [])


def head(path: bytes = b"/") -> RequestHead:
    return RequestHead(b"GET", path, Headers([(b"host", b"h")]), authority=b"h")


class Steps(random.Random):
    """Goes evenly through [0, 1)."""

    def __init__(self, count: int) -> None:
        super().__init__(0)
        self.count = count
        self.n = -1

    def random(self) -> float:
        self.n += 1
        return (self.n % self.count + 0.5) / self.count


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"a": 90, "b": 10}, {"a": 90, "b": 10}),
        ({"a": 1, "b": 1, "c": 2}, {"a": 25, "b": 25, "c": 50}),
        ({"a": 0, "b": 3}, {"b": 100}),
        ({"a": 50, "b": 0, "c": 50}, {"a": 50, "c": 50}),
        ({"a": 0}, {"a": 100}),
    ],
)
def test_shares_are_exact_over_an_even_sweep(weights: dict[str, int], expected: dict[str, int]) -> None:
    route = compiled(RouteAction(tuple(WeightedCluster(name, weight) for name, weight in weights.items())))
    rng = Steps(100)
    picked = Counter(target.cluster for _ in range(100) if (target := route.pick_cluster(rng)))
    assert picked == expected
    assert [target.cluster for target in route.targets] == list(weights)


@pytest.mark.parametrize("clusters", [(), (WeightedCluster("a", 0), WeightedCluster("b", 0))])
def test_nobody_is_picked_when_nobody_may_receive(clusters: tuple[WeightedCluster, ...]) -> None:
    assert compiled(RouteAction(clusters)).pick_cluster(random.Random(1)) is None


def finalized(route: CompiledRoute, cluster: str) -> RequestHead:
    request = head()
    target = next(target for target in route.targets if target.cluster == cluster)
    route.finalize_request(request, target, RECORD)
    return request


def test_with_one_destination_its_own_set_comes_last() -> None:
    only = WeightedCluster("a", request_headers=HeaderOps(set=(("x", "target"),)))
    route = compiled(RouteAction((only,)), request_headers=HeaderOps(set=(("x", "route"),)))
    assert finalized(route, "a").headers.index[b"x"] == b"target"


def test_with_several_destinations_the_routes_level_comes_last() -> None:
    first = WeightedCluster("a", request_headers=HeaderOps(set=(("x", "target"), ("y", "a"), ("host", "of-a"))))
    route = compiled(RouteAction((first, WeightedCluster("b"))), request_headers=HeaderOps(set=(("x", "route"),)))
    request = finalized(route, "a")
    assert (request.headers.index[b"x"], request.headers.index[b"y"], request.authority) == (b"route", b"a", b"of-a")
    assert finalized(route, "b").headers.index == {b"host": b"h", b"x": b"route"}


def test_the_routes_authority_beats_the_destinations() -> None:
    first = WeightedCluster("a", request_headers=HeaderOps(set=(("host", "of-a"),)))
    several = RouteAction((first, WeightedCluster("b")))
    route = compiled(several, request_headers=HeaderOps(set=((":authority", "of-route"),)))
    assert finalized(route, "a").authority == b"of-route"


def test_a_route_without_changes_leaves_the_request_alone() -> None:
    route = compiled(RouteAction((WeightedCluster("a"),)))
    assert finalized(route, "a").headers.items == head().headers.items


def test_rewrite_uses_the_matched_prefix() -> None:
    action = RouteAction((WeightedCluster("a"),), rewrite=Rewrite(prefix="/new"))
    route = compiled(action, RouteMatch(path=StringMatch("prefix", "/")))
    assert finalized(route, "a").path == b"/new"


def test_response_operations_of_target_and_of_direct_responses() -> None:
    only = WeightedCluster("a", response_headers=HeaderOps(add=(("x", "2"),)))
    route = compiled(RouteAction((only,)), response_headers=HeaderOps(add=(("x", "1"),)))
    response = ResponseHead(200, Headers())
    route.finalize_response(response, head(), route.targets[0], RECORD)
    assert response.headers.items == [(b"x", b"1"), (b"x", b"2")]
    direct = compiled(DirectResponse(418, b"tea"), response_headers=HeaderOps(set=(("content-type", "x/y"),)))
    response = ResponseHead(418, Headers())
    direct.finalize_response(response, head(), None, RECORD)
    assert response.headers.index == {b"content-type": b"x/y"}
    assert direct.direct is not None
    assert (direct.direct.status, direct.direct.body) == (418, b"tea")
    plain = compiled(Redirect(path="/x"))
    plain.finalize_response(response, head(), None, RECORD)
    assert plain.redirect is not None
    assert plain.redirect.status == 301


def test_a_mismatch_is_named() -> None:
    match = RouteMatch(path=StringMatch("prefix", "/a"), headers=(("x", StringMatch("exact", "1")),))
    route = compiled(DirectResponse(200), match)
    assert route.mismatch(head(b"/b")) == 'path is not prefix "/a"'
    assert route.mismatch(head(b"/a")) == 'header x is not exact "1"'
    request = head(b"/a")
    request.headers.add(b"x", b"1")
    assert route.mismatch(request) == ""
    assert route.matches(request)
