"""Kubernetes' own kinds, as far as a mesh reads them; their other fields are passed over.

Named as in Kubernetes. A Service, Pod, Deployment… is decoded from the object's `spec`; EndpointSlice,
Endpoints, Secret and ConfigMap have none and are decoded from the whole document.
"""

from msgspec import Struct, field

from mesh.config.secret import REDACTED
from pilot.resources.fields import Int32
from pilot.resources.meta import LabelSelector, ObjectMeta


class ServicePort(Struct, frozen=True, rename="camel"):
    """A port of a Service; `target_port` is a number, a container port's name, or absent (same as `port`)."""

    port: Int32 = 0
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str | None = None
    app_protocol: str = ""
    node_port: Int32 = 0


class Service(Struct, frozen=True, rename="camel"):
    """Spec of a Service; `cluster_ip` "None" is headless."""

    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = {}
    cluster_ip: str = field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] = field(name="clusterIPs", default=())
    type: str = "ClusterIP"
    external_name: str = ""
    external_ips: tuple[str, ...] = field(name="externalIPs", default=())
    internal_traffic_policy: str = ""
    publish_not_ready_addresses: bool = False
    traffic_distribution: str = ""


class ObjectReference(Struct, frozen=True, rename="camel"):
    """The object behind an endpoint, mostly a Pod."""

    kind: str = ""
    namespace: str = ""
    name: str = ""


class EndpointConditions(Struct, frozen=True, rename="camel"):
    """None is unknown; an unknown `ready` counts as ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class SliceEndpoint(Struct, frozen=True, rename="camel"):
    """One endpoint of a slice."""

    addresses: tuple[str, ...]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""
    target_ref: ObjectReference | None = None
    zone: str = ""


class EndpointPort(Struct, frozen=True, rename="camel"):
    """A port of a slice; its name is the service port's."""

    name: str = ""
    port: Int32 | None = None
    protocol: str = "TCP"
    app_protocol: str = ""


class EndpointSlice(Struct, frozen=True, rename="camel"):
    """An EndpointSlice; the label kubernetes.io/service-name says whose."""

    address_type: str = "IPv4"
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class EndpointAddress(Struct, frozen=True, rename="camel"):
    """One address of Endpoints."""

    ip: str
    hostname: str = ""
    node_name: str = ""
    target_ref: ObjectReference | None = None


class EndpointSubset(Struct, frozen=True, rename="camel"):
    """Addresses that share ports."""

    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class Endpoints(Struct, frozen=True, rename="camel"):
    """The older form of EndpointSlice; named like its Service."""

    subsets: tuple[EndpointSubset, ...] = ()


class ContainerPort(Struct, frozen=True, rename="camel"):
    """A named port of a container."""

    container_port: Int32
    name: str = ""
    protocol: str = "TCP"


class Container(Struct, frozen=True, rename="camel"):
    """A container of a pod."""

    name: str = ""
    image: str = ""
    ports: tuple[ContainerPort, ...] = ()


class PodSpec(Struct, frozen=True, rename="camel"):
    """Spec of a Pod or of a pod template."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    service_account_name: str = ""
    node_name: str = ""
    hostname: str = ""
    subdomain: str = ""


class PodIp(Struct, frozen=True, rename="camel"):
    """One address of a pod."""

    ip: str = ""


class PodCondition(Struct, frozen=True, rename="camel"):
    """`type` Ready with `status` "True" is what counts."""

    type: str = ""
    status: str = ""


class PodStatus(Struct, frozen=True, rename="camel"):
    """Status of a Pod."""

    phase: str = ""
    pod_ip: str = field(name="podIP", default="")
    pod_ips: tuple[PodIp, ...] = field(name="podIPs", default=())
    conditions: tuple[PodCondition, ...] = ()


class PodTemplate(Struct, frozen=True, rename="camel"):
    """Metadata and spec of the pods that a controller makes."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PodSpec = PodSpec()


class PodController(Struct, frozen=True, rename="camel"):
    """Spec of a Deployment, StatefulSet, DaemonSet or ReplicaSet; `replicas` None is 1."""

    selector: LabelSelector | None = None
    replicas: Int32 | None = None
    template: PodTemplate = PodTemplate()


class Namespace(Struct, frozen=True, rename="camel"):
    """A Namespace; its labels are in the object's metadata."""


class ServiceAccount(Struct, frozen=True, rename="camel"):
    """A ServiceAccount."""


class Secret(Struct, frozen=True, rename="camel"):
    """A Secret; `data` values are base64, `string_data` plain. `redacted` gives the form that may be shown."""

    type: str = "Opaque"
    data: dict[str, str] = {}
    string_data: dict[str, str] = {}

    def redacted(self) -> "Secret":
        """Names of the values without the values."""
        return Secret(self.type, dict.fromkeys(self.data, REDACTED), dict.fromkeys(self.string_data, REDACTED))

    def __repr__(self) -> str:
        return f"Secret({', '.join((*self.data, *self.string_data))})"


class ConfigMap(Struct, frozen=True, rename="camel"):
    """A ConfigMap; `binary_data` values are base64."""

    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
