"""Fields of certificates, against the library that made them."""

import hashlib
import ssl
from datetime import UTC, datetime

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh.identity.der import first_certificate, read_fields
from mesh.identity.pki import make_root


def chains() -> list[bytes]:
    root = trustme.CA()
    leaf = root.issue_cert("a.test", not_before=datetime(1975, 1, 2, 3, 4, 5, tzinfo=UTC), key_type=trustme.KeyType.RSA)
    far, _ = make_root("r", now=0.0, lifetime=3e9)  # over 2049 times are written with four digits of the year
    return [b"".join(pem.bytes() for pem in leaf.cert_chain_pems), root.cert_pem.bytes(), far]


@pytest.mark.parametrize("pem", chains(), ids=["rsa leaf", "root", "long-lived"])
def test_fields_are_what_the_library_says(pem: bytes) -> None:
    want = x509.load_pem_x509_certificate(pem)
    der = first_certificate(pem.decode())
    got = read_fields(der)
    assert der == want.public_bytes(Encoding.DER)
    assert int(got.serial, 16) == want.serial_number
    assert got.not_before == want.not_valid_before_utc.timestamp()
    assert got.not_after == want.not_valid_after_utc.timestamp()
    assert got.public_key == want.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_text_around_a_certificate_does_not_matter() -> None:
    pem = trustme.CA().cert_pem.bytes().decode()
    assert first_certificate(f"# ours\n{pem}\n# end") == ssl.PEM_cert_to_DER_cert(pem)


@pytest.mark.parametrize("rubbish", [b"", b"\x30", b"\x30\x03\x02\x01", hashlib.sha256(b"x").digest()])
def test_rubbish_is_no_certificate(rubbish: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_fields(rubbish)


def test_no_certificate_in_a_text() -> None:
    with pytest.raises(ValueError, match="substring"):
        first_certificate("-----BEGIN PRIVATE KEY-----")
