"""Keys from a child process."""

import subprocess
import sys

import pytest

from mesh.errors import MeshError
from mesh.identity import keymaker
from mesh.identity.pki import Issuer, make_root, read_certificate


def test_the_child_writes_a_key_and_its_request(tmp_path: object) -> None:
    done = subprocess.run(
        keymaker.command(), env=keymaker.environment(), cwd=str(tmp_path), capture_output=True, check=True
    )
    made = keymaker.read(done.stdout)
    assert b"PRIVATE KEY" in made.key_pem
    issuer = Issuer(*make_root("r", now=1e9, lifetime=1e6))
    leaf = issuer.sign_workload(made.csr_pem, "spiffe://a/ns/b/sa/c", now=1e9, ttl=60)
    assert read_certificate(leaf).uris == ("spiffe://a/ns/b/sa/c",)


def test_main_writes_both(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert keymaker.main() == 0
    assert keymaker.read(capfdbinary.readouterr().out).csr_pem


@pytest.mark.parametrize("output", [b"", b"Traceback", b"-----END PRIVATE KEY-----\nrubbish"])
def test_a_failed_child_is_an_error(output: bytes) -> None:
    with pytest.raises(MeshError, match="wrote no key"):
        keymaker.read(output)


def test_the_agents_side_does_not_load_the_library() -> None:
    code = "import sys, mesh.identity.keymaker, mesh.identity.contexts; sys.exit('cryptography' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_child_finds_mesh_beside_other_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert keymaker.environment()["PYTHONPATH"].endswith(":/somewhere")
    monkeypatch.delenv("PYTHONPATH")
    assert ":" not in keymaker.environment()["PYTHONPATH"]
