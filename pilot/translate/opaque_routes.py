"""VirtualService tls and tcp rules -> filter chains of a gateway that relay connections as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from mesh import config
from pilot.resources.meta import covers, covers_labels
from pilot.resources.object import Object
from pilot.resources.virtual_service import L4MatchAttributes, RouteDestination, TlsMatchAttributes, VirtualService
from pilot.store.index import gateway_name
from pilot.translate.clusters import compose
from pilot.translate.destinations import cluster_of, expanded_hosts
from pilot.translate.gateway_hosts import BoundServer, intersect, server_hosts
from pilot.translate.services import parse_outbound
from pilot.translate.visibility import View


def sni_routes(view: View, bound: BoundServer, port: int) -> Iterator[tuple[tuple[str, ...], config.TcpChain]]:
    """(server names, chain) for each tls match of the server's VirtualServices; the first to name a host has it."""
    taken: set[str] = set()
    for obj in view.virtual_services(bound.name):
        offered = intersect(server_hosts(bound, obj.namespace), expanded_hosts(obj, view.settings.domain))
        for position, rule in enumerate(cast(VirtualService, obj.spec).tls):
            path = f"spec.tls[{position}]"
            for match in rule.match:
                if not _applies(view, obj, match, port, bound.name):
                    continue
                names = [host.lower() for host in match.sni_hosts if any(covers(each, host) for each in offered)]
                fresh = tuple(name for name in dict.fromkeys(names) if name not in taken)
                if fresh:
                    taken.update(fresh)
                    yield fresh, _chain(view, obj, rule.route, path, port)


def tcp_route(view: View, bound: BoundServer, port: int) -> config.TcpChain | None:
    """The chain of the first tcp rule that applies to the port; None: nobody says where connections go."""
    for obj in view.virtual_services(bound.name):
        if not intersect(server_hosts(bound, obj.namespace), expanded_hosts(obj, view.settings.domain)):
            continue
        for position, rule in enumerate(cast(VirtualService, obj.spec).tcp):
            matches = rule.match or (L4MatchAttributes(),)
            if any(_applies(view, obj, match, port, bound.name) for match in matches):
                return _chain(view, obj, rule.route, f"spec.tcp[{position}]", port)
    return None


def _applies(view: View, obj: Object, match: TlsMatchAttributes | L4MatchAttributes, port: int, gateway: str) -> bool:
    if match.port and match.port != port:
        return False
    if match.gateways and gateway not in {gateway_name(written, obj.namespace) for written in match.gateways}:
        return False
    if match.source_namespace and match.source_namespace != view.namespace:
        return False
    return covers_labels(match.source_labels, view.labels) and not match.destination_subnets


def _chain(view: View, obj: Object, route: tuple[RouteDestination, ...], path: str, port: int) -> config.TcpChain:
    clusters = []
    for number, target in enumerate(route):
        name = cluster_of(view, obj, target.destination, f"{path}.route[{number}].destination", port)
        weight = target.weight if len(route) > 1 else 1
        if weight:
            clusters.append((name, weight))
    return config.TcpChain(
        tuple(clusters), _idle_timeout(view, clusters), stat_prefix=clusters[0][0] if clusters else ""
    )


def _idle_timeout(view: View, clusters: list[tuple[str, int]]) -> float:
    """That of the first destination's DestinationRule; an hour without one."""
    parsed = parse_outbound(clusters[0][0]) if clusters else None
    service = view.services.get(parsed[0]) if parsed is not None else None
    rule = view.rule(service) if service is not None else None
    pool = compose(rule.policy, None, parsed[1]).connection_pool if rule is not None and parsed is not None else None
    idle = pool.tcp.idle_timeout if pool is not None and pool.tcp is not None else None
    return 3600.0 if idle is None else float(idle)
