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
    validate_envoy_filter,
    validate_istio_gateway,
    validate_proxy_config,
    validate_request_authentication,
    validate_service,
    validate_service_entry,
    validate_sidecar,
    validate_telemetry,
    validate_traffic_extension,
    validate_virtual_service,
    validate_wasm_plugin,
    validate_workload,
    validate_workload_group,
)
from pilot.resources.authorization_policy import AuthorizationPolicy
from pilot.resources.destination_rule import DestinationRule
from pilot.resources.envoy_filter import EnvoyFilter
from pilot.resources.istio_gateway import Gateway
from pilot.resources.meta import ObjectMeta
from pilot.resources.peer_authentication import PeerAuthentication
from pilot.resources.proxy_config import ProxyConfig
from pilot.resources.report import Report
from pilot.resources.request_authentication import RequestAuthentication
from pilot.resources.service_entry import ServiceEntry
from pilot.resources.sidecar import Sidecar
from pilot.resources.telemetry import Telemetry
from pilot.resources.traffic_extension import TrafficExtension
from pilot.resources.validate_authorization_policy import validate_authorization_policy
from pilot.resources.validate_peer_authentication import validate_peer_authentication
from pilot.resources.virtual_service import VirtualService
from pilot.resources.wasm_plugin import WasmPlugin
from pilot.resources.workload import WorkloadEntry
from pilot.resources.workload_group import WorkloadGroup

Check: TypeAlias = Callable[[Any, ObjectMeta, Report], None]
"""check(spec, meta, report): the rules of Istio's webhook beyond the schema."""

ISTIO_GROUPS = frozenset({"networking.istio.io", "security.istio.io", "telemetry.istio.io", "extensions.istio.io"})
OWNED_GROUPS = ISTIO_GROUPS | {"gateway.networking.k8s.io"}


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


_GATEWAY_API = "gateway.networking.k8s.io"


def _networking(
    name: str, spec: type[Struct], check: Check, *versions: str, instead: str = "", bare: bool = True
) -> Kind:
    """A kind of networking.istio.io; `bare`: it may do without a spec."""
    served = versions or ("v1", "v1beta1", "v1alpha3")
    return Kind(name, "networking.istio.io", served, spec, check, spec_required=not bare, instead=instead)


def _security(name: str, spec: type[Struct], check: Check, *, instead: str = "") -> Kind:
    return Kind(name, "security.istio.io", ("v1", "v1beta1"), spec, check, instead=instead)


def _extension(name: str, spec: type[Struct], check: Check) -> Kind:
    served = ("v1alpha1",)
    return Kind(name, "extensions.istio.io", served, spec, check, spec_required=True, instead="it is not loaded")


def _istio() -> list[Kind]:
    registering = "workloads register themselves when their agent connects"
    importing = "every sidecar sees all exported hosts"
    settings = "agents take their settings from the command line"
    no_envoy = "there is no Envoy to configure; it has no effect"
    telemetry = ("v1", "v1alpha1")
    return [
        _networking("VirtualService", VirtualService, validate_virtual_service.validate),
        _networking("DestinationRule", DestinationRule, validate_destination_rule.validate),
        _networking("Gateway", Gateway, validate_istio_gateway.validate),
        _networking("ServiceEntry", ServiceEntry, validate_service_entry.validate, bare=False),
        _networking("WorkloadEntry", WorkloadEntry, validate_workload.validate, bare=False),
        _networking("WorkloadGroup", WorkloadGroup, validate_workload_group.validate, bare=False, instead=registering),
        _networking("Sidecar", Sidecar, validate_sidecar.validate, instead=importing),
        _networking("ProxyConfig", ProxyConfig, validate_proxy_config.validate, "v1beta1", instead=settings),
        _networking("EnvoyFilter", EnvoyFilter, validate_envoy_filter.validate, "v1alpha3", instead=no_envoy),
        _security("PeerAuthentication", PeerAuthentication, validate_peer_authentication),
        _security("AuthorizationPolicy", AuthorizationPolicy, validate_authorization_policy),
        _security(
            "RequestAuthentication",
            RequestAuthentication,
            validate_request_authentication.validate,
            instead="tokens are passed on unchecked",
        ),
        Kind(
            "Telemetry",
            "telemetry.istio.io",
            telemetry,
            Telemetry,
            validate_telemetry.validate,
            instead="the default telemetry stays",
        ),
        _extension("WasmPlugin", WasmPlugin, validate_wasm_plugin.validate),
        _extension("TrafficExtension", TrafficExtension, validate_traffic_extension.validate),
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
