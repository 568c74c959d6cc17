"""The bootstrap token on disk."""

import stat
from pathlib import Path

import pytest

from pilot.ca.tokens import TokenError, load_or_create


def test_made_once_and_kept(tmp_path: Path) -> None:
    token = load_or_create(tmp_path / "state")
    assert len(token.value) >= 40
    assert load_or_create(tmp_path / "state").value == token.value
    assert stat.S_IMODE((tmp_path / "state" / "token").stat().st_mode) == 0o600


def test_compares(tmp_path: Path) -> None:
    token = load_or_create(tmp_path)
    assert token.matches(token.value)
    assert not token.matches(token.value + "x")
    assert not token.matches("")
    assert not token.matches("\udcff")
    assert token.authorizes(f"Bearer {token.value}")
    assert token.authorizes(f"bearer  {token.value} ")
    for header in (None, "", token.value, f"Basic {token.value}", "Bearer"):
        assert not token.authorizes(header)


@pytest.mark.parametrize("content", [b"short", b"", b"\xff\xfe" * 20])
def test_unusable_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(TokenError, match="remove"):
        load_or_create(tmp_path)
