"""SPIFFE certificates for Envoy's side of the mTLS path: same authority, key kind and names as the mesh's own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mesh.identity import pki

_DAY = 86400.0


@dataclass(frozen=True)
class Certificates:
    """PEM files in `folder`; `pair(role)` names chain and key of `client` or `server`."""

    folder: Path
    server_id: str

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"

    def pair(self, role: str) -> tuple[Path, Path]:
        return self.folder / f"{role}.pem", self.folder / f"{role}.key"


def make(folder: Path) -> Certificates:
    """A root and two leaves, valid for a day."""
    root, root_key = pki.make_root("bench", now=datetime.now(UTC).timestamp(), lifetime=_DAY)
    return issue(folder, root, root_key)


def issue(folder: Path, root: bytes, root_key: bytes) -> Certificates:
    """Two leaves under a root that is there."""
    now = datetime.now(UTC).timestamp()
    issuer = pki.Issuer(root, root_key)
    made = Certificates(folder, "spiffe://cluster.local/ns/default/sa/server")
    made.root.write_bytes(root)
    for role in ("client", "server"):
        key = pki.make_key()
        uri = f"spiffe://cluster.local/ns/default/sa/{role}"
        chain, key_file = made.pair(role)
        chain.write_bytes(issuer.sign_workload(pki.make_csr(key), uri, now=now, ttl=_DAY))
        key_file.touch(mode=0o600)
        key_file.write_bytes(key)
    return made
