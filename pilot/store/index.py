"""Look-ups that translation needs, derived from one World, each built at its first use and kept.

Holds nothing that is not in the World: services by host, who serves them, rules by host and namespace,
VirtualServices by gateway.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from pilot.resources.core import Service as KubernetesService
from pilot.resources.destination_rule import DestinationRule
from pilot.resources.istio_gateway import Gateway
from pilot.resources.meta import covers_labels
from pilot.resources.object import Object
from pilot.resources.service_entry import ServiceEntry
from pilot.resources.virtual_service import VirtualService
from pilot.store.destination_rules import NamespaceRules, merge_rules
from pilot.store.instances import WORKLOAD_KINDS, Instance, Registration, Workloads, of_workload, stand_ins, templates
from pilot.store.services import Service, from_entry, from_kubernetes, implied, merge

if TYPE_CHECKING:
    from pilot.store.world import World

MESH = "mesh"
"""The reserved gateway name that stands for all sidecars."""


def by_creation(obj: Object) -> tuple[str, str, str]:
    """Sort key of Istio's precedence: creation time, then name, then namespace."""
    return (obj.meta.creation_timestamp, obj.name, obj.namespace)


def gateway_name(written: str, namespace: str) -> str:
    """`ns/name` of a gateway as a VirtualService of `namespace` refers to it; `mesh` stays."""
    if written == MESH or not written:
        return MESH
    if "/" in written:
        owner, _, name = written.partition("/")
        return f"{namespace if owner == '.' else owner}/{name}"
    if "." in written:
        parts = written.split(".")
        return f"{parts[1]}/{parts[0]}"
    return f"{namespace}/{written}"


class Index:
    """Derived look-ups of one World."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _sorted(self, kind: str) -> list[Object]:
        return sorted(self._world.of_kind(kind), key=by_creation)

    @cached_property
    def workloads(self) -> Workloads:
        """What selectors pick from."""
        world = self._world
        return Workloads(
            live=[world.workloads[node_id] for node_id in sorted(world.workloads)],
            entries=self._sorted("WorkloadEntry"),
            slices=self._sorted("EndpointSlice"),
            pods=templates((obj for kind in WORKLOAD_KINDS for obj in self._sorted(kind)), dry_run=world.dry_run),
            dry_run=world.dry_run,
        )

    @cached_property
    def services(self) -> dict[str, tuple[Service, ...]]:
        """Services by host, one for each namespace that defines it: Kubernetes' first, then by age.

        ExternalName Services that point at another service of the mesh are not here: they are its aliases.
        """
        found: dict[str, dict[str, list[Service]]] = {}
        aliases: dict[str, list[str]] = {}
        for service in self._defined():
            found.setdefault(service.host, {}).setdefault(service.namespace, []).append(service)
        for alias, target in self._external_names(found):
            aliases.setdefault(target, []).append(alias)
            found.pop(alias, None)
        return {
            host: tuple(self._with_aliases(merge(tuple(group)), aliases) for group in groups.values())
            for host, groups in found.items()
        }

    def _defined(self) -> Iterator[Service]:
        settings = self._world.settings
        for obj in self._sorted("Service"):
            if isinstance(obj.spec, KubernetesService):
                yield from_kubernetes(obj, obj.spec, settings)
        for obj in self._sorted("ServiceEntry"):
            if isinstance(obj.spec, ServiceEntry):
                yield from from_entry(obj, obj.spec)
        for (namespace, name), registrations in self.unselected.items():
            yield implied(name, namespace, [item.node for item in registrations], settings)

    def _external_names(self, found: dict[str, dict[str, list[Service]]]) -> Iterator[tuple[str, str]]:
        names = {}
        for obj in self._sorted("Service"):
            if isinstance(obj.spec, KubernetesService) and obj.spec.type == "ExternalName":
                host = f"{obj.name}.{obj.namespace}.svc.{self._world.settings.domain}"
                names[host] = obj.spec.external_name.rstrip(".").lower()
        for alias in names:
            target, seen = alias, {alias}
            while target in names and names[target] not in seen:
                target = names[target]
                seen.add(target)
            if target != alias and target in found and target not in names:
                yield alias, target

    @staticmethod
    def _with_aliases(service: Service, aliases: dict[str, list[str]]) -> Service:
        names = aliases.get(service.host)
        if not names:
            return service
        values = {name: getattr(service, name) for name in Service.__struct_fields__}
        return Service(**{**values, "aliases": tuple(names)})

    @cached_property
    def unselected(self) -> dict[tuple[str, str], list[Registration]]:
        """Live workloads that no Service takes, by the (namespace, service name) that they gave themselves."""
        selectors: dict[str, list[dict[str, str]]] = {}
        names = set()
        for obj in self._world.of_kind("Service"):
            if isinstance(obj.spec, KubernetesService):
                names.add((obj.namespace, obj.name))
                if obj.spec.selector:
                    selectors.setdefault(obj.namespace, []).append(obj.spec.selector)
        for obj in self._world.of_kind("ServiceEntry"):
            if isinstance(obj.spec, ServiceEntry) and obj.spec.workload_selector is not None:
                selectors.setdefault(obj.namespace, []).append(obj.spec.workload_selector.labels)
        alone: dict[tuple[str, str], list[Registration]] = {}
        for node_id in sorted(self._world.workloads):
            registration = self._world.workloads[node_id]
            node = registration.node
            if not node.service or not node.ports or (node.namespace, node.service) in names:
                continue
            labels = registration.labels
            if not any(covers_labels(selector, labels) for selector in selectors.get(node.namespace, ())):
                alone.setdefault((node.namespace, node.service), []).append(registration)
        return alone

    @cached_property
    def instances(self) -> dict[tuple[str, str], dict[int, tuple[Instance, ...]]]:
        """Who serves, by (namespace, host) of the service and service port."""
        result = {}
        for services in self.services.values():
            for service in services:
                by_port: dict[int, list[Instance]] = {}
                for instance in self._behind(service):
                    by_port.setdefault(instance.service_port, []).append(instance)
                result[(service.namespace, service.host)] = {
                    number: tuple(sorted(items, key=lambda item: (item.address, item.port)))
                    for number, items in by_port.items()
                }
        return result

    def _behind(self, service: Service) -> Iterator[Instance]:
        kind, namespace, name = service.key
        if kind == "Implied":
            for registration in self.unselected[(namespace, name)]:
                yield from of_workload(service, registration)
            return
        obj = self._world.get(service.key)
        spec = obj.spec if obj is not None else None
        found: list[Instance] = []
        if isinstance(spec, KubernetesService):
            found = list(self.workloads.behind_kubernetes(service, spec))
        elif isinstance(spec, ServiceEntry):
            found = list(self.workloads.behind_entry(service, spec))
        if not found and self._world.dry_run and kind == "Service":
            found = list(stand_ins(service))
        yield from found

    @cached_property
    def accounts(self) -> dict[tuple[str, str], tuple[tuple[str, str], ...]]:
        """(namespace, service account) pairs of the workloads behind each service, by (namespace, host).

        An account "" stands for a workload with a sidecar whose account is not known.
        """
        return {
            key: tuple(
                sorted(
                    {
                        (instance.namespace, instance.account)
                        for instances in by_port.values()
                        for instance in instances
                        if instance.account or instance.sidecar
                    }
                )
            )
            for key, by_port in self.instances.items()
        }

    @cached_property
    def destination_rules(self) -> dict[str, NamespaceRules]:
        """DestinationRules by namespace, merged per host."""
        return merge_rules(self._sorted("DestinationRule"), self._world.settings)

    @cached_property
    def virtual_services(self) -> dict[str, tuple[Object, ...]]:
        """VirtualServices in order of creation, by the gateway they bind to: `mesh` or `ns/name`.

        Delegates (without hosts) are not here.
        """
        bound: dict[str, list[Object]] = {}
        for obj in self._sorted("VirtualService"):
            spec = obj.spec
            if isinstance(spec, VirtualService) and spec.hosts:
                names = {gateway_name(written, obj.namespace) for written in spec.gateways or (MESH,)}
                for name in names:
                    bound.setdefault(name, []).append(obj)
        return {name: tuple(objects) for name, objects in bound.items()}

    @cached_property
    def gateways(self) -> tuple[Object, ...]:
        """Istio Gateways in order of creation."""
        return tuple(obj for obj in self._sorted("Gateway") if isinstance(obj.spec, Gateway))

    @cached_property
    def peer_authentications(self) -> dict[str, tuple[Object, ...]]:
        """PeerAuthentications in order of creation, by namespace."""
        by_namespace: dict[str, list[Object]] = {}
        for obj in self._sorted("PeerAuthentication"):
            by_namespace.setdefault(obj.namespace, []).append(obj)
        return {namespace: tuple(objects) for namespace, objects in by_namespace.items()}

    @cached_property
    def authorization_policies(self) -> dict[str, tuple[Object, ...]]:
        """AuthorizationPolicies in order of creation, by namespace."""
        by_namespace: dict[str, list[Object]] = {}
        for obj in self._sorted("AuthorizationPolicy"):
            by_namespace.setdefault(obj.namespace, []).append(obj)
        return {namespace: tuple(objects) for namespace, objects in by_namespace.items()}

    @cached_property
    def client_labels(self) -> frozenset[str]:
        """Label keys by which some rule tells clients apart; all other labels of a client do not matter."""
        keys: set[str] = set()
        for obj in self._world.of_kind("VirtualService"):
            if isinstance(obj.spec, VirtualService):
                for rule in obj.spec.http:
                    for match in rule.match:
                        keys.update(match.source_labels)
        for obj in self._world.of_kind("DestinationRule"):
            if isinstance(obj.spec, DestinationRule) and obj.spec.workload_selector is not None:
                keys.update(obj.spec.workload_selector.match_labels)
        return frozenset(keys)
