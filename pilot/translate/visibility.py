"""What one proxy may see of the World: services, VirtualServices and DestinationRules exported to its namespace.

Also where translation leaves its reports: things that are served as written but hardly as meant.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

from msgspec import Struct

from mesh import config
from pilot.resources.object import Object
from pilot.resources.virtual_service import VirtualService
from pilot.store.destination_rules import MergedRule, exported, find_rule
from pilot.store.services import Service
from pilot.store.world import World
from pilot.translate.proxy import Proxy

_Value = TypeVar("_Value")


class Report(Struct, frozen=True):
    """A finding about one field of one object, for its author."""

    kind: str
    namespace: str
    name: str
    field: str
    file: str
    line: int
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line} " if self.file else ""
        text = f"{where}{self.kind}/{self.namespace}/{self.name} {self.field}: {self.message}"
        return f"{text}; {self.remedy}" if self.remedy else text


def is_exported(owner: str, export_to: tuple[str, ...], default: tuple[str, ...], client: str) -> bool:
    """Whether an object of namespace `owner` may be used by proxies of namespace `client`."""
    names = exported(owner, export_to, default)
    return "*" in names or client in names


def visible_services(world: World, namespace: str) -> dict[str, Service]:
    """Services that proxies of the namespace see, by host in alphabetical order.

    Of several definitions of a host the own namespace's wins, then Kubernetes', then the first namespace's.
    """
    default = world.settings.service_export
    seen = {}
    for host in sorted(world.index.services):
        candidates = [
            service
            for service in world.index.services[host]
            if is_exported(service.namespace, service.export_to, default, namespace)
        ]
        if candidates:
            seen[host] = min(
                candidates,
                key=lambda item: (item.namespace != namespace, item.key[0] == "ServiceEntry", item.namespace),
            )
    return seen


def visible_virtual_services(world: World, namespace: str, gateway: str) -> list[Object]:
    """VirtualServices bound to the gateway, in Istio's order of search: private to the namespace, exported to it by
    name, public; each in order of creation."""
    default = world.settings.virtual_service_export
    ranked: tuple[list[Object], list[Object], list[Object]] = ([], [], [])
    for obj in world.index.virtual_services.get(gateway, ()):
        spec = cast(VirtualService, obj.spec)
        names = exported(obj.namespace, spec.export_to, default)
        if "*" in names:
            ranked[2].append(obj)
        elif namespace in names:
            ranked[0 if names == (namespace,) and obj.namespace == namespace else 1].append(obj)
    return [obj for group in ranked for obj in group]


class View:
    """One proxy's sight of one World. `shared` outlives it: results that do not depend on the proxy are kept there."""

    def __init__(self, world: World, proxy: Proxy, shared: dict[Hashable, Any] | None = None) -> None:
        self.world = world
        self.proxy = proxy
        self.settings = world.settings
        self.namespace = proxy.namespace
        self.labels = proxy.labels
        self.shared: dict[Hashable, Any] = {} if shared is None else shared
        self.reports: dict[Report, None] = {}
        self.secrets: dict[str, config.Secret] = {}
        """What listeners and clusters were found to need, by name."""
        self._rules: dict[str, MergedRule | None] = {}
        self.services = self.once(("services", self.namespace), lambda: visible_services(world, self.namespace))

    @property
    def aliases(self) -> dict[str, str]:
        """Hosts of ExternalName Services, and the service of the mesh that each stands for."""
        return self.once(
            ("aliases", self.namespace),
            lambda: {alias: service.host for service in self.services.values() for alias in service.aliases},
        )

    def once(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        """`make()`'s result, made once for all proxies that share."""
        if key not in self.shared:
            self.shared[key] = make()
        return cast(_Value, self.shared[key])

    def rule(self, service: Service) -> MergedRule | None:
        """The DestinationRule that this proxy uses for the service."""
        if service.host not in self._rules:
            self._rules[service.host] = find_rule(
                self.world.index.destination_rules,
                service.host,
                client=self.namespace,
                labels=self.labels,
                service=service.namespace,
                root=self.settings.root_namespace,
            )
        return self._rules[service.host]

    def virtual_services(self, gateway: str) -> list[Object]:
        """VirtualServices bound to `mesh` or to the gateway `ns/name`."""
        return self.once(
            ("virtual services", self.namespace, gateway),
            lambda: visible_virtual_services(self.world, self.namespace, gateway),
        )

    def report(self, obj: Object, path: str, message: str, remedy: str) -> None:
        """Say something about a field, once."""
        origin = obj.origin(path)
        found = Report(obj.kind, obj.namespace, obj.name, path, origin.file, origin.line, message, remedy)
        self.reports.setdefault(found)
