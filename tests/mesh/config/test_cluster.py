from __future__ import annotations

import pytest

from mesh import config
from mesh.config.cluster import UNLIMITED


def test_defaults_are_istios() -> None:
    cluster = config.Cluster(name="outbound|80||a.default.svc.cluster.local")
    assert (cluster.discovery, cluster.protocol, cluster.lb_policy) == ("eds", "http1", "least_request")
    assert cluster.breakers.max_connections == UNLIMITED == 4294967295
    assert cluster.connection.connect_timeout == 10.0
    assert cluster.outlier is None
    assert cluster.tls.mode == "auto"


def test_outlier_defaults_are_envoys() -> None:
    outlier = config.OutlierDetection()
    assert (outlier.consecutive_5xx, outlier.interval, outlier.base_ejection_time) == (5, 10.0, 30.0)
    assert outlier.max_ejection_percent == 10.0


def test_a_cluster_does_not_change() -> None:
    with pytest.raises(AttributeError):
        config.Cluster(name="a").name = "b"  # type: ignore[misc]
