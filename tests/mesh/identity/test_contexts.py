"""TLS contexts, proven by handshakes over memory."""

import os
import ssl
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from mesh.identity import contexts
from mesh.identity.contexts import (
    ContextError,
    edge_server_context,
    feed_client_context,
    feed_server_context,
    mesh_client_context,
    mesh_server_context,
    origination_context,
    peer_spiffe_id,
)
from mesh.identity.pki import Issuer, make_csr, make_key, make_root
from mesh.identity.spiffe import make

NOW = time.time()  # noqa: TID251  OpenSSL checks against the real clock
Leaf = tuple[bytes, bytes]


class Authority:
    """A root that signs workloads and servers."""

    def __init__(self) -> None:
        self.roots, self.key = make_root("r", now=NOW, lifetime=86400)
        self.issuer = Issuer(self.roots, self.key)

    def workload(self, account: str, *, ttl: float = 3600) -> Leaf:
        key = make_key()
        uri = make("cluster.local", "default", account).uri
        return self.issuer.sign_workload(make_csr(key), uri, now=NOW, ttl=ttl), key

    def server(self) -> Leaf:
        key = make_key()
        return self.issuer.sign_server(make_csr(key), ("localhost", "127.0.0.1"), now=NOW, ttl=3600), key


OURS, FOREIGN = Authority(), Authority()


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake and one byte each way (TLS 1.3 tells of a refused client late)."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = server.wrap_bio(to_server, to_client, server_side=True)
    two = client.wrap_bio(to_client, to_server, server_hostname=name)
    waiting = [two.do_handshake, one.do_handshake]
    for _ in range(10):
        for step in list(waiting):
            try:
                step()
                waiting.remove(step)
            except ssl.SSLWantReadError:
                continue
        if not waiting:
            break
    one.write(b"x")
    assert two.read(1) == b"x"
    return one, two


def test_mesh_peers_know_each_other() -> None:
    server = mesh_server_context(*OURS.workload("reviews"), OURS.roots, ("istio",))
    client = mesh_client_context(*OURS.workload("ratings"), OURS.roots, ("istio", "h2"))
    one, two = handshake(server, client)
    assert peer_spiffe_id(one) == make("cluster.local", "default", "ratings")
    assert peer_spiffe_id(two) == make("cluster.local", "default", "reviews")
    assert two.selected_alpn_protocol() == "istio"
    assert two.version() == "TLSv1.3"


def test_no_certificate_no_mesh() -> None:
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(mesh_server_context(*OURS.workload("a"), OURS.roots), bare)


@pytest.mark.parametrize("foreign_end", ["server", "client"])
def test_another_authority_is_refused_by_either_end(foreign_end: str) -> None:
    of_server = FOREIGN if foreign_end == "server" else OURS
    of_client = FOREIGN if foreign_end == "client" else OURS
    server = mesh_server_context(*of_server.workload("a"), OURS.roots)
    client = mesh_client_context(*of_client.workload("b"), OURS.roots)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(server, client)


def test_expired_certificates_are_refused() -> None:
    server = mesh_server_context(*OURS.workload("a"), OURS.roots)
    client = mesh_client_context(*OURS.workload("b", ttl=-60), OURS.roots)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(server, client)


def test_feed_takes_clients_with_and_without_certificate() -> None:
    server = feed_server_context(*OURS.server(), OURS.roots)
    one, _ = handshake(server, feed_client_context(OURS.roots), "localhost")
    assert peer_spiffe_id(one) is None
    one, _ = handshake(server, feed_client_context(OURS.roots, *OURS.workload("a")), "127.0.0.1")
    assert peer_spiffe_id(one) == make("cluster.local", "default", "a")


def test_feed_refuses_foreign_clients_and_wrong_names() -> None:
    server = feed_server_context(*OURS.server(), OURS.roots)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(server, feed_client_context(OURS.roots, *FOREIGN.workload("a")), "localhost")
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(server, feed_client_context(OURS.roots), "elsewhere")


@pytest.mark.parametrize(
    "names",
    [
        (),
        (("DNS", "localhost"),),
        (("URI", "https://example.com"),),
        (("URI", "spiffe://a/ns/b/sa/c"), ("URI", "spiffe://a/ns/b/sa/d")),
    ],
)
def test_no_workload_no_id(names: tuple[tuple[str, str], ...]) -> None:
    assert peer_spiffe_id({"subjectAltName": names}) is None
    assert peer_spiffe_id(None) is None


def test_unusable_parts_are_named() -> None:
    leaf, key = OURS.workload("a")
    with pytest.raises(ContextError, match="trust bundle"):
        feed_client_context(b"nonsense")
    with pytest.raises(ContextError, match="certificate and key"):
        mesh_server_context(leaf, make_key(), OURS.roots)
    assert key


def test_without_memory_files_a_private_file_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    def fake_memfd_create(name: str, flags: int) -> int:
        raise OSError("none here")

    monkeypatch.setattr(os, "memfd_create", fake_memfd_create)
    monkeypatch.setattr(contexts.tempfile, "tempdir", str(tmp_path))
    assert mesh_server_context(*OURS.workload("a"), OURS.roots)
    assert os.listdir(str(tmp_path)) == []


# Gateways and originated TLS


def revoked(authority: Authority, *leaves: bytes) -> bytes:
    """The authority's list of what it took back."""
    now = datetime.fromtimestamp(NOW, UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(
        x509.load_pem_x509_certificate(authority.roots).subject
    )
    builder = builder.last_update(now - timedelta(hours=1)).next_update(now + timedelta(hours=1))
    for leaf in leaves:
        number = x509.load_pem_x509_certificate(leaf).serial_number
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
        )
    key = serialization.load_pem_private_key(authority.key, password=None)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]


def test_a_gateway_asks_for_no_certificate_unless_told() -> None:
    server = edge_server_context([OURS.server()], alpn=("h2", "http/1.1"))
    client = origination_context(roots_pem=OURS.roots, verify_host=True, alpn=("http/1.1",))
    one, two = handshake(server, client, "localhost")
    assert not one.getpeercert(binary_form=True)
    assert (two.selected_alpn_protocol(), two.version()) == ("http/1.1", "TLSv1.3")


def test_versions_and_ciphers_are_bounded() -> None:
    server = edge_server_context(
        [OURS.server()], versions=("TLSv1.2", "TLSv1.2"), ciphers=("ECDHE-ECDSA-CHACHA20-POLY1305", "UNKNOWN")
    )
    one, _ = handshake(server, origination_context(roots_pem=OURS.roots), "localhost")
    assert (one.version(), (one.cipher() or ("",))[0]) == ("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305")
    with pytest.raises(ContextError, match="none of the cipher suites UNKNOWN"):
        edge_server_context([OURS.server()], ciphers=("UNKNOWN",))


@pytest.mark.parametrize("back", [False, True])
def test_what_was_taken_back_is_refused(back: bool) -> None:
    leaf = OURS.workload("a")
    listed = revoked(OURS, *((leaf[0],) if back else ()))
    server = edge_server_context([OURS.server()], roots_pem=OURS.roots, crl_pem=listed, client=ssl.CERT_REQUIRED)
    client = origination_context(pair=leaf, roots_pem=OURS.roots, verify_host=True)
    if back:
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            handshake(server, client, "localhost")
    else:
        assert peer_spiffe_id(handshake(server, client, "localhost")[0])


def test_originated_tls_verifies_what_it_is_told_to() -> None:
    server = edge_server_context([OURS.server()])
    handshake(server, origination_context(roots_pem=OURS.roots), "elsewhere")
    handshake(server, origination_context(verify=False, verify_host=True), "elsewhere")
    for strict in (
        origination_context(roots_pem=OURS.roots, verify_host=True),
        origination_context(roots_pem=FOREIGN.roots),
        origination_context(),
    ):
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            handshake(server, strict, "elsewhere")


def test_an_encrypted_key_is_refused_and_asks_nobody() -> None:
    leaf, key = OURS.server()
    locked = serialization.load_pem_private_key(key, password=None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    with pytest.raises(ContextError, match="certificate and key"):
        edge_server_context([(leaf, locked)])


def test_an_unusable_revocation_list() -> None:
    with pytest.raises(ContextError, match="revocation list"):
        origination_context(roots_pem=OURS.roots, crl_pem=b"-----BEGIN X509 CRL-----\n")
