"""ServiceEntry: a service that the registry does not know by itself."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from pilot.resources.fields import UInt32
from pilot.resources.workload import WorkloadEntry


class ServicePort(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A port of the entry; `target_port` 0 is the number itself."""

    number: UInt32
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class WorkloadSelector(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Pods and WorkloadEntries of the entry's namespace by labels."""

    labels: Annotated[dict[str, str], Meta(max_length=256)] = {}


class ServiceEntry(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a ServiceEntry."""

    hosts: tuple[str, ...]
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=256)] = ()
    ports: Annotated[tuple[ServicePort, ...], Meta(max_length=256)] = ()
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    endpoints: Annotated[tuple[WorkloadEntry, ...], Meta(max_length=4096)] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
