from __future__ import annotations

from mesh import config


def test_an_endpoint_is_healthy_and_plain_unless_told_otherwise() -> None:
    endpoint = config.Endpoint("10.0.0.1", 8080)
    assert (endpoint.health, endpoint.tls, endpoint.weight, endpoint.workload) == ("healthy", "", 1, config.Workload())


def test_equal_endpoints_are_one_in_a_set() -> None:
    assert len({config.Endpoint("10.0.0.1", 80), config.Endpoint("10.0.0.1", 80), config.Endpoint("10.0.0.1", 81)}) == 2


def test_cluster_endpoints_may_be_empty() -> None:
    assert config.ClusterEndpoints("outbound|80||a").endpoints == ()
