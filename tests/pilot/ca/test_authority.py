"""The authority on disk."""

import stat
from pathlib import Path

import pytest

from mesh.identity.pki import make_root
from pilot.ca.authority import ROOT_LIFETIME, AuthorityError, load_or_create

NOW = 1_700_000_000.0


def load(folder: Path, now: float = NOW) -> bytes:
    return load_or_create(folder, trust_domain="cluster.local", now=now).roots_pem


def test_root_survives_a_restart(tmp_path: Path) -> None:
    first = load(tmp_path / "state")
    assert load(tmp_path / "state") == first == (tmp_path / "state" / "root-cert.pem").read_bytes()
    assert stat.S_IMODE((tmp_path / "state" / "root-key.pem").stat().st_mode) == 0o600


def test_plugged_in_root(tmp_path: Path) -> None:
    certificate, key = make_root("theirs", now=NOW, lifetime=1e6)
    (tmp_path / "ca-cert.pem").write_bytes(certificate)
    (tmp_path / "ca-key.pem").write_bytes(key)
    authority = load_or_create(tmp_path, trust_domain="cluster.local", now=NOW)
    assert authority.roots_pem == certificate == (tmp_path / "root-cert.pem").read_bytes()
    assert authority.intermediates_pem == b""


def test_plugged_in_intermediate_is_sent_along(tmp_path: Path) -> None:
    certificate, key = make_root("intermediate", now=NOW, lifetime=1e6)
    root, _ = make_root("root", now=NOW, lifetime=1e6)
    (tmp_path / "ca-cert.pem").write_bytes(certificate)
    (tmp_path / "ca-key.pem").write_bytes(key)
    (tmp_path / "root-cert.pem").write_bytes(root)
    authority = load_or_create(tmp_path, trust_domain="cluster.local", now=NOW)
    assert authority.intermediates_pem == certificate
    assert authority.roots_pem == root
    (tmp_path / "cert-chain.pem").write_bytes(certificate + certificate)
    authority = load_or_create(tmp_path, trust_domain="cluster.local", now=NOW)
    assert authority.intermediates_pem == certificate + certificate


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("root-key.pem", None, "root-key.pem is missing"),
        ("root-cert.pem", None, "root-cert.pem is missing"),
        ("root-cert.pem", b"nonsense", "cannot be used"),
        ("ca-cert.pem", b"nonsense", "ca-key.pem"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    load(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AuthorityError, match=says):
        load(tmp_path)


def test_expired_root_is_refused(tmp_path: Path) -> None:
    load(tmp_path)
    with pytest.raises(AuthorityError, match="expired"):
        load(tmp_path, NOW + ROOT_LIFETIME)
