"""EnvoyFilter: patches of Envoy's own configuration; read, checked, and without effect, for there is no Envoy."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from pilot.resources.fields import Int32, UInt32
from pilot.resources.service_entry import WorkloadSelector
from pilot.resources.target_ref import TargetRef

ApplyTo = Literal[
    "INVALID",
    "LISTENER",
    "FILTER_CHAIN",
    "NETWORK_FILTER",
    "HTTP_FILTER",
    "ROUTE_CONFIGURATION",
    "VIRTUAL_HOST",
    "HTTP_ROUTE",
    "CLUSTER",
    "EXTENSION_CONFIG",
    "BOOTSTRAP",
    "LISTENER_FILTER",
]
Operation = Literal[
    "INVALID",
    "MERGE",
    "ADD",
    "REMOVE",
    "INSERT_BEFORE",
    "INSERT_AFTER",
    "INSERT_FIRST",
    "REPLACE",
    "MERGE_AND_REPLACE_LIST",
]


class ProxyMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Proxies by version (a regular expression) and by metadata."""

    proxy_version: str = ""
    metadata: dict[str, str] = {}


class ClusterMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Clusters by service or by name."""

    port_number: UInt32 = 0
    service: str = ""
    subset: str = ""
    name: str = ""


class RouteMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A route of a virtual host."""

    name: str = ""
    action: Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"] = "ANY"


class VirtualHostMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A virtual host of a route configuration."""

    name: str = ""
    domain_name: str = ""
    route: RouteMatch | None = None


class RouteConfigurationMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A route configuration by port, gateway or name."""

    port_number: UInt32 = 0
    port_name: str = ""
    gateway: str = ""
    vhost: VirtualHostMatch | None = None
    name: str = ""


class SubFilterMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A filter within a filter."""

    name: str = ""


class FilterMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A network filter by its name."""

    name: str = ""
    sub_filter: SubFilterMatch | None = None


class FilterChainMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A filter chain of a listener."""

    name: str = ""
    sni: str = ""
    transport_protocol: str = ""
    application_protocols: str = ""
    filter: FilterMatch | None = None
    destination_port: UInt32 = 0


class ListenerMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A listener by port or name."""

    port_number: UInt32 = 0
    port_name: str = ""
    filter_chain: FilterChainMatch | None = None
    listener_filter: str = ""
    name: str = ""


class WaypointRouteMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A route of a waypoint."""

    name: str = ""


class WaypointMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Objects of a waypoint."""

    port_number: Annotated[int, Meta(ge=1, le=65535)] | None = None
    filter: FilterMatch | None = None
    route: WaypointRouteMatch | None = None


class ObjectMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is patched: at most one of the four kinds of objects."""

    context: Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"] = "ANY"
    proxy: ProxyMatch | None = None
    listener: ListenerMatch | None = None
    route_configuration: RouteConfigurationMatch | None = None
    cluster: ClusterMatch | None = None
    waypoint: WaypointMatch | None = None


class Patch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is done with it."""

    operation: Operation = "INVALID"
    value: dict[str, Any] | None = None
    filter_class: Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"] = "UNSPECIFIED"


class ConfigPatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One patch."""

    apply_to: ApplyTo = "INVALID"
    match: ObjectMatch | None = None
    patch: Patch | None = None


class EnvoyFilter(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of an EnvoyFilter."""

    workload_selector: WorkloadSelector | None = None
    target_refs: tuple[TargetRef, ...] = ()
    config_patches: tuple[ConfigPatch, ...] = ()
    priority: Int32 = 0
