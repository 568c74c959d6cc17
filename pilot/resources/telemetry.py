"""Telemetry: metrics, access log and traces of a mesh, a namespace or a workload."""

from typing import Literal

from msgspec import Struct

from pilot.resources.fields import Duration, Percentage, Text
from pilot.resources.meta import MatchLabels
from pilot.resources.target_ref import TargetRef

Mode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]


class ProviderRef(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A provider by its name in MeshConfig."""

    name: Text


class ModeMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Which side of a request is meant."""

    mode: Mode = "CLIENT_AND_SERVER"


class TagLiteral(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The same value for every span."""

    value: Text


class TagSource(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The value of an environment variable or of a header."""

    name: Text
    default_value: str = ""


class TagFormatter(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A value in the access log's notation."""

    value: Text


class CustomTag(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Where the value of a tag comes from: at most one of the four."""

    literal: TagLiteral | None = None
    environment: TagSource | None = None
    header: TagSource | None = None
    formatter: TagFormatter | None = None


class Tracing(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """How much is traced, where spans go, and what they say."""

    match: ModeMatch | None = None
    providers: tuple[ProviderRef, ...] = ()
    random_sampling_percentage: Percentage | None = None
    disable_span_reporting: bool | None = None
    custom_tags: dict[str, CustomTag] = {}
    enable_istio_tags: bool | None = None
    use_request_id_for_trace_sampling: bool | None = None
    disable_context_propagation: bool | None = None


class MetricSelector(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Which metrics an override is for: one of Istio's, or any by its name."""

    metric: (
        Literal[
            "ALL_METRICS",
            "REQUEST_COUNT",
            "REQUEST_DURATION",
            "REQUEST_SIZE",
            "RESPONSE_SIZE",
            "TCP_OPENED_CONNECTIONS",
            "TCP_CLOSED_CONNECTIONS",
            "TCP_SENT_BYTES",
            "TCP_RECEIVED_BYTES",
            "GRPC_REQUEST_MESSAGES",
            "GRPC_RESPONSE_MESSAGES",
        ]
        | None
    ) = None
    custom_metric: Text | None = None
    mode: Mode = "CLIENT_AND_SERVER"


class TagOverride(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A label of a metric: `value` is a CEL expression for UPSERT."""

    operation: Literal["UPSERT", "REMOVE"] = "UPSERT"
    value: str = ""


class MetricsOverride(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Changes to some metrics, in order."""

    match: MetricSelector | None = None
    disabled: bool | None = None
    tag_overrides: dict[str, TagOverride] = {}


class Metrics(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Metrics of some providers."""

    providers: tuple[ProviderRef, ...] = ()
    overrides: tuple[MetricsOverride, ...] = ()
    reporting_interval: Duration | None = None


class LogFilter(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is logged: where a CEL expression holds."""

    expression: str = ""


class AccessLogging(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The access log of some providers."""

    match: ModeMatch | None = None
    providers: tuple[ProviderRef, ...] = ()
    disabled: bool | None = None
    filter: LogFilter | None = None


class Telemetry(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a Telemetry."""

    selector: MatchLabels | None = None
    target_ref: TargetRef | None = None
    target_refs: tuple[TargetRef, ...] = ()
    tracing: tuple[Tracing, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    access_logging: tuple[AccessLogging, ...] = ()
