from __future__ import annotations

import pytest

from mesh import config
from mesh.errors import ConfigError

CLUSTER = config.Cluster("outbound|80||a", lb_policy="random", outlier=config.OutlierDetection(consecutive_5xx=2))


def test_resources_and_snapshots_survive_the_wire() -> None:
    assert config.decode_resource("cluster", config.encode(CLUSTER)) == CLUSTER
    snapshot = config.Snapshot(clusters={CLUSTER.name: CLUSTER})
    assert config.decode_snapshot(config.encode(snapshot)) == snapshot


def test_equal_values_have_equal_bytes_and_hashes_whatever_their_history() -> None:
    one = config.Snapshot(clusters={"a": config.Cluster("a"), "b": config.Cluster("b")})
    other = config.Snapshot(clusters={"b": config.Cluster("b"), "a": config.Cluster("a")})
    assert config.content_hash(config.encode(one)) == config.content_hash(config.encode(other))
    assert config.content_hash(config.encode(CLUSTER)) != config.content_hash(config.encode(config.Cluster("x")))


def test_a_fault_is_named_by_its_path_and_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"not a cluster: .*\$\.lb_policy.*compatible versions"):
        config.decode_resource("cluster", b'{"name": "a", "lb_policy": "maglev"}')
    with pytest.raises(ConfigError, match="not a secret"):
        config.decode_resource("secret", b"{}")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="not a snapshot"):
        config.decode_snapshot(b"[1")
