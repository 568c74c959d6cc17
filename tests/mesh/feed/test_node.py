from __future__ import annotations

import msgspec
import pytest

from mesh.feed.node import InboundPort, Node, is_health_check

NODE = Node(
    id="sidecar~reviews-v1-7f3a.default",
    role="sidecar",
    service="reviews",
    workload="reviews-v1",
    labels={"app": "reviews", "version": "v1"},
    ports=(InboundPort(app_port=9080, address="127.0.0.1", port=40001),),
)


def test_a_node_survives_the_wire() -> None:
    assert msgspec.json.decode(msgspec.json.encode(NODE), type=Node) == NODE


def test_defaults_are_not_sent() -> None:
    assert msgspec.json.decode(msgspec.json.encode(Node(id="a", role="gateway"))) == {"id": "a", "role": "gateway"}


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="role"):
        msgspec.json.decode(b'{"id": "a", "role": "ambient"}', type=Node)


def test_a_node_does_not_change() -> None:
    with pytest.raises(AttributeError):
        NODE.id = "other"  # type: ignore[misc]


@pytest.mark.parametrize("text", ["", "tcp", "grpc", "grpc:pkg.Books", "/", "/health?a=b"])
def test_ways_to_check(text: str) -> None:
    assert is_health_check(text)


@pytest.mark.parametrize("text", ["udp", "tcp:80", "grpc:", "grpc:a b", "health", "/a b", "/a\n", "tcp\n", "/\u00e9"])
def test_no_ways_to_check(text: str) -> None:
    assert not is_health_check(text)
