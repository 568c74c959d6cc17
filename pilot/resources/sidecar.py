"""Sidecar: what the sidecars of a namespace import, and how their own ports are served."""

from typing import Literal

from msgspec import Struct

from pilot.resources.destination_rule import ConnectionPoolSettings
from pilot.resources.fields import UInt32
from pilot.resources.istio_gateway import ServerTlsSettings
from pilot.resources.service_entry import WorkloadSelector
from pilot.resources.virtual_service import Destination

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]


class SidecarPort(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A port of a listener; 0 goes with a unix socket. `protocol` is as written: compare without regard to case."""

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class IngressListener(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One port of the workload; `default_endpoint` empty is the same port of the pod's own address."""

    port: SidecarPort
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    default_endpoint: str = ""
    tls: ServerTlsSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None


class EgressListener(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Hosts (`namespace/host`) that may be reached by a port; without `port` by every port that they have."""

    hosts: tuple[str, ...]
    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"


class OutboundTrafficPolicy(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What becomes of hosts that are not known; an empty policy is REGISTRY_ONLY, none at all is the mesh's."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY"] = "REGISTRY_ONLY"
    egress_proxy: Destination | None = None


class Sidecar(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a Sidecar; `egress` empty imports all that is exported to the namespace."""

    workload_selector: WorkloadSelector | None = None
    ingress: tuple[IngressListener, ...] = ()
    egress: tuple[EgressListener, ...] = ()
    inbound_connection_pool: ConnectionPoolSettings | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
