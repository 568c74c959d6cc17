"""What the tests of drivers share."""

from __future__ import annotations

import pytest

from tests import rig


@pytest.fixture(params=["fast", "reference"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each codec in turn, for what `tests.rig.serving` serves: drivers must not tell one from the other."""
    chosen: str = request.param
    monkeypatch.setattr(rig, "engine", chosen)
    return chosen
