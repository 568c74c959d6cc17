"""Loggers that fit the feed."""

from mesh.feed.log import Log
from mesh.telemetry.log import get_logger
from tests.feed_rig import FakeLog


def test_the_mesh_loggers_fit() -> None:
    logs: list[Log] = [get_logger("feed"), FakeLog()]
    assert all(callable(log.warning) for log in logs)
