"""The mesh's certificate authority on disk: a self-signed root that survives restarts, or one plugged in.

Plugged in, as with Istio's `cacerts`: `ca-cert.pem`, `ca-key.pem`, and optionally `cert-chain.pem` and
`root-cert.pem` in the state folder. Else `root-key.pem` and `root-cert.pem` are made here, once.
"""

from __future__ import annotations

from pathlib import Path

from mesh.errors import MeshError
from mesh.identity.pki import Issuer, PkiError, make_root
from mesh.private_file import write_private

TRUST_BUNDLE = "root-cert.pem"
ROOT_LIFETIME = 3650 * 86400.0  # Istio's self-signed root


class AuthorityError(MeshError):
    """The authority's files cannot be used."""


class Authority:
    """Signs with `issuer`; a leaf is followed by `intermediates_pem`, and peers trust `roots_pem`."""

    def __init__(self, issuer: Issuer, intermediates_pem: bytes, roots_pem: bytes, *, trust_domain: str) -> None:
        self.issuer = issuer
        self.intermediates_pem = intermediates_pem
        self.roots_pem = roots_pem
        self.trust_domain = trust_domain


def load_or_create(state_dir: Path, *, trust_domain: str, now: float) -> Authority:
    """The authority of this state folder. Raises AuthorityError with the file and what to do."""
    plugged_in = state_dir / "ca-cert.pem"
    try:
        if plugged_in.exists():
            return _plugged_in(state_dir, trust_domain)
        return _self_signed(state_dir, trust_domain, now)
    except PkiError as exc:
        raise AuthorityError(f"the authority in {state_dir} cannot be used: {exc}; mend or remove its files") from exc
    except OSError as exc:
        raise AuthorityError(f"{exc.filename or state_dir}: {exc.strerror}; make it readable and writable") from exc


def _plugged_in(state_dir: Path, trust_domain: str) -> Authority:
    certificate = (state_dir / "ca-cert.pem").read_bytes()
    issuer = Issuer(certificate, (state_dir / "ca-key.pem").read_bytes())
    chain = state_dir / "cert-chain.pem"
    roots = state_dir / TRUST_BUNDLE
    if not roots.exists():
        write_private(roots, certificate)
    roots_pem = roots.read_bytes()
    intermediates = chain.read_bytes() if chain.exists() else b"" if roots_pem == certificate else certificate
    return Authority(issuer, intermediates, roots_pem, trust_domain=trust_domain)


def _self_signed(state_dir: Path, trust_domain: str, now: float) -> Authority:
    certificate_file, key_file = state_dir / TRUST_BUNDLE, state_dir / "root-key.pem"
    if certificate_file.exists() != key_file.exists():
        missing = key_file if certificate_file.exists() else certificate_file
        raise AuthorityError(f"{missing} is missing; restore it, or remove its counterpart to get a new root")
    if not key_file.exists():
        certificate, key = make_root(f"trioweave root of {trust_domain}", now=now, lifetime=ROOT_LIFETIME)
        write_private(key_file, key)
        write_private(certificate_file, certificate)
    certificate = certificate_file.read_bytes()
    issuer = Issuer(certificate, key_file.read_bytes())
    if issuer.not_after <= now:
        raise AuthorityError(f"{certificate_file} has expired; remove it and {key_file} to start a new mesh identity")
    return Authority(issuer, b"", certificate, trust_domain=trust_domain)
