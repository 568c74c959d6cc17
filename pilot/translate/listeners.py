"""A sidecar's listeners: inbound ports of its app, the outbound HTTP proxy, one loopback port for each service port
that no HTTP/1 proxy can reach: it may carry opaque bytes, HTTP/2 or gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, cast

import msgspec
from msgspec import Struct

from mesh import config
from mesh.feed.node import InboundPort, Node
from pilot.resources.core import Service as KubernetesService
from pilot.resources.meta import covers_labels
from pilot.resources.service_entry import ServiceEntry
from pilot.store.destination_rules import find_rule
from pilot.store.instances import Registration, of_workload
from pilot.store.mesh_config import PathNormalization
from pilot.store.services import Service, ServicePort
from pilot.translate.authorization import authz_policies
from pilot.translate.clusters import breakers, compose, connection
from pilot.translate.endpoints import app_endpoints
from pilot.translate.policies import MtlsMode, peer_mode
from pilot.translate.services import inbound_name, outbound_name
from pilot.translate.visibility import View

_UNHEALTHY_INTERVAL = 0.5  # seconds: an app is not called for longer than that after it could be
_OPAQUE_SILENCE = 1.0
"""Seconds after which a silent client of a port declared opaque is served in plaintext (PERMISSIVE): in protocols
such as MySQL's the server speaks first, while a TLS client speaks at once."""
Carried = Literal["http", "tcp"]
INBOUND_RETRIES = config.RetryPolicy(attempts=2, retry_on=("reset-before-request",))


class Inbound(Struct, frozen=True):
    """What a sidecar needs for one port of its app."""

    listener: config.Listener
    cluster: config.Cluster
    endpoints: config.ClusterEndpoints
    routes: config.RouteConfig | None


def translate_inbound(view: View) -> Iterator[Inbound]:
    """For each port that the agent announced. The port of a service that has it as target tells the protocol;
    on one that no service declares the first bytes do."""
    owners = dict(_owners(view))
    policies = authz_policies(view)
    for port in view.proxy.node.ports:
        owner = owners.get(port.app_port)
        declared = owner[1] if owner is not None else None
        mode = peer_mode(view.world, view.namespace, view.labels, port.app_port)
        carries = _carries(declared)
        is_http = "http" in carries
        yield Inbound(
            listener=_inbound_listener(view, port, mode, policies, carries),
            cluster=_inbound_cluster(view, port.app_port, owner, is_http=is_http),
            endpoints=app_endpoints(port.app_port),
            routes=_inbound_routes(port.app_port, declared) if is_http else None,
        )


def _owners(view: View) -> Iterator[tuple[int, tuple[Service, ServicePort]]]:
    """App port and the service port that leads to it; the last one given counts, so the first service is last."""
    registration = Registration(view.proxy.node)
    for services in reversed(view.world.index.services.values()):
        for service in services:
            if service.namespace != view.namespace or not _selects(view, service):
                continue
            for instance in of_workload(service, registration):
                port = service.port(instance.service_port)
                if port is not None:
                    yield instance.workload_port, (service, port)


def _selects(view: View, service: Service) -> bool:
    kind, _, name = service.key
    if kind == "Implied":
        return name == view.proxy.node.service
    obj = view.world.get(service.key)
    spec = obj.spec if obj is not None else None
    if isinstance(spec, KubernetesService):
        if not spec.selector:
            return name == view.proxy.node.service
        return covers_labels(spec.selector, view.labels)
    if isinstance(spec, ServiceEntry) and spec.workload_selector is not None:
        return covers_labels(spec.workload_selector.labels, view.labels)
    return False


def _carries(declared: ServicePort | None) -> tuple[Carried, ...]:
    """What connections to a port may carry; more than one: their first bytes tell."""
    if declared is None or declared.protocol == "auto":
        return ("http", "tcp")
    return ("http",) if declared.is_http else ("tcp",)


def _inbound_listener(
    view: View,
    port: InboundPort,
    mode: MtlsMode,
    policies: tuple[config.AuthzPolicy, ...],
    carries: tuple[Carried, ...],
) -> config.Listener:
    settings = view.settings
    tls = config.DownstreamTls("istio_mutual", trust_domains=(settings.trust_domain, *settings.trust_domain_aliases))
    secured = {
        carried: config.FilterChain(
            f"mtls-{carried}",  # not the same for both: guards of chains outlive a port's change of protocol
            "tls" if mode == "STRICT" else "mtls",
            tls=tls,
            http=_inbound_http(port.app_port, settings.path_normalization) if carried == "http" else None,
            tcp=_inbound_tcp(port.app_port) if carried == "tcp" else None,
            policies=policies,
            destination_port=port.app_port if policies else 0,
            application="http" if carried == "http" and len(carries) > 1 else "any",
        )
        for carried in carries
    }
    # PERMISSIVE: foreign TLS has no chain for HTTP, and passes through untouched where opaque bytes are served
    plain = tuple(
        msgspec.structs.replace(
            chain,
            name=chain.name.replace("mtls", "raw"),
            transport="raw" if mode == "PERMISSIVE" and carried == "http" else "any",
            tls=None,
        )
        for carried, chain in secured.items()
    )
    chains = {"STRICT": (*secured.values(),), "PERMISSIVE": (*secured.values(), *plain), "DISABLE": plain}[mode]
    wait = settings.protocol_detection_timeout
    if not wait and mode == "PERMISSIVE" and carries == ("tcp",):
        wait = _OPAQUE_SILENCE
    listener = config.Listener(inbound_name(port.app_port), "inbound", port.address, port.port, chains)
    return msgspec.structs.replace(listener, detection_timeout=wait) if wait else listener


def _inbound_http(app_port: int, paths: PathNormalization) -> config.HttpChain:
    return config.HttpChain(inbound_name(app_port), server_name="istio-envoy", path_normalization=paths)


def _inbound_tcp(app_port: int) -> config.TcpChain:
    name = inbound_name(app_port)
    return config.TcpChain(((name, 1),), stat_prefix=name)


def _inbound_cluster(
    view: View, app_port: int, owner: tuple[Service, ServicePort] | None, *, is_http: bool
) -> config.Cluster:
    """The app. Of a DestinationRule only the connectionPool acts on the server's side.

    With a health check that fails, the sidecar does not try the app: it answers 503 UH `no_healthy_upstream` at once,
    so that a caller that has not heard of it yet can turn to another endpoint.
    """
    pool = None
    origin = config.Origin()
    if owner is not None:
        service, port = owner
        origin = service.origin
        rule = find_rule(
            view.world.index.destination_rules,
            service.host,
            client=view.namespace,
            labels={},
            service=service.namespace,
            root=view.settings.root_namespace,
        )
        pool = compose(rule.policy, None, port.number).connection_pool if rule is not None else None
    protocol: Literal["http1", "http2", "tcp"] = "http1" if is_http else "tcp"
    if owner is not None and owner[1].is_http2:
        protocol = "http2"
    return config.Cluster(
        name=inbound_name(app_port),
        service=owner[0].host if owner is not None else "",
        namespace=view.namespace,
        port=app_port,
        protocol=protocol,
        breakers=breakers(pool),
        connection=connection(pool, view.settings.connect_timeout),
        health_check=_health_check(view.proxy.node),
        tls=config.UpstreamTls("disable"),
        origin=origin,
    )


def _health_check(node: Node) -> config.HealthCheck | None:
    """The thresholds are Istio's ReadinessProbe defaults; an app that starts or heals is found sooner."""
    way = node.health_check
    if not way:
        return None
    kind, _, grpc_service = ("", "", "") if way.startswith("/") else way.partition(":")
    return config.HealthCheck(
        interval=node.health_check_interval,
        unhealthy_interval=min(_UNHEALTHY_INTERVAL, node.health_check_interval),
        path="" if kind else way,
        grpc=kind == "grpc",
        grpc_service=grpc_service,
    )


def _inbound_routes(app_port: int, declared: ServicePort | None) -> config.RouteConfig:
    grpc = declared is not None and declared.protocol in ("grpc", "grpc-web")
    name = inbound_name(app_port)
    action = config.RouteAction((config.WeightedCluster(name),), retries=None if grpc else INBOUND_RETRIES)
    route = config.Route("default", config.RouteMatch(), action)
    return config.RouteConfig(name, (config.VirtualHost(f"inbound|http|{app_port}", ("*",), (route,)),))


def translate_outbound_listeners(view: View) -> Iterator[config.Listener]:
    """The HTTP proxy for the app, and a loopback port for each service port that may carry more than HTTP/1: clients of
    HTTP/2 and gRPC know no proxy but CONNECT, behind which there is nothing to route, retry or count."""
    unknown: Literal["allow_any", "registry_only"] = "allow_any"
    if view.settings.outbound_policy == "REGISTRY_ONLY":
        unknown = "registry_only"
    paths = view.settings.path_normalization
    chain = config.HttpChain(route_by_port=True, unknown_host=unknown, path_normalization=paths)
    yield config.Listener("http_proxy", "outbound", chains=(config.FilterChain("http", http=chain),))
    for service in view.services.values():
        if service.host.startswith("*"):
            continue
        for port in service.ports:
            if port.is_http2:
                yield _http2_listener(service, port, chain)
            elif "tcp" in _carries(port):
                yield _loopback_listener(view, service, port)


def _http2_listener(service: Service, port: ServicePort, proxy: config.HttpChain) -> config.Listener:
    """Routed as the HTTP proxy routes what is addressed to the service."""
    service_port = f"{service.host}:{port.number}"
    chain = msgspec.structs.replace(proxy, authority=service_port)
    return config.Listener(
        f"http_{service_port}", "outbound", chains=(config.FilterChain("http", http=chain),), service=service_port
    )


def _loopback_listener(view: View, service: Service, port: ServicePort) -> config.Listener:
    """Istio's names and order: requests of an undeclared port have a route table of their own (`loopback_routes`)."""
    cluster = outbound_name(service.host, port.number)
    rule = view.rule(service)
    pool = compose(rule.policy, None, port.number).connection_pool if rule is not None else None
    idle = pool.tcp.idle_timeout if pool is not None and pool.tcp is not None else None
    chain = config.TcpChain(((cluster, 1),), 3600.0 if idle is None else cast(float, idle), stat_prefix=cluster)
    service_port = f"{service.host}:{port.number}"
    chains: tuple[config.FilterChain, ...] = (config.FilterChain("tcp", tcp=chain),)
    if "http" in _carries(port):
        http = config.HttpChain(service_port, path_normalization=view.settings.path_normalization)
        chains = (config.FilterChain("http", http=http, application="http"), *chains)
    listener = config.Listener(f"tcp_{service_port}", "outbound", chains=chains, service=service_port)
    wait = view.settings.protocol_detection_timeout
    return msgspec.structs.replace(listener, detection_timeout=wait) if wait and len(chains) > 1 else listener
