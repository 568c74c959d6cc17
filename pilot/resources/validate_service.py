"""What `istioctl validate` says of a Service: ports should tell their protocol.

These are matters of style: the API server takes such a Service, and the mesh serves it as opaque TCP.
"""

from __future__ import annotations

from pilot.resources.core import Service
from pilot.resources.meta import ObjectMeta
from pilot.resources.report import Report

PROTOCOLS = frozenset(
    {"grpc", "grpc-web", "http", "http2", "http3", "https", "mongo", "mysql", "redis", "tcp", "tls", "udp", "hbone"}
)
SYSTEM_NAMESPACE = "istio-system"


def validate(spec: Service, meta: ObjectMeta, report: Report) -> None:
    """Report ports whose name does not tell a protocol and that have no appProtocol."""
    for index, port in enumerate(spec.ports):
        path = ("spec", "ports", index)
        if not port.port:
            report.warn((*path, "port"), "a port without a number is not served", "add port")
        if meta.namespace == SYSTEM_NAMESPACE or port.protocol.upper() == "UDP" or port.app_protocol:
            continue
        if not port.name:
            report.style((*path, "name"), "is required to tell the protocol", "write for example http, or appProtocol")
        elif not tells_protocol(port.name):
            what = f'the name "{port.name}" tells no protocol; the port is served as opaque TCP'
            report.warn((*path, "name"), what, f"write for example http-{port.name}, or appProtocol: http")


def tells_protocol(name: str) -> bool:
    """Whether a port's name is `protocol` or `protocol-suffix`."""
    lower = name.lower()
    return lower.partition("-")[0] in PROTOCOLS or lower.startswith("grpc-web")
