"""Certificate requests: who gets what name, and for how long."""

from pathlib import Path

import pytest

from mesh.feed.message import SignRequest
from mesh.identity.pki import make_csr, make_key, read_certificate
from pilot.ca.authority import Authority, load_or_create
from pilot.ca.signing import DEFAULT_TTL, MAX_TTL, server_certificate, sign

NOW = 1_700_000_000.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return load_or_create(tmp_path, trust_domain="mesh.test", now=NOW)


def request(ttl: float = 0.0) -> SignRequest:
    return SignRequest(7, make_csr(make_key()).decode(), ttl)


@pytest.mark.parametrize(("ttl", "lasts"), [(0.0, DEFAULT_TTL), (-5.0, DEFAULT_TTL), (60.0, 60.0), (MAX_TTL, MAX_TTL)])
def test_name_and_life(authority: Authority, ttl: float, lasts: float) -> None:
    response = sign(authority, request(ttl), namespace="default", service_account="reviews", now=NOW)
    assert response.error == ""
    assert response.id == 7
    assert response.spiffe_id == "spiffe://mesh.test/ns/default/sa/reviews"
    assert response.not_after == NOW + lasts
    assert response.roots_pem.encode() == authority.roots_pem
    assert read_certificate(response.chain_pem.encode()).uris == (response.spiffe_id,)


@pytest.mark.parametrize(
    ("asked", "account", "says"),
    [
        (request(MAX_TTL + 1), "a", "over the maximum"),
        (request(), "a/../b", "service account"),
        (SignRequest(1, "nonsense"), "a", "certificate request"),
    ],
)
def test_refusals_say_why(authority: Authority, asked: SignRequest, account: str, says: str) -> None:
    response = sign(authority, asked, namespace="default", service_account=account, now=NOW)
    assert says in response.error
    assert response.chain_pem == ""


def test_the_pilots_own_certificate(authority: Authority) -> None:
    chain, key, not_after = server_certificate(authority, ("localhost",), now=NOW)
    assert read_certificate(chain).dns == ("localhost",)
    assert b"PRIVATE KEY" in key
    assert not_after > NOW
