import pytest

from pilot.store import MeshSettings
from pilot.store.services import Service, ServicePort, from_entry, from_kubernetes, merge, protocol_of
from tests.pilot.worlds import istio, objects


@pytest.mark.parametrize(
    ("name", "number", "app_protocol", "expected"),
    [
        ("http-web", 80, "", "http"),
        ("HTTP2", 80, "", "http2"),
        ("grpc-web-x", 80, "", "grpc-web"),
        ("grpc-x", 80, "", "grpc"),
        ("tcp-db", 5, "", "tcp"),
        ("mysql", 5, "", "mysql"),
        ("web", 80, "", "auto"),
        ("", 3306, "", "tcp"),
        ("tcp", 80, "kubernetes.io/h2c", "http2"),
        ("tcp", 80, "HTTP", "http"),
    ],
)
def test_the_protocol_is_declared_by_app_protocol_then_by_name(name, number, app_protocol, expected):
    assert protocol_of(name, number, app_protocol=app_protocol) == expected


@pytest.mark.parametrize(
    ("protocol", "is_http", "is_http2"),
    [
        *(("http", True, False), ("auto", True, False), ("tcp", False, False), ("https", False, False)),
        *(("http2", True, True), ("grpc", True, True), ("grpc-web", True, True)),
    ],
)
def test_what_a_protocol_is_routed_as(protocol, is_http, is_http2):
    port = ServicePort(80, protocol=protocol)
    assert (port.is_http, port.is_http2) == (is_http, is_http2)


def test_udp_is_not_tcp():
    assert protocol_of("dns", 53, transport="UDP") == "udp"


def test_a_kubernetes_service():
    (obj,) = objects(
        """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: prod, annotations: {networking.istio.io/exportTo: "., web"}}
spec:
  clusterIP: None
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: tcp-x, port: 81, targetPort: named}
  - {name: dns, port: 53, protocol: UDP}
"""
    )
    service = from_kubernetes(obj, obj.spec, MeshSettings())
    assert service.host == "reviews.prod.svc.cluster.local"
    assert service.headless
    assert service.addresses == ()
    assert service.export_to == (".", "web")
    assert service.ports == (ServicePort(80, "http", "http", 8080), ServicePort(81, "tcp-x", "tcp", "named"))
    assert service.ports[0].target_number == 8080
    assert service.ports[1].target_number is None
    assert not service.ports[1].is_http
    assert service.port(99) is None
    assert (service.origin.kind, service.origin.file, service.origin.line) == ("Service", "in.yaml", 4)


def test_a_service_entry_gives_a_service_for_each_host():
    (obj,) = objects(
        istio(
            "ServiceEntry",
            "ext",
            """
  hosts: [A.example.com, b.example.com]
  addresses: [240.0.0.1, 10.0.0.0/8]
  location: MESH_EXTERNAL
  resolution: NONE
  ports: [{number: 443, name: tls, protocol: TLS}, {number: 80, name: http}]
""",
        )
    )
    first, second = from_entry(obj, obj.spec)
    assert (first.host, second.host) == ("a.example.com", "b.example.com")
    assert first.resolution == "none"
    assert first.external
    assert first.addresses == ("240.0.0.1",)
    assert [port.protocol for port in first.ports] == ["tls", "auto"]
    assert not first.short_names


def test_definitions_of_one_host_join_their_ports():
    one = Service("h", "a", "n", (ServicePort(80), ServicePort(81, "mine")))
    two = Service("h", "b", "n", (ServicePort(81, "theirs"), ServicePort(82)), subject_alt_names=("x",))
    merged = merge((one, two))
    assert [(port.number, port.name) for port in merged.ports] == [(80, ""), (81, "mine"), (82, "")]
    assert merged.subject_alt_names == ("x",)
    assert merge((one,)) is one
