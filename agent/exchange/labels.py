"""The labels of Istio's standard metrics: whose request it was, where it went, what came of it.

Pure functions of a record and of the proxy's own place; they run once for each new combination of labels.
"""

from __future__ import annotations

from msgspec import Struct

from agent.exchange import grpc
from agent.exchange.record import Record
from mesh import config
from mesh.feed.node import Node
from mesh.telemetry.metrics import Labels

UNKNOWN = "unknown"
_WORDS_BY_ROUTE = {"allow_any": "PassthroughCluster", "block_all": "BlackHoleCluster"}
_WORDS_BY_CLUSTER = frozenset({"PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster"})


class Place(Struct, frozen=True):
    """One end of an exchange as the labels name it."""

    workload: str = UNKNOWN
    namespace: str = UNKNOWN
    app: str = UNKNOWN
    version: str = UNKNOWN
    cluster: str = UNKNOWN
    canonical_service: str = UNKNOWN
    canonical_revision: str = "latest"


def own_place(node: Node) -> Place:
    """The proxy's own workload, by the labels that Istio reads."""
    labels = node.labels
    app = labels.get("app", "")
    version = labels.get("version", "")
    canonical = labels.get("service.istio.io/canonical-name") or labels.get("app.kubernetes.io/name")
    revision = labels.get("service.istio.io/canonical-revision") or labels.get("app.kubernetes.io/version")
    return Place(
        workload=node.workload or UNKNOWN,
        namespace=node.namespace,
        app=app or UNKNOWN,
        version=version or UNKNOWN,
        cluster=labels.get("topology.istio.io/cluster") or UNKNOWN,
        canonical_service=canonical or app or node.workload or UNKNOWN,
        canonical_revision=revision or version or "latest",
    )


def peer_place(workload: config.Workload | None, principal: str) -> Place:
    """The other end; its namespace falls back to the one in its SPIFFE id."""
    if workload is None:
        return Place(namespace=namespace_of(principal) or UNKNOWN)
    return Place(
        workload=workload.name or UNKNOWN,
        namespace=workload.namespace or namespace_of(principal) or UNKNOWN,
        app=workload.app or UNKNOWN,
        version=workload.version or UNKNOWN,
        cluster=workload.cluster or UNKNOWN,
        canonical_service=workload.app or workload.name or UNKNOWN,
        canonical_revision=workload.version or "latest",
    )


def namespace_of(principal: str) -> str:
    """`ns` of `spiffe://domain/ns/<ns>/sa/<account>`, or nothing."""
    parts = principal.split("/")
    return parts[4] if len(parts) == 7 and parts[3] == "ns" else ""


def destination_service(record: Record, host: str, node: Node) -> tuple[str, str, str]:
    """(service, short name, namespace) of the service that was asked for; `host` stands in for an unknown one."""
    service = record.service
    name = _WORDS_BY_ROUTE.get(record.route, "") or (record.cluster if record.cluster in _WORDS_BY_CLUSTER else "")
    if not name and service is not None and service.service:
        namespace = node.namespace if record.inbound else service.namespace
        return service.service, short_name(service.service, service.namespace), namespace or UNKNOWN
    if record.inbound:
        if node.service and not name:
            return f"{node.service}.{node.namespace}.svc.cluster.local", node.service, node.namespace
        return UNKNOWN, name or UNKNOWN, node.namespace
    return host or UNKNOWN, name or host or UNKNOWN, UNKNOWN


def short_name(host: str, namespace: str) -> str:
    """The service's own name: `reviews` of `reviews.default.svc.cluster.local`; external hosts stay whole."""
    first, _, rest = host.partition(".")
    return first if namespace and rest.startswith(f"{namespace}.svc") else host


def labels_of(record: Record, here: Place, principal: str, service: tuple[str, str, str]) -> Labels:
    """Every label that HTTP and TCP metrics share, in Istio's order, but for protocol, codes and flags."""
    there = peer_place(record.destination if not record.inbound else record.source, record.peer_principal)
    source, destination = (there, here) if record.inbound else (here, there)
    theirs = record.peer_principal if record.mtls and record.peer_principal else UNKNOWN
    ours = principal if record.mtls and principal else UNKNOWN
    source_principal, destination_principal = (theirs, ours) if record.inbound else (ours, theirs)
    return (
        ("reporter", "destination" if record.inbound else "source"),
        ("source_workload", source.workload),
        ("source_canonical_service", source.canonical_service),
        ("source_canonical_revision", source.canonical_revision),
        ("source_workload_namespace", source.namespace),
        ("source_principal", source_principal),
        ("source_app", source.app),
        ("source_version", source.version),
        ("source_cluster", source.cluster),
        ("destination_workload", destination.workload),
        ("destination_workload_namespace", destination.namespace),
        ("destination_principal", destination_principal),
        ("destination_app", destination.app),
        ("destination_version", destination.version),
        ("destination_service", service[0]),
        ("destination_canonical_service", destination.canonical_service),
        ("destination_canonical_revision", destination.canonical_revision),
        ("destination_service_name", service[1]),
        ("destination_service_namespace", service[2]),
        ("destination_cluster", destination.cluster),
    )


def http_labels(record: Record, shared: Labels) -> Labels:
    """All labels of the HTTP metrics."""
    return (
        *shared,
        ("request_protocol", "grpc" if record.grpc else "http"),
        ("response_code", str(record.response_code)),
        ("grpc_response_status", _grpc_status(record) if record.grpc else ""),
        *_outcome(record),
    )


def _grpc_status(record: Record) -> str:
    """The call's status; where none came, what the HTTP status stands for (a call without a status has failed)."""
    if record.grpc_status:
        return str(grpc.status_number(record.grpc_status))
    return str(grpc.status_of_http(record.response_code)) if record.response_code else ""


def tcp_labels(record: Record, shared: Labels) -> Labels:
    """All labels of the TCP metrics."""
    return (*shared, ("request_protocol", "tcp"), *_outcome(record))


def _outcome(record: Record) -> Labels:
    # Istio's client side cannot know what the server demands, so it says unknown even over mTLS.
    security = ("mutual_tls" if record.mtls else "none") if record.inbound else UNKNOWN
    return (("response_flags", ",".join(record.flags) or "-"), ("connection_security_policy", security))
