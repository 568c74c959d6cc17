"""Virtual hosts of a sidecar's outbound route tables, one table for each HTTP port of the mesh.

Istio's rules: the first VirtualService that claims a domain keeps it (no merging), a service that none claims
gets a default route, and a VirtualService whose hosts are no service acts on port 80 only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import msgspec

from mesh import config
from pilot.resources.meta import covers, is_wildcard, specificity
from pilot.resources.object import Object
from pilot.resources.virtual_service import VirtualService
from pilot.store.index import MESH
from pilot.store.services import Service
from pilot.translate.destinations import expanded_hosts
from pilot.translate.services import domains, outbound_name
from pilot.translate.virtual_services import translate_rules
from pilot.translate.visibility import View

HTTP_PORT = 80


def translate_outbound_routes(view: View) -> list[config.RouteConfig]:
    """Route tables named like their ports."""
    ports = {port.number for service in view.services.values() for port in service.ports if port.is_http}
    bindings = _bindings(view)
    tables = []
    for port in sorted(ports | {HTTP_PORT}):
        table = _Table(view, port)
        for obj in view.virtual_services(MESH):
            table.add_virtual_service(obj, bindings)
        table.add_default_routes()
        if table.hosts or port in ports:
            tables.append(config.RouteConfig(str(port), tuple(table.hosts)))
            tables.extend(table.loopback_routes())
    return tables


def _bindings(view: View) -> dict[str, Object]:
    """The VirtualService that each service is bound to: the one that names it, else the most specific wildcard.

    Of several the first in order of search.
    """
    exact: dict[str, Object] = {}
    wildcards: dict[str, Object] = {}
    for obj in view.virtual_services(MESH):
        for host in expanded_hosts(obj, view.settings.domain):
            (wildcards if is_wildcard(host) else exact).setdefault(host, obj)
    ordered = sorted(wildcards, key=specificity)
    bound = {}
    for host in view.services:
        if host in exact:
            bound[host] = exact[host]
            continue
        pattern = next((item for item in ordered if covers(item, host)), None)
        if pattern is not None:
            bound[host] = wildcards[pattern]
    return bound


class _Table:
    """The route table of one port while it is being filled; every domain belongs to the first that takes it."""

    def __init__(self, view: View, port: int) -> None:
        self.view = view
        self.port = port
        self.hosts: list[config.VirtualHost] = []
        self._services: dict[str, Service] = {}
        for service in view.services.values():
            declared = service.port(port)
            if declared is not None and declared.is_http:
                self._services[service.host] = service
        self._routed: set[str] = set()
        self._taken: dict[str, str] = {}

    def add_virtual_service(self, obj: Object, bindings: dict[str, Object]) -> None:
        """Virtual hosts of the services and other names that the VirtualService is for."""
        services, others = self._split_hosts(obj, bindings)
        if not services and self.port != HTTP_PORT:
            return
        if not cast(VirtualService, obj.spec).http or (not services and not others):
            return
        routes = tuple(translate_rules(self.view, obj, self.port, MESH))
        if not routes:
            return
        for service in services:
            self._routed.add(service.host)
            self._add(service.host, *domains(service, self.view.namespace), routes, obj)
        for host in others:
            self._add(host, [host], [], routes, obj)

    def _split_hosts(self, obj: Object, bindings: dict[str, Object]) -> tuple[list[Service], list[str]]:
        services: list[Service] = []
        others: list[str] = []
        for host in dict.fromkeys(expanded_hosts(obj, self.view.settings.domain)):
            if not is_wildcard(host):
                service = self._services.get(host)
                if service is not None:
                    services.append(service)
                else:
                    others.append(host)
                continue
            found = [
                service
                for name, service in self._services.items()
                if bindings.get(name) is obj and covers(host, name) and service not in services
            ]
            services.extend(found)
            if not found:
                others.append(host)
        return services, others

    def add_default_routes(self) -> None:
        """Services that no VirtualService took: everything goes to the service itself."""
        for service in self._services.values():
            if service.host in self._routed:
                continue
            action = config.RouteAction(
                (config.WeightedCluster(outbound_name(service.host, self.port)),),
                retries=self.view.settings.default_retries,
            )
            route = config.Route("default", config.RouteMatch(), action, origin=service.origin)
            self._add(service.host, *domains(service, self.view.namespace), (route,), None)

    def loopback_routes(self) -> Iterator[config.RouteConfig]:
        """For the loopback listener of a service whose port declares no protocol: whatever host a request names,
        it came for that service."""
        by_name = {host.name: host for host in self.hosts}
        for service in self._services.values():
            name = f"{service.host}:{self.port}"
            port = service.port(self.port)
            if name in by_name and not name.startswith("*") and port is not None and port.protocol == "auto":
                yield config.RouteConfig(name, (msgspec.structs.replace(by_name[name], domains=("*",)),))

    def _add(
        self, host: str, certain: list[str], short: list[str], routes: tuple[config.Route, ...], obj: Object | None
    ) -> None:
        names = []
        for name in certain:
            owner = self._taken.setdefault(name, host if obj is None else f"{obj.namespace}/{obj.name}")
            if name in names:
                continue
            if owner == (host if obj is None else f"{obj.namespace}/{obj.name}"):
                names.append(name)
            elif obj is not None and name == host:
                self._report_lost(obj, host, owner)
        for name in short:
            if name not in self._taken and name not in self._services:
                self._taken[name] = host
                names.append(name)
        if names:
            self.hosts.append(config.VirtualHost(f"{host}:{self.port}", tuple(names), routes))

    def _report_lost(self, obj: Object, host: str, owner: str) -> None:
        self.view.report(
            obj,
            "spec.hosts",
            f"{host} is routed by VirtualService {owner}, which comes first; this one's rules for it have no effect",
            "put all rules for a host into one VirtualService",
        )
