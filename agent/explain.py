"""Where would this request go, and who says so? Answered by the deciders that serve real requests.

Nothing is sent, no dice are rolled: percentages and weights are reported. `explain` compiles what the call needs
of a snapshot; `explain_plan` asks a plan in force and so knows the endpoints' living state.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal
from urllib.parse import urlsplit

from agent.bootstrap import Settings
from agent.codec.headers import Headers
from agent.codec.message import RequestHead, ResponseHead
from agent.downstream.chain import MESH_ALPN, Chains, choose
from agent.downstream.sniff import ClientHello
from agent.exchange import forwarding
from agent.exchange.canonical import path_rules
from agent.exchange.faults import ProxyFault, no_cluster, no_healthy_upstream
from agent.exchange.record import Record
from agent.exchange.request_ids import RequestIds
from agent.exchange.retry import CONTROL_HEADERS
from agent.explanation import (
    Call,
    Considered,
    Destination,
    DirectAnswer,
    Explanation,
    Outcome,
    Pairs,
    UpstreamEndpoint,
    UpstreamRequest,
)
from agent.plan import Plan
from agent.route.action import CompiledRoute, WeightedTarget
from agent.route.table import RouteTable
from agent.upstream.balancer import usable
from agent.upstream.connect import wants_mesh_tls
from agent.upstream.endpoint import Endpoint
from mesh import config
from mesh.errors import MeshError
from mesh.net.authority import split_port

_PATH_RULES = path_rules(Settings())

__all__ = ["Call", "Explanation", "explain", "explain_plan", "explain_url"]


def explain(snapshot: config.Snapshot, call: Call) -> Explanation:
    """Explain by a snapshot alone; endpoints are as discovery says. Raises ConfigError for uncompilable routes."""
    return _Question(snapshot, None, call).answer()


def explain_plan(plan: Plan, call: Call) -> Explanation:
    """Explain by the plan in force, with the living state of its endpoints."""
    return _Question(plan.snapshot, plan, call).answer()


def explain_url(
    snapshot: config.Snapshot,
    method: str,
    url: str,
    headers: Sequence[tuple[str, str]] = (),
    *,
    role: Literal["sidecar", "gateway"] = "sidecar",
    plan: Plan | None = None,
) -> Explanation:
    """Explain a URL as an app behind this sidecar, or a client of this gateway, would ask for it.

    A Host header beats the URL's host. Raises MeshError for a URL without scheme or host.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise MeshError(f"{url!r} is not a URL; write for example http://reviews:9080/path?query")
    host = next((value for name, value in headers if name.lower() == "host"), parts.netloc.rpartition("@")[2])
    port = split_port(parts.netloc.encode())[1]
    call = Call(
        method=method,
        scheme=parts.scheme,
        authority=host,
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        headers=tuple((name, value) for name, value in headers if name.lower() != "host"),
        kind="gateway" if role == "gateway" else "http_proxy",
        port=int(port) if port else 0,
    )
    return explain(snapshot, call) if plan is None else explain_plan(plan, call)


class _Question:
    """One call on its way to an answer."""

    def __init__(self, snapshot: config.Snapshot, plan: Plan | None, call: Call) -> None:
        self.snapshot = snapshot
        self.plan = plan
        self.call = call
        self.record = Record(0.0)
        self.record.downstream_remote = call.source
        self.result = Explanation(outcome="no_listener")

    def answer(self) -> Explanation:
        listener = _find_listener(self.snapshot, self.call)
        if listener is None:
            return _refused(self.result, "no_listener", self._known_doors())
        self.result.listener = listener.name
        candidates = Chains(listener.chains).candidates(_hello(self.call))
        chain = choose(candidates, "tcp" if self.call.kind == "tcp" else "http")
        if chain is None:
            self.result.flag = "NR"
            return _refused(self.result, "no_filter_chain", "filter_chain_not_found")
        self.result.filter_chain = chain.name
        if chain.http is not None:
            self._http(listener, chain.http)
        elif chain.tcp is not None:
            self._tcp(chain.tcp)
        return self.result

    def _known_doors(self) -> str:
        known = ", ".join(sorted(self.snapshot.listeners)) or "none"
        return f"no {self.call.kind} listener for this call; listeners: {known}"

    def _tcp(self, chain: config.TcpChain) -> None:
        self.result.outcome = "tcp"
        total = sum(weight for _, weight in chain.clusters)
        self._set_destinations([self._destination(name, weight, total, None) for name, weight in chain.clusters])

    def _http(self, listener: config.Listener, chain: config.HttpChain) -> None:
        head = _head(self.call)
        if not forwarding.strip_request_hops(head):
            _refused(self.result, "upgrade_refused", "upgrade_failed").status = 403
            return
        if chain.use_remote_address:
            address = forwarding.bare_address(self.call.source)
            forwarding.enter_gateway(head, address, RequestIds(Random(0)), tls=self.call.scheme == "https")
        else:
            forwarding.enter_sidecar(head, RequestIds(Random(0)), tls=self.call.scheme == "https")
        try:
            # a redirect to the canonical form ends there too
            head.path = _PATH_RULES[chain.path_normalization].canonical(head.path).path
        except ProxyFault as fault:
            _refused_by(self.result, "path_refused", fault)
            return
        plan, table = self._plan(chain, head)
        host = table.find_host(head.authority) if table is not None else None
        if table is not None:
            self.result.route_config = table.name
        if host is not None:
            self.result.virtual_host = host.name
            self.result.domains = host.config.domains
        try:
            route = plan.find_route(chain, head)
        except ProxyFault as fault:
            _refused_by(self.result, "no_route", fault)
            self.result.considered = _considered(host.routes if host else (), None, head)
            return
        if host is not None:
            self.result.considered = _considered(host.routes, route, head)
        self._route(route, head, listener, outside=host is None)

    def _plan(self, chain: config.HttpChain, head: RequestHead) -> tuple[Plan, RouteTable | None]:
        name = chain.route_config
        if chain.route_by_port:
            name = (split_port(head.authority)[1] or b"80").decode()
        if self.plan is not None:
            return self.plan, self.plan.tables.get(name)
        settings = self.snapshot.routes.get(name)
        tables = {} if settings is None else {name: RouteTable.compile(settings)}
        return Plan(self.snapshot, tables, {}), tables.get(name)

    def _route(self, route: CompiledRoute, head: RequestHead, listener: config.Listener, *, outside: bool) -> None:
        result = self.result
        result.route = self.record.route = route.name
        result.fault = route.config.fault
        result.timeout = route.timeout
        result.retries = route.retries
        action = route.config.action
        if isinstance(action, config.RouteAction):
            result.rewrite = action.rewrite
        result.decided_by = tuple(origin for origin in (route.origin,) if origin.kind)
        if route.redirect is not None:
            result.outcome, result.status = "redirect", route.redirect.status
            location = route.redirect.location(head, self.call.port or listener.port)
            result.location = location.decode("latin-1")
            self._local_headers(route, head, [(b"location", location)])
        elif route.direct is not None:
            result.outcome = "blackhole" if outside else "direct_response"
            result.status = route.direct.status
            result.direct = DirectAnswer(route.direct.status, route.direct.body.decode("utf-8", "replace"))
            self._local_headers(route, head, [(b"content-type", b"text/plain")] if route.direct.body else [])
        else:
            self._send(route, head, outside=outside)

    def _local_headers(self, route: CompiledRoute, head: RequestHead, fields: list[tuple[bytes, bytes]]) -> None:
        response = ResponseHead(self.result.status, Headers(fields))
        route.finalize_response(response, head, None, self.record)
        self.result.response_headers = _pairs(response.headers)

    def _send(self, route: CompiledRoute, head: RequestHead, *, outside: bool) -> None:
        result = self.result
        result.outcome = "passthrough" if outside else "routed"
        only = len(route.targets) == 1
        total = sum(target.weight for target in route.targets)
        destinations = []
        for target in route.targets:
            weight, out_of = (1, 1) if only else (target.weight, total)
            place = self._destination(target.cluster, weight, out_of, (route, target, head))
            destinations.append(place)
        self._set_destinations(destinations)
        chosen = result.destination()
        if chosen is None or chosen.state == "no_cluster":
            _refused_by(result, "no_cluster", no_cluster(route.missing_cluster_status))
        elif chosen.state == "no_healthy_upstream":
            _refused_by(result, "no_healthy_upstream", no_healthy_upstream())
        elif chosen.config is not None and chosen.config.discovery == "original_dst":
            result.outcome = "passthrough"
        if chosen is not None:
            result.response_headers = chosen.response_headers

    def _set_destinations(self, destinations: list[Destination]) -> None:
        self.result.destinations = tuple(destinations)
        chosen = max(destinations, key=lambda place: place.share, default=None)
        if chosen is None or chosen.share == 0:
            return
        self.result.chosen = chosen.cluster
        if chosen.config is not None and chosen.config.origin.kind:
            self.result.decided_by += (chosen.config.origin,)

    def _destination(
        self,
        name: str,
        weight: int,
        total: int,
        on_the_way: tuple[CompiledRoute, WeightedTarget, RequestHead] | None,
    ) -> Destination:
        settings = self.snapshot.clusters.get(name)
        endpoints = self._endpoints(name, settings)
        request, response = self._changes(*on_the_way) if on_the_way is not None else (None, ())
        return Destination(
            cluster=name,
            weight=weight,
            share=round(100 * weight / total, 4) if total else 0.0,
            state=_state(settings, endpoints),
            mtls=_mtls(settings, endpoints),
            config=settings,
            endpoints=endpoints,
            request=request,
            response_headers=response,
        )

    def _endpoints(self, name: str, settings: config.Cluster | None) -> tuple[UpstreamEndpoint, ...]:
        if settings is None:
            return ()
        living: tuple[Endpoint, ...] | None = None
        if self.plan is not None and name in self.plan.clusters:
            cluster = self.plan.clusters[name]
            living, picks = tuple(cluster.endpoints.values()), cluster.usable
        else:
            found = self.snapshot.endpoints.get(name)
            living = tuple(Endpoint(endpoint) for endpoint in found.endpoints) if found is not None else ()
            picks = usable(living, settings.outlier.min_health_percent if settings.outlier else 0.0)
        return tuple(
            UpstreamEndpoint(
                endpoint.address,
                endpoint.port,
                endpoint.weight,
                endpoint.state,
                endpoint in picks,
                wants_mesh_tls(settings.tls, endpoint.config),
                endpoint.config.workload,
            )
            for endpoint in living
        )

    def _changes(
        self, route: CompiledRoute, target: WeightedTarget, came: RequestHead
    ) -> tuple[UpstreamRequest, Pairs]:
        head = RequestHead(
            came.method, came.target, came.headers.copy(), scheme=came.scheme, authority=came.authority, path=came.path
        )
        self.record.cluster = target.cluster
        route.finalize_request(head, target, self.record)
        for name in CONTROL_HEADERS.intersection(head.headers.index):
            head.headers.remove(name)
        response = ResponseHead(200, _fields(self.call.response_headers))
        route.finalize_response(response, head, target, self.record)
        sent = UpstreamRequest(
            head.method.decode("latin-1"),
            head.scheme.decode("latin-1"),
            head.authority.decode("latin-1"),
            head.path.decode("latin-1"),
            _pairs(head.headers),
        )
        return sent, _pairs(response.headers)


def _find_listener(snapshot: config.Snapshot, call: Call) -> config.Listener | None:
    if call.listener:
        return snapshot.listeners.get(call.listener)
    listeners = snapshot.listeners.values()
    if call.kind == "http_proxy":
        proxies = (each for each in listeners if any(c.http and c.http.route_by_port for c in each.chains))
        return next(proxies, None)
    if call.kind == "tcp":
        return next((each for each in listeners if each.service and each.service == call.authority), None)
    if call.kind == "inbound":
        inbound = [each for each in listeners if each.direction == "inbound"]
        wanted = (each for each in inbound if each.name == f"inbound|{call.port}||" or each.port == call.port)
        return next(wanted, inbound[0] if len(inbound) == 1 and not call.port else None)
    gateways = [each for each in listeners if each.direction == "gateway"]
    port = call.port or int(split_port(call.authority.encode())[1] or (443 if call.scheme == "https" else 80))
    by_port = next((each for each in gateways if each.port == port), None)
    return by_port or (gateways[0] if len(gateways) == 1 and not call.port else None)


def _hello(call: Call) -> ClientHello | None:
    """The first bytes of the connection that would carry the call."""
    if call.mtls:
        return ClientHello("", tuple(sorted(MESH_ALPN)))
    if call.kind == "gateway" and call.scheme == "https":
        return ClientHello(split_port(call.authority.encode())[0].decode(), ("http/1.1",))
    return None


def _head(call: Call) -> RequestHead:
    authority = call.authority.encode()
    headers = Headers([(b"host", authority)])
    for name, value in _fields(call.headers).items:
        headers.add(name, value)
    target = call.path.encode()
    upgrade = headers.index.get(b"upgrade")
    return RequestHead(
        call.method.encode(),
        target,
        headers,
        scheme=call.scheme.encode(),
        authority=authority,
        path=target,
        upgrade=upgrade.lower() if upgrade is not None else None,
    )


def _considered(
    routes: tuple[CompiledRoute, ...], found: CompiledRoute | None, head: RequestHead
) -> tuple[Considered, ...]:
    before = routes if found is None else routes[: found.position]
    return tuple(Considered(route.name, route.mismatch(head), route.origin) for route in before)


def _state(
    settings: config.Cluster | None, endpoints: tuple[UpstreamEndpoint, ...]
) -> Literal["ok", "no_cluster", "no_healthy_upstream"]:
    if settings is None:
        return "no_cluster"
    if settings.discovery == "original_dst" or any(endpoint.usable for endpoint in endpoints):
        return "ok"
    return "no_healthy_upstream"


def _mtls(
    settings: config.Cluster | None, endpoints: tuple[UpstreamEndpoint, ...]
) -> Literal["all", "some", "none", "unknown"]:
    if settings is None:
        return "unknown"
    if settings.tls.mode == "istio_mutual":
        return "all"
    if settings.tls.mode != "auto":
        return "none"
    secured = sum(endpoint.mtls for endpoint in endpoints)
    if not endpoints:
        return "unknown"
    return "all" if secured == len(endpoints) else "some" if secured else "none"


def _refused(result: Explanation, outcome: Outcome, details: str) -> Explanation:
    result.outcome = outcome
    result.details = details
    return result


def _refused_by(result: Explanation, outcome: Outcome, fault: ProxyFault) -> None:
    _refused(result, outcome, fault.details)
    result.status = fault.status
    result.flag = fault.flag


def _fields(pairs: Pairs) -> Headers:
    return Headers((name.encode("latin-1", "replace"), value.encode("utf-8")) for name, value in pairs)


def _pairs(headers: Headers) -> Pairs:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.items)
