"""Files for the owner alone, replaced whole."""

import stat
from pathlib import Path

import pytest

from mesh.private_file import write_private


def test_makes_folder_and_file_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "token"
    write_private(path, b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_bytes() == b"one"


def test_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_private(path, b"one")
    write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert [each.name for each in tmp_path.iterdir()] == ["token"]


def test_failure_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.mkdir()
    (path / "inside").touch()
    with pytest.raises(OSError):
        write_private(path, b"one")
    assert [each.name for each in tmp_path.iterdir()] == ["token"]
