"""The words in which explain.py answers: a call, and what becomes of it. JSON-able, no logic."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from mesh import config

Pairs: TypeAlias = tuple[tuple[str, str], ...]
Kind: TypeAlias = Literal["http_proxy", "gateway", "inbound", "tcp"]
Outcome: TypeAlias = Literal[
    "routed",
    "redirect",
    "direct_response",
    "passthrough",
    "blackhole",
    "no_listener",
    "no_filter_chain",
    "no_route",
    "no_cluster",
    "no_healthy_upstream",
    "upgrade_refused",
    "path_refused",
    "tcp",
]


class Call(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request to ask about, and the door that it comes in by.

    `port`: the gateway's port, or the app's port for `inbound`; 0 takes the authority's, else the scheme's.
    `listener` names the listener and beats `port`. `mtls`: it comes over mesh mTLS (inbound). `authority` is
    what Host says. `response_headers`: what the backend would put on its answer.
    """

    method: str = "GET"
    scheme: str = "http"
    authority: str = ""
    path: str = "/"
    headers: Pairs = ()
    response_headers: Pairs = ()
    kind: Kind = "http_proxy"
    port: int = 0
    listener: str = ""
    mtls: bool = False
    source: str = "127.0.0.1:0"


class Considered(Struct, frozen=True, omit_defaults=True):
    """A route that stood before the answer, and the first of its conditions that failed."""

    route: str
    why_not: str
    origin: config.Origin = config.Origin()


class UpstreamEndpoint(Struct, frozen=True, omit_defaults=True):
    """One endpoint of a destination. `usable`: balancing would pick it; `mtls`: over mesh mTLS."""

    address: str
    port: int
    weight: int = 1
    state: str = "healthy"
    usable: bool = False
    mtls: bool = False
    workload: config.Workload = config.Workload()


class UpstreamRequest(Struct, frozen=True, omit_defaults=True):
    """The request as it would be sent."""

    method: str
    scheme: str
    authority: str
    path: str
    headers: Pairs = ()


class Destination(Struct, frozen=True, omit_defaults=True):
    """One weighted cluster of the route. `share` is the percentage of requests that it gets, 0 included.

    `mtls` is `all`, `some` or `none` of the endpoints; `unknown` when there are none to tell.
    """

    cluster: str
    weight: int
    share: float
    state: Literal["ok", "no_cluster", "no_healthy_upstream"]
    mtls: Literal["all", "some", "none", "unknown"] = "unknown"
    config: config.Cluster | None = None
    endpoints: tuple[UpstreamEndpoint, ...] = ()
    request: UpstreamRequest | None = None
    response_headers: Pairs = ()


class DirectAnswer(Struct, frozen=True, omit_defaults=True):
    """An answer that the proxy gives by configuration."""

    status: int
    body: str = ""


class Explanation(Struct, kw_only=True, omit_defaults=True):
    """The answer. `status` and `flag`: what the proxy itself would answer; 0 leaves it to the upstream.

    `chosen` is the cluster of the destination with the greatest share. `fault` is what may be injected, with its
    percentages. `location` is set for redirects, `response_headers` for every answer whose headers are known.
    """

    outcome: Outcome
    status: int = 0
    flag: str = ""
    details: str = ""
    listener: str = ""
    filter_chain: str = ""
    route_config: str = ""
    virtual_host: str = ""
    domains: tuple[str, ...] = ()
    route: str = ""
    decided_by: tuple[config.Origin, ...] = ()
    considered: tuple[Considered, ...] = ()
    destinations: tuple[Destination, ...] = ()
    chosen: str = ""
    timeout: float = 0.0
    retries: config.RetryPolicy | None = None
    fault: config.Fault | None = None
    rewrite: config.Rewrite | None = None
    location: str = ""
    direct: DirectAnswer | None = None
    response_headers: Pairs = ()

    def destination(self) -> Destination | None:
        """The chosen destination, if any."""
        return next((found for found in self.destinations if found.cluster == self.chosen), None)
