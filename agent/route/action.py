"""One compiled route and what it does: send to a weighted cluster, redirect, or answer directly."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from random import Random
from typing import Any

from agent.codec.gate import path_of
from agent.codec.message import RequestHead, ResponseHead
from agent.route.fault import Fault, compile_fault
from agent.route.match import Condition, Test, compile_conditions, compile_string
from agent.route.operators import Facts
from agent.route.redirect import Redirect
from agent.route.rewrite import (
    HeaderOps,
    compile_headers,
    compile_rewrite,
    finalize_request,
    merge_for_single,
)
from mesh import config


class WeightedTarget:
    """One destination of a route. `upstream` is whatever the plan bound to the cluster's name (None: no such cluster).

    The header operations are those of destination and route together.
    """

    __slots__ = ("cluster", "request_ops", "response_ops", "upstream", "weight")

    def __init__(
        self, weighted: config.WeightedCluster, request_ops: HeaderOps | None, response_ops: HeaderOps | None
    ) -> None:
        self.cluster = weighted.cluster
        self.weight = weighted.weight
        self.request_ops = request_ops
        self.response_ops = response_ops
        self.upstream: Any = None


class DirectResponse:
    """An answer given here."""

    __slots__ = ("body", "status")

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body


class CompiledRoute:
    """A route ready for serving. Exactly one of `targets`, `redirect`, `direct` does the work.

    `position` is its place in the virtual host; `retry` is whatever the plan compiled the retry policy to.
    """

    __slots__ = (
        "_single",
        "_steps",
        "_total",
        "conditions",
        "config",
        "direct",
        "fault",
        "missing_cluster_status",
        "name",
        "origin",
        "path_test",
        "position",
        "redirect",
        "request_ops",
        "response_ops",
        "retries",
        "retry",
        "rewrite",
        "targets",
        "timeout",
        "words",
    )

    def __init__(self, route: config.Route, position: int, reports: list[str]) -> None:
        self.config = route
        self.name = route.name
        self.origin = route.origin
        self.position = position
        self.path_test: Test | None = compile_string(route.match.path) if route.match.path else None
        conditions = compile_conditions(route.match)
        self.conditions: tuple[Condition, ...] = tuple(test for _, test in conditions)
        self.words = tuple(words for words, _ in conditions)
        self.fault: Fault | None = compile_fault(route.fault)
        self.request_ops = compile_headers([route.request_headers], reports)
        self.response_ops = compile_headers([route.response_headers], reports)
        self.redirect: Redirect | None = None
        self.direct: DirectResponse | None = None
        self.rewrite = None
        self.targets: tuple[WeightedTarget, ...] = ()
        self.timeout = 0.0
        self.retries: config.RetryPolicy | None = None
        self.retry: Any = None
        self.missing_cluster_status = 503
        action = route.action
        if isinstance(action, config.RouteAction):
            self.rewrite = compile_rewrite(action.rewrite, route.match.path)
            self.timeout = action.timeout
            self.retries = action.retries
            self.missing_cluster_status = action.missing_cluster_status
            self.targets = _compile_targets(route, action, reports)
        elif isinstance(action, config.Redirect):
            self.redirect = Redirect(action, route.match.path)
        else:
            self.direct = DirectResponse(action.status, action.body)
        self._index_weights()

    def _index_weights(self) -> None:
        chosen = [target for target in self.targets if target.weight > 0]
        self._total = sum(target.weight for target in chosen)
        self._steps = (list(accumulate(target.weight for target in chosen)), chosen)
        single = self.targets if len(self.targets) == 1 else chosen
        self._single = single[0] if len(single) == 1 else None

    def bind(self, upstream: Callable[[str], Any], retry: Callable[[config.RetryPolicy], Any]) -> None:
        """Fill in the living cluster of every target and the compiled retry policy."""
        for target in self.targets:
            target.upstream = upstream(target.cluster)
        self.retry = retry(self.retries) if self.retries is not None else None

    def pick_cluster(self, rng: Random) -> WeightedTarget | None:
        """The destination of this request; None when no destination may receive anything.

        A single destination's weight is ignored (Istio).
        """
        if self._single is not None:
            return self._single
        steps, targets = self._steps
        if not targets:
            return None
        return targets[bisect_right(steps, rng.random() * self._total)]

    def finalize_request(self, head: RequestHead, target: WeightedTarget, facts: Facts) -> None:
        """Header operations, authority and path of the request for `target`; call once, before the first attempt."""
        if target.request_ops is not None or self.rewrite is not None:
            finalize_request(head, target.request_ops, self.rewrite, facts)

    def finalize_response(
        self, response: ResponseHead, head: RequestHead, target: WeightedTarget | None, facts: Facts
    ) -> None:
        """Header operations on the response; without a target (redirect, direct response) the route's own."""
        ops = self.response_ops if target is None else target.response_ops
        if ops is not None:
            ops.apply(response.headers, head, facts, response)

    def matches(self, head: RequestHead) -> bool:
        """Whether every condition of the route holds; the table asks the same question with fewer tests."""
        return self.mismatch(head) == ""

    def mismatch(self, head: RequestHead) -> str:
        """The first condition that fails, in words; "" when the route matches."""
        if self.path_test is not None and not self.path_test(path_of(head.path)):
            path = self.config.match.path
            return f'path is not {path.kind} "{path.value}"' if path else ""
        for words, condition in zip(self.words, self.conditions, strict=True):
            if not condition(head):
                return words
        return ""


def _compile_targets(route: config.Route, action: config.RouteAction, reports: list[str]) -> tuple[WeightedTarget, ...]:
    targets = []
    single = len(action.clusters) == 1
    for weighted in action.clusters:
        ops = []
        for of_route, of_target in (
            (route.request_headers, weighted.request_headers),
            (route.response_headers, weighted.response_headers),
        ):
            if single:
                ops.append(compile_headers([merge_for_single(of_route, of_target)], reports))
            else:
                # Envoy evaluates the destination's level first; the route's authority still beats it.
                merged = compile_headers([of_target, of_route], reports)
                outer = compile_headers([of_route], [])
                if merged is not None and outer is not None and outer.authority is not None:
                    merged.authority = outer.authority
                ops.append(merged)
        targets.append(WeightedTarget(weighted, *ops))
    return tuple(targets)
