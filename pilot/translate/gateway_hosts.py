"""Virtual hosts of a gateway's route table: VirtualServices bound to its servers, merged host by host."""

from __future__ import annotations

from msgspec import Struct

from mesh import config
from pilot.resources.istio_gateway import Server
from pilot.resources.meta import covers
from pilot.resources.object import Object
from pilot.translate.destinations import expanded_hosts
from pilot.translate.virtual_services import is_catch_all, translate_rules
from pilot.translate.visibility import View


class BoundServer(Struct, frozen=True):
    """A server of a Gateway that this proxy serves."""

    gateway: Object
    position: int
    server: Server

    @property
    def name(self) -> str:
        """`ns/name` of its Gateway."""
        return f"{self.gateway.namespace}/{self.gateway.name}"

    @property
    def path(self) -> str:
        """Where it is written."""
        return f"spec.servers[{self.position}]"


def server_hosts(bound: BoundServer, namespace: str) -> list[str]:
    """Host patterns of the server that are open to VirtualServices of the namespace."""
    found = []
    for written in bound.server.hosts:
        owner, slash, host = written.partition("/")
        if not slash:
            found.append(written.lower())
        elif owner == "*" or namespace == (bound.gateway.namespace if owner == "." else owner):
            found.append(host.lower())
    return found


def intersect(offered: list[str], wanted: list[str]) -> list[str]:
    """The more specific of each pair of patterns that overlap."""
    found = []
    for host in wanted:
        for pattern in offered:
            if covers(pattern, host):
                found.append(host)
            elif covers(host, pattern):
                found.append(pattern)
    return list(dict.fromkeys(found))


def gateway_virtual_hosts(view: View, servers: list[BoundServer], port: int) -> list[config.VirtualHost]:
    """Virtual hosts of all plaintext HTTP servers of one port.

    Routes of several VirtualServices for a host follow each other in order of creation, catch-all routes
    last. Where a server redirects to https, so do all its hosts, with or without a VirtualService.
    """
    routes: dict[str, list[config.Route]] = {}
    redirected: dict[str, config.Route] = {}
    bound_twice: set[tuple[str, str, str]] = set()
    for bound in servers:
        redirect = _https_redirect(bound)
        for obj in view.virtual_services(bound.name):
            hosts = intersect(server_hosts(bound, obj.namespace), expanded_hosts(obj, view.settings.domain))
            fresh = [host for host in hosts if (bound.name, f"{obj.namespace}/{obj.name}", host) not in bound_twice]
            if not fresh:
                continue
            bound_twice.update((bound.name, f"{obj.namespace}/{obj.name}", host) for host in fresh)
            translated = translate_rules(view, obj, port, bound.name)
            for host in fresh if translated else ():
                routes.setdefault(host, []).extend(translated)
                if redirect is not None:
                    redirected.setdefault(host, redirect)
        if redirect is not None:
            for written in bound.server.hosts:
                host = written.rpartition("/")[2].lower()
                routes.setdefault(host, [])
                redirected.setdefault(host, redirect)
    return [
        config.VirtualHost(
            f"{host}:{port}",
            (host,),
            (redirected[host],) if host in redirected else tuple(sorted(routes[host], key=is_catch_all)),
        )
        for host in routes
    ]


def _https_redirect(bound: BoundServer) -> config.Route | None:
    tls = bound.server.tls
    if tls is None or not tls.https_redirect:
        return None
    # Envoy's require_tls drops the port that a client wrote: https has its own.
    action = config.Redirect(301, scheme="https", port_from="protocol")
    origin = bound.gateway.origin(f"{bound.path}.tls.httpsRedirect")
    return config.Route("https-redirect", config.RouteMatch(), action, origin=origin)
