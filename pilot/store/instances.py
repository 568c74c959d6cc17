"""Who serves: the workloads behind each port of each service.

Live workloads (agents that registered), EndpointSlices, WorkloadEntries, a ServiceEntry's own endpoints, and,
in a dry run, pod templates. Filtering by subset and the choice of TLS are pilot/translate/endpoints.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

from msgspec import Struct

from mesh.feed.node import Node
from pilot.resources.core import EndpointSlice, PodController, PodSpec, PodStatus, SliceEndpoint
from pilot.resources.core import Service as KubernetesService
from pilot.resources.meta import covers_labels
from pilot.resources.object import Object
from pilot.resources.service_entry import ServiceEntry
from pilot.resources.workload import WorkloadEntry
from pilot.store.services import Service, ServicePort

TLS_MODE_LABEL = "security.istio.io/tlsMode"
INJECT_LABEL = "sidecar.istio.io/inject"
SLICE_SERVICE_LABEL = "kubernetes.io/service-name"
_Item = TypeVar("_Item")

WORKLOAD_KINDS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod")


class Registration(Struct, frozen=True):
    """An agent that is connected, and whether its app is well."""

    node: Node
    healthy: bool = True

    @property
    def labels(self) -> dict[str, str]:
        """The workload's labels; `app` is the service's name unless the agent says otherwise."""
        node = self.node
        if node.service and "app" not in node.labels:
            return {"app": node.service, **node.labels}
        return node.labels


class Instance(Struct, frozen=True):
    """One workload at one service port. `workload_port` is the app's own, where `port` may be its sidecar's.

    `sidecar`: mesh mTLS can be spoken to it. `stand_in`: not known to exist (a dry run's Service without
    workloads), so it belongs to every subset.
    """

    address: str
    port: int
    service_port: int
    workload_port: int
    namespace: str
    name: str = ""
    labels: dict[str, str] = {}
    account: str = ""
    weight: int = 1
    health: Literal["healthy", "unhealthy", "draining"] = "healthy"
    locality: str = ""
    sidecar: bool = False
    stand_in: bool = False


class Template(Struct, frozen=True):
    """A pod, or the pod that a controller makes: what selectors look at."""

    name: str
    namespace: str
    labels: dict[str, str]
    spec: PodSpec
    address: str
    sidecar: bool

    def port_of(self, port: ServicePort) -> int:
        """The container's port for a service port; a named target is looked up among the containers."""
        if isinstance(port.target, int):
            return port.target or port.number
        for container in self.spec.containers:
            for declared in container.ports:
                if declared.name == port.target:
                    return declared.container_port
        return port.number


def templates(objects: Iterable[Object], *, dry_run: bool) -> Iterator[Template]:
    """Pods as workloads, and in a dry run the pods that controllers would make (none when scaled to 0), each with
    a sidecar unless it opts out of injection."""
    for obj in objects:
        spec = obj.spec
        if isinstance(spec, PodController):
            if spec.replicas == 0 or not dry_run:
                continue
            meta, pod, address = spec.template.metadata, spec.template.spec, f"{obj.name}.{obj.namespace}.pod"
        elif isinstance(spec, PodSpec):
            ip = obj.status.pod_ip if isinstance(obj.status, PodStatus) else ""
            if not ip and not dry_run:
                continue
            meta, pod, address = obj.meta, spec, ip or f"{obj.name}.{obj.namespace}.pod"
        else:
            continue
        sidecar = meta.labels.get(TLS_MODE_LABEL) == "istio"
        if dry_run:
            sidecar = (meta.labels.get(INJECT_LABEL) or meta.annotations.get(INJECT_LABEL) or "true") != "false"
        yield Template(obj.name, obj.namespace, meta.labels, pod, address, sidecar)


def of_workload(service: Service, registration: Registration) -> Iterator[Instance]:
    """The service's ports that a live workload serves: those whose target is an app port of it; a service with
    one port takes the workload's first port where none fits."""
    node = registration.node
    by_port = {port.app_port: port for port in node.ports}
    found = False
    for port in service.ports:
        target = port.target_number
        inbound = by_port.get(target) if target is not None else None
        if inbound is not None:
            found = True
            yield _live(registration, port.number, inbound.app_port, inbound.address, inbound.port)
    if not found and len(service.ports) == 1 and node.ports:
        first = node.ports[0]
        yield _live(registration, service.ports[0].number, first.app_port, first.address, first.port)


def _live(registration: Registration, service_port: int, app_port: int, address: str, port: int) -> Instance:
    node = registration.node
    return Instance(
        address=address,
        port=port,
        service_port=service_port,
        workload_port=app_port,
        namespace=node.namespace,
        name=node.workload or node.id,
        labels=registration.labels,
        account=node.service_account,
        health="healthy" if registration.healthy else "unhealthy",
        sidecar=True,
    )


def of_template(service: Service, template: Template) -> Iterator[Instance]:
    """A pod at every port of a service that selects it."""
    for port in service.ports:
        number = template.port_of(port)
        yield Instance(
            address=template.address,
            port=number,
            service_port=port.number,
            workload_port=number,
            namespace=template.namespace,
            name=template.name,
            labels=template.labels,
            account=template.spec.service_account_name or "default",
            sidecar=template.sidecar,
        )


def of_entry(
    service: Service, entry: WorkloadEntry, namespace: str, name: str, labels: dict[str, str]
) -> Iterator[Instance]:
    """A WorkloadEntry at every port: its own port map goes before the service's target, that before the number."""
    for port in service.ports:
        number = entry.ports.get(port.name) or port.target_number or port.number
        yield Instance(
            address=entry.address,
            port=number,
            service_port=port.number,
            workload_port=number,
            namespace=namespace,
            name=name,
            labels=labels,
            account=entry.service_account,
            weight=entry.weight or 1,
            locality=entry.locality,
            sidecar=labels.get(TLS_MODE_LABEL) == "istio",
        )


def of_slice(service: Service, spec: EndpointSlice, pods: dict[str, Template]) -> Iterator[Instance]:
    """The addresses of an EndpointSlice; `pods` by "namespace/name" and by address tell their labels."""
    by_name = {port.name: port.number for port in service.ports}
    for declared in spec.ports:
        number = by_name.get(declared.name)
        if number is None and not declared.name and len(service.ports) == 1:
            number = service.ports[0].number
        if number is None or declared.port is None:
            continue
        for endpoint in spec.endpoints:
            for address in endpoint.addresses:
                yield _sliced(service, number, declared.port, address, endpoint, pods)


def _sliced(
    service: Service, number: int, port: int, address: str, endpoint: SliceEndpoint, pods: dict[str, Template]
) -> Instance:
    reference = endpoint.target_ref
    pod = pods.get(address)
    if reference is not None and reference.kind == "Pod":
        pod = pods.get(f"{reference.namespace or service.namespace}/{reference.name}", pod)
    health: Literal["healthy", "unhealthy", "draining"] = "healthy"
    if endpoint.conditions.ready is False:
        draining = endpoint.conditions.terminating and endpoint.conditions.serving
        health = "draining" if draining else "unhealthy"
    return Instance(
        address=address,
        port=port,
        service_port=number,
        workload_port=port,
        namespace=service.namespace,
        name=pod.name if pod else (reference.name if reference else ""),
        labels=pod.labels if pod else {},
        account=(pod.spec.service_account_name or "default") if pod else "",
        health=health,
        locality=endpoint.zone,
        sidecar=pod is not None and pod.sidecar,
    )


def of_name(service: Service, address: str) -> Iterator[Instance]:
    """A DNS name at every port."""
    for port in service.ports:
        number = port.target_number or port.number
        yield Instance(
            address=address, port=number, service_port=port.number, workload_port=number, namespace=service.namespace
        )


def stand_ins(service: Service) -> Iterator[Instance]:
    """What a dry run takes a Service without known workloads for: one healthy workload."""
    for port in service.ports:
        number = port.target_number or port.number
        yield Instance(
            address=service.host,
            port=number,
            service_port=port.number,
            workload_port=number,
            namespace=service.namespace,
            stand_in=True,
        )


class Workloads:
    """Everything that selectors pick from, by namespace. A Kubernetes Service takes pods themselves in a dry run
    only: otherwise its EndpointSlices tell which of them are there."""

    __slots__ = ("dry_run", "entries", "live", "pods", "slices", "templates")

    def __init__(
        self,
        live: Iterable[Registration],
        entries: Iterable[Object],
        slices: Iterable[Object],
        pods: Iterable[Template],
        *,
        dry_run: bool,
    ) -> None:
        self.dry_run = dry_run
        self.live = _grouped(live, lambda item: item.node.namespace)
        self.entries = _grouped(entries, lambda item: item.namespace)
        self.slices = _grouped(
            slices, lambda item: f"{item.namespace}/{item.meta.labels.get(SLICE_SERVICE_LABEL, item.name)}"
        )
        self.pods: dict[str, Template] = {}
        self.templates: dict[str, list[Template]] = {}
        for pod in pods:
            self.templates.setdefault(pod.namespace, []).append(pod)
            self.pods[f"{pod.namespace}/{pod.name}"] = pod
            self.pods[pod.address] = pod

    def behind_kubernetes(self, service: Service, spec: KubernetesService) -> Iterator[Instance]:
        """Instances of a Kubernetes Service: slices where it has them, else pods; live workloads and entries join."""
        if spec.type == "ExternalName":
            yield from of_name(service, spec.external_name)
            return
        slices = self.slices.get(f"{service.namespace}/{service.name}", ())
        for obj in slices:
            if isinstance(obj.spec, EndpointSlice):
                yield from of_slice(service, obj.spec, self.pods)
        if spec.selector:
            with_pods = self.dry_run and not slices
            yield from self._selected(service, service.namespace, spec.selector, with_pods=with_pods)
        else:
            for registration in self.live.get(service.namespace, ()):
                if registration.node.service == service.name:
                    yield from of_workload(service, registration)

    def behind_entry(self, service: Service, spec: ServiceEntry) -> Iterator[Instance]:
        """Instances of one host of a ServiceEntry."""
        if spec.resolution == "NONE":
            return
        if spec.workload_selector is not None:
            yield from self._selected(service, service.namespace, spec.workload_selector.labels, with_pods=True)
        elif spec.endpoints:
            for position, entry in enumerate(spec.endpoints):
                yield from of_entry(service, entry, service.namespace, f"{service.name}-{position}", entry.labels)
        elif spec.resolution != "STATIC" and not service.host.startswith("*"):
            yield from of_name(service, service.host)

    def _selected(
        self, service: Service, namespace: str, selector: dict[str, str], *, with_pods: bool
    ) -> Iterator[Instance]:
        for registration in self.live.get(namespace, ()):
            if covers_labels(selector, registration.labels):
                yield from of_workload(service, registration)
        for obj in self.entries.get(namespace, ()):
            if isinstance(obj.spec, WorkloadEntry):
                labels = {**obj.spec.labels, **obj.meta.labels}
                if covers_labels(selector, labels):
                    yield from of_entry(service, obj.spec, namespace, obj.name, labels)
        for template in self.templates.get(namespace, ()) if with_pods else ():
            if covers_labels(selector, template.labels):
                yield from of_template(service, template)


def _grouped(items: Iterable[_Item], key: Callable[[_Item], str]) -> dict[str, list[_Item]]:
    groups: dict[str, list[_Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
