"""Gateways -> listeners and route tables of a gateway proxy. Plaintext HTTP servers; others are reported."""

from __future__ import annotations

from typing import cast

from mesh import config
from pilot.resources.istio_gateway import Gateway
from pilot.resources.meta import covers_labels
from pilot.resources.object import Object
from pilot.store.index import MESH
from pilot.translate.authorization import authz_policies
from pilot.translate.gateway_hosts import BoundServer, gateway_virtual_hosts
from pilot.translate.visibility import View

_HTTP = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})


def translate_gateway(view: View) -> tuple[list[config.Listener], list[config.RouteConfig]]:
    """One listener for each address and port that the selected Gateways' HTTP servers name."""
    _report_unbound(view)
    groups: dict[tuple[str, int], list[BoundServer]] = {}
    for bound in _selected(view):
        groups.setdefault((bound.server.bind, bound.server.port.number), []).append(bound)
    listeners = []
    tables = []
    policies = authz_policies(view)
    for (bind, port), servers in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0])):
        serving = _http_servers(view, servers)
        if not serving:
            continue
        table = f"http.{port}.{bind}" if bind else f"http.{port}"
        address = bind or view.proxy.bind
        chain = config.HttpChain(
            route_config=table,
            server_name="istio-envoy",
            use_remote_address=True,
            path_normalization=view.settings.path_normalization,
        )
        chains = (config.FilterChain("http", http=chain, policies=policies, destination_port=port if policies else 0),)
        proxied = view.settings.gateway_proxy_protocol
        listeners.append(config.Listener(f"{address}_{port}", "gateway", address, port, chains, proxy_protocol=proxied))
        tables.append(config.RouteConfig(table, tuple(gateway_virtual_hosts(view, serving, port))))
    return listeners, tables


def _selected(view: View) -> list[BoundServer]:
    found: list[BoundServer] = []
    for obj in view.world.index.gateways:
        spec = cast(Gateway, obj.spec)
        if view.proxy.match_all_gateways or covers_labels(spec.selector, view.labels):
            found.extend(BoundServer(obj, position, server) for position, server in enumerate(spec.servers))
    return found


def _http_servers(view: View, servers: list[BoundServer]) -> list[BoundServer]:
    """The servers of one port that can share its listener: the first server's kind decides, as in Istio."""
    first_is_http = _is_http(servers[0])
    serving = []
    for bound in servers:
        protocol = bound.server.port.protocol.upper()
        if not _is_http(bound):
            view.report(
                bound.gateway,
                f"{bound.path}.port",
                f"a server of protocol {protocol} is not served yet",
                "only plaintext HTTP servers are served",
            )
        elif not first_is_http:
            owner = servers[0]
            view.report(
                bound.gateway,
                f"{bound.path}.port",
                f"port {bound.server.port.number} belongs to Gateway {owner.name} with protocol "
                f"{owner.server.port.protocol.upper()}; this server is dropped",
                "use one protocol on a port",
            )
        else:
            serving.append(bound)
    return serving


def _is_http(bound: BoundServer) -> bool:
    return bound.server.port.protocol.upper() in _HTTP


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
