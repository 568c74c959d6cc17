"""What a proxy is told: immutable types whose names and substance are Envoy's (xDS).

The agent compiles them into a plan; the pilot translates resources into them. No I/O, no Trio.
Durations are float seconds, sizes bytes, percentages 0..100. Import the package and write
`config.Cluster`: the bare nouns belong to the agent's living objects.
"""

from mesh.config.cluster import (
    CircuitBreakers,
    Cluster,
    ConnectionSettings,
    HealthCheck,
    OutlierDetection,
    UpstreamTls,
)
from mesh.config.endpoint import ClusterEndpoints, Endpoint, Workload
from mesh.config.listener import (
    DownstreamTls,
    FilterChain,
    HttpChain,
    Listener,
    TcpChain,
    TlsVersion,
)
from mesh.config.policy import AuthzCondition, AuthzPolicy, AuthzRule
from mesh.config.route import (
    DirectResponse,
    Fault,
    FaultAbort,
    FaultDelay,
    HeaderOps,
    Origin,
    Redirect,
    RetryPolicy,
    Rewrite,
    Route,
    RouteAction,
    RouteConfig,
    RouteMatch,
    StringMatch,
    VirtualHost,
    WeightedCluster,
)
from mesh.config.secret import Secret
from mesh.config.snapshot import Resource, ResourceKind, Snapshot
from mesh.config.wire import content_hash, decode_resource, decode_snapshot, encode

__all__ = [
    "AuthzCondition",
    "AuthzPolicy",
    "AuthzRule",
    "CircuitBreakers",
    "Cluster",
    "ClusterEndpoints",
    "ConnectionSettings",
    "DirectResponse",
    "DownstreamTls",
    "Endpoint",
    "Fault",
    "FaultAbort",
    "FaultDelay",
    "FilterChain",
    "HeaderOps",
    "HealthCheck",
    "HttpChain",
    "Listener",
    "Origin",
    "OutlierDetection",
    "Redirect",
    "Resource",
    "ResourceKind",
    "RetryPolicy",
    "Rewrite",
    "Route",
    "RouteAction",
    "RouteConfig",
    "RouteMatch",
    "Secret",
    "Snapshot",
    "StringMatch",
    "TcpChain",
    "TlsVersion",
    "UpstreamTls",
    "VirtualHost",
    "WeightedCluster",
    "Workload",
    "content_hash",
    "decode_resource",
    "decode_snapshot",
    "encode",
]
