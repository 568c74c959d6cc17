"""WorkloadEntry: one workload outside Kubernetes."""

from typing import Annotated

from msgspec import Meta, Struct

from pilot.resources.fields import UInt32

_Place = Annotated[str, Meta(max_length=2048)]


class WorkloadEntry(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a WorkloadEntry, also an endpoint of a ServiceEntry. `weight` 0 is 1."""

    address: Annotated[str, Meta(max_length=256)] = ""
    ports: Annotated[dict[str, UInt32], Meta(max_length=128)] = {}
    labels: Annotated[dict[str, str], Meta(max_length=256)] = {}
    network: _Place = ""
    locality: _Place = ""
    weight: UInt32 = 0
    service_account: Annotated[str, Meta(max_length=253)] = ""
