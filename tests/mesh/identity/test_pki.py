"""Keys, requests and certificates."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from mesh.identity import pki
from mesh.identity.pki import Issuer, PkiError, make_csr, make_key, make_root, read_certificate

NOW = 1_700_000_000.0
DAY = 86400.0
URI = "spiffe://cluster.local/ns/default/sa/reviews"


@pytest.fixture(scope="module")
def root() -> tuple[bytes, bytes]:
    return make_root("a root", now=NOW, lifetime=100 * DAY)


@pytest.fixture(scope="module")
def issuer(root: tuple[bytes, bytes]) -> Issuer:
    return Issuer(*root)


def test_root_is_an_authority(root: tuple[bytes, bytes], issuer: Issuer) -> None:
    info = read_certificate(root[0])
    assert info.is_authority
    assert info.subject == info.issuer == "CN=a root"
    assert info.not_after == NOW + 100 * DAY == issuer.not_after


def test_workload_certificate_has_one_critical_name_and_no_subject(issuer: Issuer) -> None:
    pem = issuer.sign_workload(make_csr(make_key()), URI, now=NOW, ttl=DAY)
    info = read_certificate(pem)
    assert info.uris == (URI,)
    assert info.dns == ()
    assert info.subject == ""
    assert not info.is_authority
    assert info.not_before < NOW
    assert info.not_after == NOW + DAY
    certificate = x509.load_pem_x509_certificate(pem)
    san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert san.critical
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {usage.dotted_string for usage in usages} == {"1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"}


def test_names_in_the_request_are_ignored(issuer: Issuer) -> None:
    key = serialization.load_pem_private_key(make_key(), None)
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://cluster.local/ns/a/sa/admin")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(san, critical=True)
    request = csr.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]
    assert read_certificate(issuer.sign_workload(request, URI, now=NOW, ttl=DAY)).uris == (URI,)


def test_server_certificate_has_names_and_addresses(issuer: Issuer) -> None:
    pem = issuer.sign_server(make_csr(make_key()), ("localhost", "127.0.0.1"), now=NOW, ttl=DAY)
    assert read_certificate(pem).dns == ("localhost",)


def test_no_leaf_outlives_its_issuer(issuer: Issuer) -> None:
    pem = issuer.sign_workload(make_csr(make_key()), URI, now=NOW, ttl=1000 * DAY)
    assert read_certificate(pem).not_after == issuer.not_after


def test_rsa_requests_are_signed_when_long_enough(issuer: Issuer) -> None:
    for bits, good in ((2048, True), (1024, False)):
        key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        request = csr.public_bytes(serialization.Encoding.PEM)
        if good:
            assert issuer.sign_workload(request, URI, now=NOW, ttl=DAY)
        else:
            with pytest.raises(PkiError, match="1024 bits"):
                issuer.sign_workload(request, URI, now=NOW, ttl=DAY)


def test_other_keys_are_refused(issuer: Issuer, root: tuple[bytes, bytes]) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, None)
    with pytest.raises(PkiError, match="neither ECDSA nor RSA"):
        issuer.sign_workload(csr.public_bytes(serialization.Encoding.PEM), URI, now=NOW, ttl=DAY)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with pytest.raises(PkiError, match="neither ECDSA nor RSA"):
        Issuer(root[0], pem)


def test_requests_must_be_signed_by_their_own_key(issuer: Issuer) -> None:
    request = bytearray(x509.load_pem_x509_csr(make_csr(make_key())).public_bytes(serialization.Encoding.DER))
    request[-1] ^= 1
    try:
        forged = x509.load_der_x509_csr(bytes(request)).public_bytes(serialization.Encoding.PEM)
    except ValueError:
        pytest.skip("the last byte belonged to the encoding")
    with pytest.raises(PkiError):
        issuer.sign_workload(forged, URI, now=NOW, ttl=DAY)


@pytest.mark.parametrize("request_pem", [b"", b"nonsense"])
def test_nonsense_is_refused(issuer: Issuer, request_pem: bytes) -> None:
    with pytest.raises(PkiError, match="certificate request"):
        issuer.sign_workload(request_pem, URI, now=NOW, ttl=DAY)


def test_issuer_checks_its_parts(root: tuple[bytes, bytes], issuer: Issuer) -> None:
    key = make_key()
    leaf = issuer.sign_workload(make_csr(key), URI, now=NOW, ttl=DAY)
    with pytest.raises(PkiError, match="does not belong"):
        Issuer(root[0], key)
    with pytest.raises(PkiError, match="not an authority"):
        Issuer(leaf, key)
    with pytest.raises(PkiError, match="not a certificate"):
        Issuer(b"x", key)
    with pytest.raises(PkiError, match="private key"):
        Issuer(root[0], b"x")


def test_certificate_without_extensions() -> None:
    key = serialization.load_pem_private_key(make_key(), None)
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())  # type: ignore[arg-type]
    start = pki._time(NOW)
    certificate = (
        builder.serial_number(1)
        .not_valid_before(start)
        .not_valid_after(pki._time(NOW + DAY))
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    info = read_certificate(certificate.public_bytes(serialization.Encoding.PEM))
    assert (info.uris, info.dns, info.is_authority) == ((), (), False)
