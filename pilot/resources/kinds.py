"""The kinds that the mesh knows: their versions, their models, their checks.

Everything inside OWNED_GROUPS that is not in this table is an error; everything outside both is
somebody else's and passed over with a notice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from pilot.resources import (
    core,
    validate_destination_rule,
    validate_istio_gateway,
    validate_service,
    validate_service_entry,
    validate_virtual_service,
    validate_workload,
    validate_workload_group,
)
from pilot.resources.authorization_policy import AuthorizationPolicy
from pilot.resources.destination_rule import DestinationRule
from pilot.resources.istio_gateway import Gateway
from pilot.resources.meta import ObjectMeta
from pilot.resources.peer_authentication import PeerAuthentication
from pilot.resources.proxy_config import ProxyConfig
from pilot.resources.report import Report
from pilot.resources.service_entry import ServiceEntry
from pilot.resources.sidecar import Sidecar
from pilot.resources.validate_authorization_policy import validate_authorization_policy
from pilot.resources.validate_peer_authentication import validate_peer_authentication
from pilot.resources.virtual_service import VirtualService
from pilot.resources.workload import WorkloadEntry
from pilot.resources.workload_group import WorkloadGroup

Check: TypeAlias = Callable[[Any, ObjectMeta, Report], None]
"""check(spec, meta, report): the rules of Istio's webhook beyond the schema."""

OWNED_GROUPS = frozenset(
    {
        "networking.istio.io",
        "security.istio.io",
        "telemetry.istio.io",
        "extensions.istio.io",
        "gateway.networking.k8s.io",
    }
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. `name` is ours (K8sGateway for the Gateway API's Gateway), `written` the YAML's.

    `spec` None: known by name only. `body` document: the model describes the whole document.
    """

    name: str
    group: str
    versions: tuple[str, ...]
    spec: type[Struct] | None = None
    check: Check | None = None
    status: type[Struct] | None = None
    body: Literal["spec", "document"] = "spec"
    cluster_wide: bool = False
    spec_required: bool = False
    written: str = ""
    instead: str = ""
    """What happens in place of it, for kinds that are known and not served."""

    @property
    def api_versions(self) -> list[str]:
        """As they stand in YAML."""
        return [f"{self.group}/{version}" if self.group else version for version in self.versions]


_NETWORKING = ("v1", "v1beta1", "v1alpha3")
_SECURITY = ("v1", "v1beta1")
_GATEWAY_API = "gateway.networking.k8s.io"


def _istio() -> list[Kind]:
    networking, security = "networking.istio.io", "security.istio.io"
    return [
        Kind("VirtualService", networking, _NETWORKING, VirtualService, validate_virtual_service.validate),
        Kind("DestinationRule", networking, _NETWORKING, DestinationRule, validate_destination_rule.validate),
        Kind("Gateway", networking, _NETWORKING, Gateway, validate_istio_gateway.validate),
        Kind(
            "ServiceEntry",
            networking,
            _NETWORKING,
            ServiceEntry,
            validate_service_entry.validate,
            spec_required=True,
        ),
        Kind(
            "WorkloadEntry",
            networking,
            _NETWORKING,
            WorkloadEntry,
            validate_workload.validate,
            spec_required=True,
        ),
        Kind(
            "WorkloadGroup",
            networking,
            _NETWORKING,
            WorkloadGroup,
            validate_workload_group.validate,
            spec_required=True,
            instead="workloads register themselves when their agent connects",
        ),
        Kind("PeerAuthentication", security, _SECURITY, PeerAuthentication, validate_peer_authentication),
        Kind("Sidecar", networking, _NETWORKING, Sidecar, instead="every sidecar sees all exported hosts"),
        Kind(
            "ProxyConfig",
            networking,
            ("v1beta1",),
            ProxyConfig,
            instead="agents take their settings from the command line",
        ),
        Kind("EnvoyFilter", networking, ("v1alpha3",), instead="there is no Envoy to configure; it has no effect"),
        Kind("AuthorizationPolicy", security, _SECURITY, AuthorizationPolicy, validate_authorization_policy),
        Kind("RequestAuthentication", security, _SECURITY, instead="tokens are passed on unchecked"),
        Kind("Telemetry", "telemetry.istio.io", ("v1", "v1alpha1"), instead="the default telemetry stays"),
        Kind("WasmPlugin", "extensions.istio.io", ("v1alpha1",), instead="it is not loaded"),
        Kind("TrafficExtension", "extensions.istio.io", ("v1alpha1",), instead="it is not loaded"),
    ]


def _gateway_api() -> list[Kind]:
    routes = "its routes have no effect; write a VirtualService"
    return [
        Kind("GatewayClass", _GATEWAY_API, ("v1", "v1beta1"), cluster_wide=True, instead="it has no effect"),
        Kind(
            "K8sGateway",
            _GATEWAY_API,
            ("v1", "v1beta1"),
            written="Gateway",
            instead="no listener is opened; write a networking.istio.io Gateway",
        ),
        Kind("HTTPRoute", _GATEWAY_API, ("v1", "v1beta1"), instead=routes),
        Kind("GRPCRoute", _GATEWAY_API, ("v1", "v1alpha2"), instead=routes),
        Kind("TLSRoute", _GATEWAY_API, ("v1", "v1alpha3", "v1alpha2"), instead=routes),
        Kind("TCPRoute", _GATEWAY_API, ("v1", "v1alpha2"), instead=routes),
        Kind("UDPRoute", _GATEWAY_API, ("v1", "v1alpha2"), instead=routes),
        Kind("ListenerSet", _GATEWAY_API, ("v1", "v1beta1"), instead="it has no effect"),
        Kind("ReferenceGrant", _GATEWAY_API, ("v1", "v1beta1", "v1alpha2"), instead="it has no effect"),
        Kind("BackendTLSPolicy", _GATEWAY_API, ("v1", "v1alpha3"), instead="it has no effect"),
    ]


def _kubernetes() -> list[Kind]:
    return [
        Kind("Service", "", ("v1",), core.Service, validate_service.validate),
        Kind("Pod", "", ("v1",), core.PodSpec, status=core.PodStatus),
        Kind("Namespace", "", ("v1",), core.Namespace, cluster_wide=True),
        Kind("ServiceAccount", "", ("v1",), core.ServiceAccount, body="document"),
        Kind("Secret", "", ("v1",), core.Secret, body="document"),
        Kind("ConfigMap", "", ("v1",), core.ConfigMap, body="document"),
        Kind("Endpoints", "", ("v1",), core.Endpoints, body="document"),
        Kind("EndpointSlice", "discovery.k8s.io", ("v1", "v1beta1"), core.EndpointSlice, body="document"),
        *(
            Kind(name, "apps", ("v1",), core.PodController)
            for name in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
        ),
    ]


KINDS: tuple[Kind, ...] = (*_istio(), *_gateway_api(), *_kubernetes())
BY_GROUP_KIND: dict[tuple[str, str], Kind] = {(kind.group, kind.written or kind.name): kind for kind in KINDS}
