"""The service registry: Kubernetes Services, ServiceEntries and workloads' own names as one kind of thing.

Which workloads stand behind a service is in instances.py; what a proxy may see of it in
pilot/translate/visibility.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from msgspec import Struct

from mesh import config
from mesh.feed.node import Node
from pilot.resources.core import Service as KubernetesService
from pilot.resources.object import Object
from pilot.resources.service_entry import ServiceEntry
from pilot.store.mesh_config import MeshSettings

Protocol: TypeAlias = Literal[
    "http", "http2", "grpc", "grpc-web", "https", "tls", "tcp", "mongo", "redis", "mysql", "udp", "auto"
]

_PROTOCOLS: dict[str, Protocol] = {
    "http": "http",
    "http2": "http2",
    "grpc": "grpc",
    "grpc-web": "grpc-web",
    "https": "https",
    "tls": "tls",
    "tcp": "tcp",
    "mongo": "mongo",
    "redis": "redis",
    "mysql": "mysql",
    "udp": "udp",
    "kubernetes.io/h2c": "http2",
    "kubernetes.io/ws": "http",
    "kubernetes.io/wss": "https",
}
# Protocols where the server speaks first: waiting for the client's bytes would hang (Istio does the same).
_SERVER_FIRST_PORTS = frozenset({25, 53, 3306, 27017})


def protocol_of(name: str, number: int, *, app_protocol: str = "", transport: str = "TCP") -> Protocol:
    """Protocol that a port's declaration means; `auto` where it declares none (Istio's protocol selection)."""
    if transport.upper() == "UDP":
        return "udp"
    declared = _PROTOCOLS.get(app_protocol.lower())
    if declared is None:
        lowered = name.lower()
        if lowered == "grpc-web" or lowered.startswith("grpc-web-"):
            declared = "grpc-web"
        else:
            declared = _PROTOCOLS.get(lowered.partition("-")[0])
    if declared is not None:
        return declared
    return "tcp" if number in _SERVER_FIRST_PORTS else "auto"


class ServicePort(Struct, frozen=True):
    """A port that clients name. `target` is the workload's own: a number, a container port's name, 0 for the same."""

    number: int
    name: str = ""
    protocol: Protocol = "auto"
    target: int | str = 0

    @property
    def is_http(self) -> bool:
        """Whether requests are routed; an undeclared port counts as HTTP."""
        return self.protocol in ("http", "http2", "grpc", "grpc-web", "auto")

    @property
    def is_http2(self) -> bool:
        """Whether the port is declared to speak HTTP/2, gRPC included."""
        return self.protocol in ("http2", "grpc", "grpc-web")

    @property
    def target_number(self) -> int | None:
        """The workload's port as far as the declaration tells; None for a named one."""
        if isinstance(self.target, str):
            return None
        return self.target or self.number


class Service(Struct, frozen=True):
    """A name that clients call. `namespace` is where it is defined, `key` the object that defines it.

    `resolution`: `static` endpoints by address, `dns` endpoints by name, `none` the address that the client
    asked for. `short_names`: reachable as `name`, `name.namespace`… too.
    """

    host: str
    name: str
    namespace: str
    ports: tuple[ServicePort, ...]
    resolution: Literal["static", "dns", "none"] = "static"
    addresses: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    headless: bool = False
    external: bool = False
    short_names: bool = False
    origin: config.Origin = config.Origin()
    key: tuple[str, str, str] = ("", "", "")

    def port(self, number: int) -> ServicePort | None:
        """The port of that number, if the service has it."""
        for port in self.ports:
            if port.number == number:
                return port
        return None


def from_kubernetes(obj: Object, spec: KubernetesService, settings: MeshSettings) -> Service:
    """A Kubernetes Service; one of type ExternalName with ports is resolved by DNS."""
    annotation = obj.meta.annotations.get("networking.istio.io/exportTo", "")
    headless = spec.cluster_ip.lower() == "none"
    return Service(
        host=f"{obj.name}.{obj.namespace}.svc.{settings.domain}",
        name=obj.name,
        namespace=obj.namespace,
        ports=tuple(
            ServicePort(
                number=port.port,
                name=port.name,
                protocol=protocol_of(port.name, port.port, app_protocol=port.app_protocol, transport=port.protocol),
                target=port.target_port or 0,
            )
            for port in spec.ports
            if port.protocol != "UDP"
        ),
        resolution="dns" if spec.type == "ExternalName" else "static",
        addresses=(spec.cluster_ip,) if spec.cluster_ip and not headless else (),
        export_to=tuple(part.strip() for part in annotation.split(",") if part.strip()),
        headless=headless,
        external=spec.type == "ExternalName",
        short_names=True,
        origin=obj.origin("metadata.name"),
        key=obj.key,
    )


def from_entry(obj: Object, spec: ServiceEntry) -> Iterator[Service]:
    """One service for each host of a ServiceEntry."""
    resolution: Literal["static", "dns", "none"] = "dns"
    if spec.resolution in ("STATIC", "NONE"):
        resolution = "static" if spec.resolution == "STATIC" else "none"
    ports = tuple(
        ServicePort(
            number=port.number,
            name=port.name,
            protocol=protocol_of(port.name, port.number, app_protocol=port.protocol)
            if port.protocol
            else protocol_of("", port.number),
            target=port.target_port,
        )
        for port in spec.ports
        if port.protocol.upper() != "UDP"
    )
    for position, host in enumerate(spec.hosts):
        yield Service(
            host=host.lower(),
            name=obj.name,
            namespace=obj.namespace,
            ports=ports,
            resolution=resolution,
            addresses=tuple(address for address in spec.addresses if "/" not in address),
            export_to=spec.export_to,
            subject_alt_names=spec.subject_alt_names,
            external=spec.location == "MESH_EXTERNAL",
            origin=obj.origin(f"spec.hosts[{position}]"),
            key=obj.key,
        )


def implied(name: str, namespace: str, nodes: list[Node], settings: MeshSettings) -> Service:
    """The service of workloads that no Service selects but that gave a service name themselves."""
    numbers = sorted({port.app_port for node in nodes for port in node.ports})
    return Service(
        host=f"{name}.{namespace}.svc.{settings.domain}",
        name=name,
        namespace=namespace,
        ports=tuple(ServicePort(number=number, protocol=protocol_of("", number)) for number in numbers),
        short_names=True,
        key=("Implied", namespace, name),
    )


def merge(services: tuple[Service, ...]) -> Service:
    """Definitions of one host by one namespace as one service: the first wins, ports that only later ones have join."""
    first = services[0]
    ports = {port.number: port for other in reversed(services) for port in other.ports}
    sans = tuple(dict.fromkeys(name for other in services for name in other.subject_alt_names))
    if len(ports) == len(first.ports) and sans == first.subject_alt_names:
        return first
    known = {port.number for port in first.ports}
    extra = tuple(ports[number] for number in ports if number not in known)
    return Service(
        host=first.host,
        name=first.name,
        namespace=first.namespace,
        ports=first.ports + tuple(sorted(extra, key=lambda port: port.number)),
        resolution=first.resolution,
        addresses=first.addresses,
        aliases=first.aliases,
        export_to=first.export_to,
        subject_alt_names=sans,
        headless=first.headless,
        external=first.external,
        short_names=first.short_names,
        origin=first.origin,
        key=first.key,
    )
