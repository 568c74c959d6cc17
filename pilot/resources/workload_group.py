"""WorkloadGroup: a template of WorkloadEntries, and how the health of such workloads is asked for."""

from typing import Annotated

from msgspec import Meta, Struct

from pilot.resources.fields import Count, Text, UInt32
from pilot.resources.workload import WorkloadEntry


class GroupMeta(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Metadata that the group's entries get."""

    labels: Annotated[dict[str, str], Meta(max_length=256)] = {}
    annotations: Annotated[dict[str, str], Meta(max_length=256)] = {}


class HttpHeader(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A header of a probe."""

    name: str = ""
    value: str = ""


class HttpProbe(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """GET and expect 200..399."""

    port: UInt32
    path: str = ""
    host: str = ""
    scheme: str = ""
    http_headers: tuple[HttpHeader, ...] = ()


class TcpProbe(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Connect."""

    port: UInt32
    host: str = ""


class ExecProbe(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Run a command."""

    command: tuple[Text, ...]


class GrpcProbe(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Ask the gRPC health service."""

    port: UInt32 = 0
    service: str = ""


class ReadinessProbe(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Health of the group's workloads; 0 takes Kubernetes' default. Times are whole seconds."""

    initial_delay_seconds: Count = 0
    timeout_seconds: Count = 0
    period_seconds: Count = 0
    success_threshold: Count = 0
    failure_threshold: Count = 0
    http_get: HttpProbe | None = None
    tcp_socket: TcpProbe | None = None
    exec: ExecProbe | None = None
    grpc: GrpcProbe | None = None


class WorkloadGroup(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a WorkloadGroup."""

    template: WorkloadEntry
    metadata: GroupMeta | None = None
    probe: ReadinessProbe | None = None
