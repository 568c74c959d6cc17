from __future__ import annotations

import pytest

from agent.exchange.labels import (
    Place,
    destination_service,
    http_labels,
    labels_of,
    namespace_of,
    own_place,
    peer_place,
    short_name,
    tcp_labels,
)
from agent.exchange.record import Record
from mesh import config
from mesh.feed.node import Node

NODE = Node(id="n", role="sidecar", namespace="shop", workload="cart-v1", labels={"app": "cart", "version": "v1"})
REVIEWS = config.Cluster(
    "outbound|9080|v1|reviews.default.svc.cluster.local",
    service="reviews.default.svc.cluster.local",
    namespace="default",
)
PEER = "spiffe://cluster.local/ns/default/sa/reviews"
OWN = "spiffe://cluster.local/ns/shop/sa/cart"


def outbound(**fields: object) -> Record:
    record = Record(0.0)
    record.service = REVIEWS
    record.cluster = REVIEWS.name
    record.response_code = 200
    for name, value in fields.items():
        setattr(record, name, value)
    return record


def all_labels(record: Record, node: Node = NODE, host: str = "") -> dict[str, str]:
    return dict(http_labels(record, labels_of(record, own_place(node), OWN, destination_service(record, host, node))))


def test_the_client_side_names_itself_the_source() -> None:
    workload = config.Workload("reviews-v1", "default", "reviews", "v1", cluster="east")
    labels = all_labels(outbound(destination=workload, mtls=True, peer_principal=PEER, flags=("UF", "URX")))
    assert labels == {
        "reporter": "source",
        "source_workload": "cart-v1",
        "source_canonical_service": "cart",
        "source_canonical_revision": "v1",
        "source_workload_namespace": "shop",
        "source_principal": OWN,
        "source_app": "cart",
        "source_version": "v1",
        "source_cluster": "unknown",
        "destination_workload": "reviews-v1",
        "destination_workload_namespace": "default",
        "destination_principal": PEER,
        "destination_app": "reviews",
        "destination_version": "v1",
        "destination_service": "reviews.default.svc.cluster.local",
        "destination_canonical_service": "reviews",
        "destination_canonical_revision": "v1",
        "destination_service_name": "reviews",
        "destination_service_namespace": "default",
        "destination_cluster": "east",
        "request_protocol": "http",
        "response_code": "200",
        "grpc_response_status": "",
        "response_flags": "UF,URX",
        "connection_security_policy": "unknown",
    }


def test_the_server_side_names_its_caller_the_source() -> None:
    caller = "spiffe://cluster.local/ns/front/sa/web"
    labels = all_labels(
        outbound(inbound=True, service=None, cluster="inbound|8080||", mtls=True, peer_principal=caller),
        Node(id="n", role="sidecar", namespace="shop", service="cart", workload="cart-v1"),
    )
    assert labels["reporter"] == "destination"
    assert (labels["source_principal"], labels["destination_principal"]) == (caller, OWN)
    assert (labels["source_workload"], labels["source_workload_namespace"]) == ("unknown", "front")
    assert labels["destination_workload"] == "cart-v1"
    assert labels["destination_service"] == "cart.shop.svc.cluster.local"
    assert (labels["destination_service_name"], labels["destination_service_namespace"]) == ("cart", "shop")
    assert labels["connection_security_policy"] == "mutual_tls"


def test_without_mtls_there_are_no_principals_and_the_server_says_none() -> None:
    labels = all_labels(outbound(inbound=True, mtls=False, peer_principal=PEER))
    assert (labels["source_principal"], labels["destination_principal"]) == ("unknown", "unknown")
    assert labels["connection_security_policy"] == "none"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"route": "allow_any", "cluster": "PassthroughCluster"}, "PassthroughCluster"),
        ({"cluster": "PassthroughCluster"}, "PassthroughCluster"),
        ({"route": "block_all", "cluster": ""}, "BlackHoleCluster"),
        ({"cluster": "BlackHoleCluster"}, "BlackHoleCluster"),
    ],
)
def test_unknown_destinations_have_istios_words(fields: dict[str, str], name: str) -> None:
    record = outbound(service=None, **fields)
    assert destination_service(record, "example.org", NODE) == ("example.org", name, "unknown")
    assert destination_service(record, "", NODE) == ("unknown", name, "unknown")


def test_a_host_without_route_is_the_service_and_without_host_unknown() -> None:
    record = outbound(service=None, cluster="", response_code=404, flags=("NR",))
    assert destination_service(record, "nowhere", NODE) == ("nowhere", "nowhere", "unknown")
    assert destination_service(record, "", NODE) == ("unknown", "unknown", "unknown")
    record.inbound = True
    record.cluster = "InboundPassthroughCluster"
    assert destination_service(record, "ignored", NODE) == ("unknown", "InboundPassthroughCluster", "shop")


@pytest.mark.parametrize(
    ("status", "code", "label"),
    [
        *(("0", 200, "0"), ("14", 200, "14"), ("x'; drop", 200, "2"), ("123", 200, "2")),
        *(("", 200, "2"), ("", 404, "12"), ("", 0, "")),
    ],
)
def test_grpc_status_is_a_number_whatever_the_peer_writes(status: str, code: int, label: str) -> None:
    labels = all_labels(outbound(grpc=True, grpc_status=status, response_code=code))
    assert (labels["request_protocol"], labels["grpc_response_status"]) == ("grpc", label)


def test_what_is_no_call_has_no_grpc_status() -> None:
    labels = all_labels(outbound(grpc_status="14"))
    assert (labels["request_protocol"], labels["grpc_response_status"]) == ("http", "")


def test_tcp_metrics_have_no_codes() -> None:
    labels = dict(tcp_labels(outbound(), (("reporter", "source"),)))
    assert labels == {
        "reporter": "source",
        "request_protocol": "tcp",
        "response_flags": "-",
        "connection_security_policy": "unknown",
    }


def test_own_place_prefers_the_canonical_labels() -> None:
    labels = {
        "app": "a",
        "version": "v1",
        "app.kubernetes.io/name": "b",
        "app.kubernetes.io/version": "v2",
        "service.istio.io/canonical-name": "c",
        "service.istio.io/canonical-revision": "v3",
        "topology.istio.io/cluster": "east",
    }
    place = own_place(Node(id="n", role="sidecar", labels=labels))
    assert (place.canonical_service, place.canonical_revision, place.cluster) == ("c", "v3", "east")
    del labels["service.istio.io/canonical-name"], labels["service.istio.io/canonical-revision"]
    place = own_place(Node(id="n", role="sidecar", labels=labels))
    assert (place.canonical_service, place.canonical_revision) == ("b", "v2")
    assert own_place(Node(id="n", role="sidecar")) == Place(namespace="default")


def test_a_peer_without_metadata_has_the_namespace_of_its_certificate() -> None:
    assert peer_place(None, PEER) == Place(namespace="default")
    assert peer_place(None, "") == Place()
    assert peer_place(config.Workload(name="w"), PEER).namespace == "default"
    assert namespace_of("spiffe://td/other/form") == ""


@pytest.mark.parametrize(
    ("host", "namespace", "short"),
    [
        ("reviews.default.svc.cluster.local", "default", "reviews"),
        ("api.example.org", "default", "api.example.org"),
        ("reviews.default.svc.cluster.local", "", "reviews.default.svc.cluster.local"),
    ],
)
def test_only_names_of_the_mesh_are_shortened(host: str, namespace: str, short: str) -> None:
    assert short_name(host, namespace) == short
