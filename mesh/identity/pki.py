"""Keys, certificate requests and certificates: the only door to `cryptography`.

Everything crosses this file's border as PEM bytes. The agent never imports it: importing the library costs it a
fifth of its memory budget, so keys are made in a child process (keymaker.py) and certificates read by `ssl`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from mesh.errors import MeshError

_SKEW = timedelta(minutes=2)  # a peer's clock may be behind; Istio back-dates by the same
_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class PkiError(MeshError):
    """Key, request or certificate cannot be read or used."""


class CertificateInfo(Struct, frozen=True):
    """What the mesh reads from a certificate. Times are seconds since the epoch."""

    serial: str
    subject: str
    issuer: str
    not_before: float
    not_after: float
    uris: tuple[str, ...]
    dns: tuple[str, ...]
    is_authority: bool


def make_key() -> bytes:
    """A new ECDSA P-256 private key (PKCS#8 PEM, not encrypted)."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def make_csr(key_pem: bytes) -> bytes:
    """A certificate request with an empty subject: who asks is known from the session, not from the request."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(_load_key(key_pem), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make_root(common_name: str, *, now: float, lifetime: float) -> tuple[bytes, bytes]:
    """A self-signed authority: (certificate PEM, key PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    start = _time(now)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _SKEW)
        .not_valid_after(start + timedelta(seconds=lifetime))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(ski, critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)


class Issuer:
    """A certificate authority's certificate and key, ready to sign.

    Raises PkiError when they cannot be read, do not belong together, or the certificate is no authority's.
    """

    def __init__(self, cert_pem: bytes, key_pem: bytes) -> None:
        self._certificate = _load_certificates(cert_pem)[0]
        self._key = _load_key(key_pem)
        if _spki(self._certificate.public_key()) != _spki(self._key.public_key()):
            raise PkiError("the authority's key does not belong to its certificate")
        if not read_certificate(cert_pem).is_authority:
            raise PkiError("the certificate is not an authority's (basic constraints CA:TRUE is missing)")

    @property
    def not_after(self) -> float:
        """End of the authority's own certificate."""
        return self._certificate.not_valid_after_utc.timestamp()

    def sign_workload(self, csr_pem: bytes, uri: str, *, now: float, ttl: float) -> bytes:
        """A leaf for the request's key whose only name is `uri`. The request's own names are ignored."""
        san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        return self._sign(_checked_csr(csr_pem).public_key(), san, now=now, ttl=ttl)

    def sign_server(self, csr_pem: bytes, names: Sequence[str], *, now: float, ttl: float) -> bytes:
        """A leaf for a server reached under these DNS names and IP addresses."""
        san = x509.SubjectAlternativeName([_general_name(name) for name in names])
        return self._sign(_checked_csr(csr_pem).public_key(), san, now=now, ttl=ttl)

    def _sign(self, key: object, san: x509.SubjectAlternativeName, *, now: float, ttl: float) -> bytes:
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise PkiError("the request's key is neither ECDSA nor RSA; make an ECDSA P-256 key")
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
            raise PkiError(f"the request's RSA key has {key.key_size} bits; make one of 2048 or more")
        start = _time(now)
        end = min(start + timedelta(seconds=ttl), self._certificate.not_valid_after_utc)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=isinstance(key, rsa.RSAPublicKey),
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(start - _SKEW, self._certificate.not_valid_before_utc))
            .not_valid_after(end)
            .add_extension(san, critical=True)  # RFC 5280 4.2.1.6: critical where the subject is empty
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(purposes, critical=False)
            .add_extension(aki, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def read_certificate(pem: bytes) -> CertificateInfo:
    """The first certificate of a PEM file. Raises PkiError."""
    certificate = _load_certificates(pem)[0]
    uris: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = tuple(san.get_values_for_type(x509.UniformResourceIdentifier))
        dns = tuple(san.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        pass
    try:
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    return CertificateInfo(
        serial=f"{certificate.serial_number:x}",
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        uris=uris,
        dns=dns,
        is_authority=authority,
    )


def _checked_csr(csr_pem: bytes) -> x509.CertificateSigningRequest:
    try:
        csr = x509.load_pem_x509_csr(csr_pem)
        signed = csr.is_signature_valid
    except (ValueError, InvalidSignature) as exc:
        raise PkiError(f"not a certificate request in PEM: {exc}") from exc
    if not signed:
        raise PkiError("the certificate request is not signed by its own key")
    return csr


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _load_certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as exc:
        raise PkiError(f"not a certificate in PEM: {exc}") from exc


def _load_key(pem: bytes) -> _PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as exc:
        raise PkiError(f"not an unencrypted private key in PEM: {exc}") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise PkiError("the key is neither ECDSA nor RSA")
    return key


def _key_pem(key: _PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _spki(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise PkiError("the key is neither ECDSA nor RSA")
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _time(now: float) -> datetime:
    return datetime.fromtimestamp(int(now), tz=UTC)
