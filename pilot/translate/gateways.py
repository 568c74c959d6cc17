"""Gateways -> listeners and route tables of a gateway proxy: one listener for each address and port.

Plaintext HTTP servers of a port share one chain and one route table. Servers under TLS have a chain of their own,
chosen by the name that the client asks for (SNI); where TLS ends here and holds HTTP, a route table of their own too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias, cast

import msgspec

from mesh import config
from pilot.resources.istio_gateway import Gateway
from pilot.resources.meta import covers_labels
from pilot.resources.object import Object
from pilot.resources.validate_istio_gateway import HTTP, TLS
from pilot.store.index import MESH
from pilot.translate.authorization import authz_policies
from pilot.translate.gateway_hosts import BoundServer, gateway_virtual_hosts
from pilot.translate.gateway_tls import terminates, translate_server_tls
from pilot.translate.opaque_routes import sni_routes, tcp_route
from pilot.translate.visibility import View

Family: TypeAlias = Literal["http", "tls", "tcp"]


def translate_gateway(view: View) -> tuple[list[config.Listener], list[config.RouteConfig]]:
    """Listeners of the servers of all Gateways that select this proxy, and the route tables that they name."""
    _report_unbound(view)
    groups: dict[tuple[str, int], list[BoundServer]] = {}
    for bound in _selected(view):
        groups.setdefault((bound.server.bind, bound.server.port.number), []).append(bound)
    listeners = []
    tables: list[config.RouteConfig] = []
    policies = authz_policies(view)
    for (bind, port), servers in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0])):
        serving = _compatible(view, servers)
        family = _family(serving[0])
        if family == "http":
            chains = [_plain_chain(view, serving, bind, port, tables)]
        elif family == "tls":
            chains = [chain for bound in _apart(view, serving) for chain in _tls_chains(view, bound, port, tables)]
        else:
            chains = list(_tcp_chains(view, serving, port))
        if chains:
            address = bind or view.proxy.bind
            guarded = tuple(_guarded(chain, policies, port) for chain in chains)
            proxied = view.settings.gateway_proxy_protocol
            listeners.append(
                config.Listener(f"{address}_{port}", "gateway", address, port, guarded, proxy_protocol=proxied)
            )
    return listeners, tables


def _selected(view: View) -> list[BoundServer]:
    found: list[BoundServer] = []
    for obj in view.world.index.gateways:
        spec = cast(Gateway, obj.spec)
        if view.proxy.match_all_gateways or covers_labels(spec.selector, view.labels):
            found.extend(BoundServer(obj, position, server) for position, server in enumerate(spec.servers))
    return found


def _family(bound: BoundServer) -> Family:
    protocol = bound.server.port.protocol.upper()
    return "http" if protocol in HTTP else "tls" if protocol in TLS else "tcp"


def _compatible(view: View, servers: list[BoundServer]) -> list[BoundServer]:
    """The servers of one port that can share its listener: the first server's family decides, as in Istio."""
    serving = []
    for bound in servers:
        if _family(bound) == _family(servers[0]):
            serving.append(bound)
            continue
        owner = servers[0]
        view.report(
            bound.gateway,
            f"{bound.path}.port",
            f"port {bound.server.port.number} belongs to Gateway {owner.name} with protocol "
            f"{owner.server.port.protocol.upper()}; this server is dropped",
            "use one protocol on a port",
        )
    return serving


def _apart(view: View, servers: list[BoundServer]) -> list[BoundServer]:
    """Servers under TLS whose hosts nobody before them has: names tell them apart, and nothing else could."""
    owners: dict[str, BoundServer] = {}
    serving = []
    for bound in servers:
        names = _sni(bound)
        clash = next((name for name in names if name in owners), None)
        if clash is None:
            owners.update(dict.fromkeys(names, bound))
            serving.append(bound)
            continue
        view.report(
            bound.gateway,
            f"{bound.path}.hosts",
            f"host {clash} of port {bound.server.port.number} belongs to Gateway {owners[clash].name}; "
            "this server is dropped",
            "give each server its own hosts, or its own port",
        )
    return serving


def _sni(bound: BoundServer) -> list[str]:
    return list(dict.fromkeys(host.rpartition("/")[2].lower() for host in bound.server.hosts))


def _plain_chain(
    view: View, servers: list[BoundServer], bind: str, port: int, tables: list[config.RouteConfig]
) -> config.FilterChain:
    table = f"http.{port}.{bind}" if bind else f"http.{port}"
    tables.append(config.RouteConfig(table, tuple(gateway_virtual_hosts(view, servers, port))))
    return config.FilterChain("http", http=_http(view, table))


def _tls_chains(
    view: View, bound: BoundServer, port: int, tables: list[config.RouteConfig]
) -> Iterator[config.FilterChain]:
    server, tls = bound.server, bound.server.tls
    if tls is None:
        return  # refused by validation
    name = f"{server.port.name}.{bound.gateway.name}.{bound.gateway.namespace}"
    if tls.mode == "AUTO_PASSTHROUGH":
        view.report(
            bound.gateway,
            f"{bound.path}.tls.mode",
            "AUTO_PASSTHROUGH is not served: the server takes no connection",
            "write PASSTHROUGH, and a VirtualService with tls routes",
        )
    elif not terminates(tls):
        routes = list(sni_routes(view, bound, port))
        for number, (names, relay) in enumerate(routes):
            yield config.FilterChain(f"{name}.{number}", "tls", _chain_names(names), tcp=relay)
        if not routes:
            _report_no_route(view, bound, "tls")
    elif server.port.protocol.upper() == "HTTPS":
        table = f"https.{port}.{name}"
        tables.append(config.RouteConfig(table, tuple(gateway_virtual_hosts(view, [bound], port))))
        settings = translate_server_tls(view, bound, http=True)
        names = _chain_names(tuple(_sni(bound)))
        yield config.FilterChain(name, "tls", names, settings, http=_http(view, table))
    else:
        relay_to = tcp_route(view, bound, port)
        settings = translate_server_tls(view, bound, http=False)
        names = _chain_names(tuple(_sni(bound)))
        if relay_to is None:
            _report_no_route(view, bound, "tcp")
        else:
            yield config.FilterChain(name, "tls", names, settings, tcp=relay_to)


def _chain_names(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """A chain for any name says no name."""
    return () if "*" in hosts else hosts


def _tcp_chains(view: View, servers: list[BoundServer], port: int) -> Iterator[config.FilterChain]:
    """Nothing tells plain connections apart, so the first server with a route has them all."""
    for bound in servers:
        relay = tcp_route(view, bound, port)
        if relay is not None:
            yield config.FilterChain("tcp", tcp=relay)
            return
    _report_no_route(view, servers[0], "tcp")


def _report_no_route(view: View, bound: BoundServer, kind: str) -> None:
    view.report(
        bound.gateway,
        bound.path,
        "no VirtualService says where connections go, so none is served",
        f"bind a VirtualService with {kind} routes to {bound.name}",
    )


def _http(view: View, table: str) -> config.HttpChain:
    return config.HttpChain(
        route_config=table,
        server_name="istio-envoy",
        use_remote_address=True,
        path_normalization=view.settings.path_normalization,
    )


def _guarded(chain: config.FilterChain, policies: tuple[config.AuthzPolicy, ...], port: int) -> config.FilterChain:
    return msgspec.structs.replace(chain, policies=policies, destination_port=port) if policies else chain


def _report_unbound(view: View) -> None:
    known: set[str] = {f"{obj.namespace}/{obj.name}" for obj in view.world.index.gateways}
    known.update(f"{obj.namespace}/{obj.name}" for obj in view.world.of_kind("K8sGateway"))
    for name, objects in view.world.index.virtual_services.items():
        if name == MESH or name in known:
            continue
        for obj in objects:
            _report_missing_gateway(view, obj, name)


def _report_missing_gateway(view: View, obj: Object, name: str) -> None:
    view.report(
        obj,
        "spec.gateways",
        f"no Gateway {name} exists, so these routes are not served by any",
        "create it, or write an existing one as namespace/name",
    )
