"""ServiceEntry: a service that the registry does not know by itself."""

from typing import Literal

from msgspec import Struct

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

    labels: dict[str, str] = {}


class ServiceEntry(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a ServiceEntry."""

    hosts: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    endpoints: tuple[WorkloadEntry, ...] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
