"""One small mesh of real processes for all tests that do not break it, and a fleet for those that do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sockets.mesh_rig import Fleet, SmallMesh, fleet, small_mesh


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallMesh]:
    """Shared by all; whoever changes its configuration takes the change back."""
    with small_mesh(tmp_path_factory.mktemp("mesh")) as made:
        yield made


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Fleet]:
    """Programs of this test alone."""
    with fleet(tmp_path) as made:
        yield made
