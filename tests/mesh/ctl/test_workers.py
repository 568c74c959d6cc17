"""`--workers` of the command; what a running parent does is in tests/sockets/test_workers.py."""

from __future__ import annotations

import sys

import pytest

from mesh.ctl.agent import main
from mesh.ctl.workers import check_platform
from mesh.errors import MeshError


@pytest.mark.parametrize("text", ["0", "-1", "257", "two", ""])
def test_no_number_of_workers(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateway", "-f", "x", f"--workers={text}"]) == 2
    assert f"--workers '{text}' is no number of workers; write 1 to 256, or auto" in capsys.readouterr().err


def test_elsewhere_than_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(MeshError, match="--workers needs Linux"):
        check_platform()
