"""A key and its certificate request, made in a short-lived child: `python -m mesh.identity.keymaker`.

The child writes both as PEM on stdout and ends, and the memory of the cryptography library ends with it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from msgspec import Struct

from mesh.errors import MeshError

_END = b"-----END PRIVATE KEY-----\n"


class KeyAndCsr(Struct, frozen=True):
    """A private key and the request for its certificate, PEM."""

    key_pem: bytes
    csr_pem: bytes


def command() -> list[str]:
    """The child's argv."""
    return [sys.executable, "-P", "-m", "mesh.identity.keymaker"]


def environment() -> dict[str, str]:
    """The child's environ: it finds the very `mesh` that runs here, installed or not."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}


def read(output: bytes) -> KeyAndCsr:
    """What the child wrote. Raises MeshError."""
    key, end, csr = output.partition(_END)
    if not end or not csr.startswith(b"-----BEGIN CERTIFICATE REQUEST-----"):
        raise MeshError("the key maker wrote no key; run `python -m mesh.identity.keymaker` to see why")
    return KeyAndCsr(key + end, csr)


def main() -> int:
    """Write a new key and its request on stdout."""
    from mesh.identity import pki  # here: who imports this file to start the child must not pay for the library

    key = pki.make_key()
    sys.stdout.buffer.write(key + pki.make_csr(key))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
