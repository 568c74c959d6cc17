"""WorkloadEntry: one workload outside Kubernetes."""

from msgspec import Struct

from pilot.resources.fields import UInt32


class WorkloadEntry(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a WorkloadEntry, also an endpoint of a ServiceEntry. `weight` 0 is 1."""

    address: str = ""
    ports: dict[str, UInt32] = {}
    labels: dict[str, str] = {}
    network: str = ""
    locality: str = ""
    weight: UInt32 = 0
    service_account: str = ""
