"""Routes: which request goes where, and what changes on the way. Order is precedence: the first match wins."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Origin(Struct, frozen=True, omit_defaults=True):
    """The object and field that a decision came from, for explanations."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    field: str = ""
    file: str = ""
    line: int = 0


class StringMatch(Struct, frozen=True, omit_defaults=True):
    """`exact`, `prefix`, `regex` (RE2, whole value) or `present`. `ignore_case` acts on exact and prefix."""

    kind: Literal["exact", "prefix", "regex", "present"]
    value: str = ""
    ignore_case: bool = False


class RouteMatch(Struct, frozen=True, omit_defaults=True):
    """All given conditions hold. `path` looks at the path without its query; absent means any.

    `without_headers` are negated; a missing header counts as the empty string (Istio withoutHeaders).
    """

    path: StringMatch | None = None
    method: StringMatch | None = None
    scheme: StringMatch | None = None
    authority: StringMatch | None = None
    headers: tuple[tuple[str, StringMatch], ...] = ()
    without_headers: tuple[tuple[str, StringMatch], ...] = ()
    query: tuple[tuple[str, StringMatch], ...] = ()


class HeaderOps(Struct, frozen=True, omit_defaults=True):
    """Removals first, then `set` (overwrite), then `add` (append). Values may hold %OPERATORS%."""

    remove: tuple[str, ...] = ()
    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()


class FaultDelay(Struct, frozen=True, omit_defaults=True):
    """Wait `seconds` before routing on `percent` (0..100, steps of 0.0001) of the requests."""

    seconds: float
    percent: float = 0.0


class FaultAbort(Struct, frozen=True, omit_defaults=True):
    """Answer `status` (or, as gRPC, `grpc_status`) instead of routing on `percent` of the requests."""

    status: int = 0
    grpc_status: int | None = None
    percent: float = 0.0


class Fault(Struct, frozen=True, omit_defaults=True):
    """Client-side fault injection (VirtualService fault): both parts roll independently, delay first."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class RetryPolicy(Struct, frozen=True, omit_defaults=True):
    """`attempts` retries at most (so 1 + attempts tries); conditions in Envoy's words; back-off in seconds."""

    attempts: int = 2
    retry_on: tuple[str, ...] = (
        "connect-failure",
        "refused-stream",
        "unavailable",
        "cancelled",
        "retriable-status-codes",
    )
    status_codes: tuple[int, ...] = ()
    per_try_timeout: float = 0.0
    backoff_base: float = 0.025
    backoff_max: float = 0.25
    ignore_previous_hosts: bool = True


class Rewrite(Struct, frozen=True, omit_defaults=True):
    """New path and authority. `prefix` replaces the matched prefix (or whole exact/regex path, VirtualService
    rewrite.uri); `regex` with `substitution` replaces every RE2 match in the path."""

    prefix: str | None = None
    regex: str = ""
    substitution: str = ""
    authority: str = ""


class WeightedCluster(Struct, frozen=True, omit_defaults=True):
    """One destination; shares are weight / sum. Its header operations come on top of the route's."""

    cluster: str
    weight: int = 1
    request_headers: HeaderOps | None = None
    response_headers: HeaderOps | None = None


class RouteAction(Struct, frozen=True, omit_defaults=True, tag="route"):
    """Send upstream. `timeout` 0 is off. `missing_cluster_status`: 503, or 500 for Gateway API routes."""

    clusters: tuple[WeightedCluster, ...]
    timeout: float = 0.0
    retries: RetryPolicy | None = None
    rewrite: Rewrite | None = None
    missing_cluster_status: int = 503


class Redirect(Struct, frozen=True, omit_defaults=True, tag="redirect"):
    """Answer with Location. `port` 0 keeps the request's; `port_from` protocol drops to the scheme's default,
    request takes the listener's (VirtualService redirect)."""

    status: int = 301
    scheme: str = ""
    authority: str = ""
    port: int = 0
    port_from: Literal["", "protocol", "request"] = ""
    path: str | None = None
    prefix: str | None = None


class DirectResponse(Struct, frozen=True, omit_defaults=True, tag="direct"):
    """Answer here with this status and body."""

    status: int
    body: bytes = b""


class Route(Struct, frozen=True, omit_defaults=True):
    """One rule. `fault` acts before routing; header operations are the route level's."""

    name: str
    match: RouteMatch
    action: RouteAction | Redirect | DirectResponse
    request_headers: HeaderOps | None = None
    response_headers: HeaderOps | None = None
    fault: Fault | None = None
    origin: Origin = Origin()


class VirtualHost(Struct, frozen=True, omit_defaults=True):
    """Routes of a set of domains: exact names, `*.suffix`, `prefix.*`, or `*`; ports are ignored in matching."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...] = ()


class RouteConfig(Struct, frozen=True, omit_defaults=True):
    """A named table of virtual hosts. Sidecars: named like the service port ("9080") or "inbound|8080||";
    gateways: "http.80"."""

    name: str
    virtual_hosts: tuple[VirtualHost, ...] = ()
