"""What is known of one exchange when it is over: the input of metrics and access log."""

from __future__ import annotations

from mesh import config


class Record:
    """Mutable slots filled in along the way; times are seconds of the injected clock.

    Byte counts include heads. `flags` holds response flags in order of appearance ("UF,URX" when joined).
    `response_code` 0: nothing was sent.
    """

    __slots__ = (
        "attempts",
        "authority",
        "bytes_received",
        "bytes_sent",
        "cluster",
        "destination",
        "details",
        "downstream_local",
        "downstream_remote",
        "end",
        "flags",
        "forwarded_for",
        "grpc",
        "grpc_status",
        "inbound",
        "method",
        "mtls",
        "path",
        "peer_principal",
        "protocol",
        "request_id",
        "response_code",
        "route",
        "server_name",
        "service",
        "source",
        "start",
        "termination_details",
        "transport_failure",
        "upstream_host",
        "upstream_local",
        "upstream_service_time",
        "user_agent",
    )

    def __init__(self, start: float) -> None:
        self.start = start
        self.end = start
        self.method = b""
        self.path = b""
        self.protocol = "HTTP/1.1"
        self.authority = b""
        self.response_code = 0
        self.flags: tuple[str, ...] = ()
        self.details = ""
        self.termination_details = ""
        self.transport_failure = ""
        self.bytes_received = 0
        self.bytes_sent = 0
        self.upstream_service_time: int | None = None
        self.forwarded_for = b""
        self.user_agent = b""
        self.request_id = b""
        self.upstream_host = ""
        self.upstream_local = ""
        self.downstream_local = ""
        self.downstream_remote = ""
        self.server_name = ""
        self.route = ""
        self.cluster = ""
        self.service: config.Cluster | None = None
        """The cluster's config: destination service, port, namespace."""
        self.destination: config.Workload | None = None
        self.source: config.Workload | None = None
        self.inbound = False
        self.mtls = False
        self.peer_principal = ""
        self.grpc = False
        """The request is a gRPC call."""
        self.grpc_status = ""
        """As it came, in the response's head or its trailers."""
        self.attempts = 0
