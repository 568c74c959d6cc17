"""Where would a request go? Files -> World -> translation -> the agent's own explain -> an answer in plain words.

A dry run pretends that traffic is captured: the port asked for is the listener, whatever the Host header says.
Nothing is connected to; a Deployment's pod template counts as one ready workload.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, field

from mesh import config
from mesh.config.cluster import Cluster
from mesh.errors import MeshError
from mesh.feed.node import Node

if TYPE_CHECKING:
    from agent.explanation import Call, Destination, Explanation
    from pilot.resources.object import Object
    from pilot.store import MeshSettings, World
    from pilot.store.instances import Template
    from pilot.store.services import Service, ServicePort
    from pilot.translate import Report

_DEFAULT_PORTS = {"http": 80, "https": 443, "tls": 443, "grpc": 80}


class Request(Struct, frozen=True):
    """The request to ask about; keys that mean nothing here are ignored.

    `host` is the Host header when it differs from the URL's; `address` the destination's IP when it matters;
    `port` the listener's (default: the URL's). `from` is "namespace/workload" or "namespace/*".
    """

    url: str
    method: str = "GET"
    headers: dict[str, str | list[str]] = {}
    via: str = ""
    from_: str = field(name="from", default="")
    gateway: str = ""
    gateway_labels: dict[str, str] = {}
    gateway_namespace: str = ""
    host: str = ""
    address: str = ""
    port: int = 0
    protocol: str = "http"
    tls: str = "plaintext"
    sni: str = ""
    backend_response_headers: dict[str, str | list[str]] = {}


class Backend(Struct, frozen=True, omit_defaults=True):
    """The service that answers, and the workload that would."""

    host: str
    port: int
    subset: str = ""
    workload: str = ""
    namespace: str = ""


class Upstream(Struct, frozen=True, omit_defaults=True):
    """The request as the backend would get it."""

    path: str
    host: str
    protocol: str
    headers: dict[str, str] = {}


class RedirectTo(Struct, frozen=True):
    """Where a redirect leads; `port` is None when the location writes none."""

    scheme: str
    host: str
    port: int | None
    path: str
    location: str


class Answer(Struct, omit_defaults=True):
    """What becomes of the request. `flag` is the access log's response flag; `reports` tell what is odd about the
    objects that decided."""

    status: int | None = None
    grpc_status: int | None = None
    error: str | None = None
    flag: str = ""
    details: str = ""
    backend: Backend | None = None
    backend_workload: dict[str, str] | None = None
    weights: dict[str, float] | None = None
    upstream: Upstream | None = None
    response_headers: dict[str, str] | None = None
    redirect: RedirectTo | None = None
    mirrors: list[dict[str, str]] = []
    timeout: float | None = None
    retries: config.RetryPolicy | None = None
    fault: config.Fault | None = None
    mtls: bool | None = None
    passthrough: bool = False
    blackhole: bool = False
    route: str = ""
    decided_by: tuple[config.Origin, ...] = ()
    reports: tuple[Report, ...] = ()
    explanation: Explanation | None = None

    @property
    def refused(self) -> bool:
        """Whether a proxy of the mesh would turn the request down, for whatever reason."""
        return bool(self.error or self.blackhole or (self.flag and self.status != 200))

    def as_json(self) -> dict[str, Any]:
        """The answer's keys as plain data, `error` always among them."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        data.pop("explanation", None)
        data["error"] = self.error
        data["mirrors"] = self.mirrors
        data["decided_by"] = [
            {"kind": o.kind, "namespace": o.namespace, "name": o.name, "field": o.field, "file": o.file, "line": o.line}
            for o in self.decided_by
        ]
        return data


def build_world(objects: Iterable[Object], settings: MeshSettings) -> World:
    """A World for dry runs."""
    from pilot.store import World

    world, _ = World(settings, dry_run=True).apply((obj.key, obj) for obj in objects)
    return world


def ask(world: World, request: Request) -> Answer:
    """Answer one request. Raises MeshError for a request that cannot be understood."""
    from agent.explanation import Call

    parts = urlsplit(request.url)
    if not parts.scheme or not parts.netloc:
        raise MeshError(f"{request.url!r} is not a URL; write for example http://reviews:9080/path?query")
    try:
        port = request.port or parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError as exc:
        raise MeshError(f"{request.url!r} has a port that is not a number; write for example :9080") from exc
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    call = Call(
        method=request.method,
        scheme=parts.scheme if parts.scheme in ("http", "https") else "http",
        authority=request.host or parts.netloc.rpartition("@")[2],
        path=path,
        headers=_pairs(request.headers),
        response_headers=_pairs(request.backend_response_headers),
        port=port,
    )
    if request.via == "gateway" or request.gateway or request.gateway_labels:
        return _ask_gateway(world, request, call)
    return _ask_sidecar(world, request, call)


def _pairs(headers: dict[str, str | list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, item)
        for name, value in headers.items()
        for item in (value if isinstance(value, list) else [value])
        if name.lower() != "host"
    )


def _ask_gateway(world: World, request: Request, call: Call) -> Answer:
    from agent.explain import Explanation, explain
    from pilot.resources.istio_gateway import Gateway
    from pilot.translate import Proxy, translate

    labels, namespace = request.gateway_labels, request.gateway_namespace or "istio-system"
    if request.gateway:
        namespace, _, name = request.gateway.rpartition("/")
        namespace = namespace or "default"
        obj = world.get(("Gateway", namespace, name))
        if obj is None or not isinstance(obj.spec, Gateway):
            known = ", ".join(f"{o.namespace}/{o.name}" for o in world.of_kind("Gateway")) or "none"
            raise MeshError(f"no Gateway {namespace}/{name} in these files; those of networking.istio.io are: {known}")
        labels = obj.spec.selector
    node = Node(id="dry-run", role="gateway", namespace=namespace, labels=labels)
    translation = translate(world, Proxy(node))
    call = msgspec.structs.replace(call, kind="gateway")
    found = explain(translation.snapshot, call)
    if not _listens(translation.snapshot, call):
        found = Explanation(outcome="no_listener", details=f"the gateway does not listen on port {call.port}")
    return _answer(world, call, found, translation.reports, request)


def _listens(snapshot: config.Snapshot, call: Call) -> bool:
    return any(listener.port == call.port for listener in snapshot.listeners.values())


def _ask_sidecar(world: World, request: Request, call: Call) -> Answer:
    from agent.explain import explain
    from pilot.translate import Proxy, translate
    from pilot.translate.visibility import visible_services

    node = _client(world, request.from_)
    translation = translate(world, Proxy(node))
    services = visible_services(world, node.namespace)
    is_http = request.protocol not in ("tcp", "tls") and request.tls in ("", "plaintext") and call.scheme == "http"
    opaque = _opaque_service(services, request, call, node.namespace, is_http=is_http)
    routed = is_http and str(call.port) in translation.snapshot.routes
    snapshot = _captured(translation.snapshot, call.port, opaque if not routed else None)
    if not is_http and opaque is None:
        return _outside(world, call)
    call = msgspec.structs.replace(call, listener="captured")
    return _answer(world, call, explain(snapshot, call), translation.reports, request)


def _captured(snapshot: config.Snapshot, port: int, opaque: tuple[Service, ServicePort] | None) -> config.Snapshot:
    """The snapshot with the listener that capture would give the port, named `captured`."""
    from pilot.translate.services import outbound_name

    proxy = snapshot.listeners["http_proxy"].chains[0].http
    proxy = proxy or config.HttpChain(unknown_host="allow_any")
    http = config.HttpChain(str(port), unknown_host=proxy.unknown_host, path_normalization=proxy.path_normalization)
    chain = config.FilterChain("http", http=http)
    if opaque is not None:
        cluster = outbound_name(opaque[0].host, opaque[1].number)
        chain = config.FilterChain("tcp", tcp=config.TcpChain(((cluster, 1),), stat_prefix=cluster))
    listener = config.Listener("captured", "outbound", "0.0.0.0", port, (chain,))
    return config.Snapshot(
        {**snapshot.listeners, "captured": listener}, snapshot.routes, snapshot.clusters, snapshot.endpoints
    )


def _opaque_service(
    services: dict[str, Service], request: Request, call: Call, namespace: str, *, is_http: bool
) -> tuple[Service, ServicePort] | None:
    """The service that an opaque connection belongs to: by its address, by its name, else by the port alone."""
    from pilot.resources.meta import covers
    from pilot.translate.services import domains

    name = (request.sni or urlsplit(request.url).hostname or "").lower()
    candidates = []
    for service in services.values():
        port = service.port(call.port)
        if port is None or (port.is_http and (is_http or port.protocol != "auto")):
            continue
        certain, short = domains(service, namespace)
        if request.address and request.address in service.addresses:
            rank = 0
        elif any(covers(pattern, name) for pattern in (*certain, *short)):
            rank = 1
        elif not service.addresses and not (port.protocol in ("tls", "https") or service.headless):
            rank = 2
        else:
            continue
        candidates.append((rank, service.host, service, port))
    best = min(candidates, default=None, key=lambda item: item[:2])
    return None if best is None else (best[2], best[3])


def _outside(world: World, call: Call) -> Answer:
    closed = world.settings.outbound_policy == "REGISTRY_ONLY"
    words = "no service has this address and port, and the mesh is REGISTRY_ONLY" if closed else "outside the mesh"
    return Answer(
        status=None if closed else 200, passthrough=not closed, blackhole=closed, details=f"port {call.port}: {words}"
    )


def _client(world: World, written: str) -> Node:
    """The calling workload: its namespace, and its labels when the files have it."""
    namespace, slash, name = written.rpartition("/")
    if not slash:
        namespace, name = written or "default", "*"
    labels: dict[str, str] = {}
    account = "default"
    if name != "*":
        template = _find_template(world, namespace, name)
        if template is not None:
            labels, account = template.labels, template.spec.service_account_name or "default"
        else:
            labels = {"app": name}
    return Node(
        id="dry-run", role="sidecar", namespace=namespace, labels=labels, service_account=account, workload=name
    )


def _find_template(world: World, namespace: str, name: str) -> Template | None:
    """A workload by its own name, else by the start of it, else by its label app."""
    known = world.index.workloads.templates.get(namespace, [])
    by_name = (item for item in known if item.name == name)
    by_start = (item for item in known if item.name.startswith(f"{name}-"))
    by_label = (item for item in known if item.labels.get("app") == name)
    return next(by_name, None) or next(by_start, None) or next(by_label, None)


def _answer(world: World, call: Call, found: Explanation, reports: tuple[Report, ...], request: Request) -> Answer:
    answer = Answer(
        status=found.status or None,
        flag=found.flag,
        details=found.details,
        route=found.route,
        timeout=found.timeout,
        retries=found.retries,
        fault=found.fault,
        decided_by=found.decided_by,
        reports=_relevant(reports, found),
        explanation=found,
        passthrough=found.outcome == "passthrough",
        blackhole=found.outcome == "blackhole",
    )
    if found.outcome in ("no_listener", "no_filter_chain", "no_route"):
        answer.error = found.outcome
    if found.outcome in ("routed", "passthrough", "tcp"):
        answer.status = 200
    if found.response_headers:
        answer.response_headers = _joined(found.response_headers)
    if found.location:
        answer.redirect = _redirect(found.location)
    if found.outcome == "tcp" and found.destinations and found.destinations[0].state != "ok":
        answer.status = None
        answer.flag = "UH"
    if found.destinations:
        _add_destinations(world, answer, found)
    _add_certain_fault(answer)
    return answer


def _add_certain_fault(answer: Answer) -> None:
    """A fault that hits every request needs no dice: nothing reaches the backend."""
    abort = answer.fault.abort if answer.fault is not None else None
    if abort is None or abort.percent < 100:
        return
    answer.status, answer.grpc_status = (
        (200, abort.grpc_status) if abort.grpc_status is not None else (abort.status, None)
    )
    answer.flag, answer.details = "FI", "fault_filter_abort"
    answer.backend = answer.backend_workload = answer.upstream = answer.weights = answer.mtls = None


def _relevant(reports: tuple[Report, ...], found: Explanation) -> tuple[Report, ...]:
    """Reports about the objects that decided."""
    deciders = {(origin.kind, origin.namespace, origin.name) for origin in found.decided_by}
    deciders.update((item.origin.kind, item.origin.namespace, item.origin.name) for item in found.considered)
    return tuple(report for report in reports if (report.kind, report.namespace, report.name) in deciders)


def _add_destinations(world: World, answer: Answer, found: Explanation) -> None:
    names = [_shown(world, place.cluster, found) for place in found.destinations]
    hosts = [host for host, _, _ in names]
    weights: dict[str, float] = {}
    for (host, _, subset), place in zip(names, found.destinations, strict=True):
        name = f"{host}/{subset}" if subset and hosts.count(host) > 1 else host
        weights[name] = round(weights.get(name, 0.0) + place.share, 4)
    chosen = found.destination()
    if chosen is None or answer.passthrough:
        if chosen is not None and chosen.config is not None and chosen.config.service:
            answer.passthrough = False
        else:
            return
    answer.weights = weights
    host, port, subset = _shown(world, chosen.cluster, found)
    endpoint = next((item for item in chosen.endpoints if item.usable), None)
    workload = endpoint.workload if endpoint is not None else config.Workload()
    answer.backend = Backend(host, port, subset, workload.name, workload.namespace)
    answer.mtls = chosen.mtls == "all" if chosen.mtls != "unknown" else None
    if endpoint is not None:
        answer.backend_workload = _labels(world, chosen.config, endpoint.address, endpoint.port)
    if chosen.request is not None:
        answer.upstream = _upstream(chosen)


def _upstream(chosen: Destination) -> Upstream | None:
    request = chosen.request
    if request is None:
        return None
    http2 = chosen.config is not None and chosen.config.protocol == "http2"
    headers = {name: value for name, value in _joined(request.headers).items() if name != "host"}
    return Upstream(request.path, request.authority, "HTTP/2.0" if http2 else "HTTP/1.1", headers)


def _shown(world: World, cluster: str, found: Explanation) -> tuple[str, int, str]:
    """(host, port, subset) of a cluster. A short name that no service completes is shown with its namespace alone."""
    from pilot.resources.meta import expand_host
    from pilot.resources.virtual_service import VirtualService
    from pilot.translate.services import parse_outbound

    parsed = parse_outbound(cluster)
    if parsed is None:
        return cluster, 0, ""
    host, port, subset = parsed
    if host in world.index.services or not found.decided_by:
        return parsed
    origin = found.decided_by[0]
    obj = world.get((origin.kind, origin.namespace, origin.name))
    if obj is not None and isinstance(obj.spec, VirtualService):
        for rule in obj.spec.http:
            for target in rule.route:
                written = target.destination.host
                if "." not in written and expand_host(written, obj.namespace, world.settings.domain) == host:
                    return f"{written}.{obj.namespace}", port, subset
    return host, port, subset


def _labels(world: World, cluster: Cluster | None, address: str, port: int) -> dict[str, str]:
    """Labels of the workload at an endpoint, and its namespace."""
    if cluster is None:
        return {}
    for instance in world.index.instances.get((cluster.namespace, cluster.service), {}).get(cluster.port, ()):
        if (instance.address, instance.port) == (address, port):
            return {**instance.labels, "namespace": instance.namespace}
    return {}


def _joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        joined[key] = f"{joined[key]},{value}" if key in joined else value
    return joined


def _redirect(location: str) -> RedirectTo:
    parts = urlsplit(location)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return RedirectTo(parts.scheme, parts.hostname or "", parts.port, path, location)
