"""Certificate requests to certificates. The name comes from the authenticated session, never from the request."""

from __future__ import annotations

from mesh.feed.message import SignRequest, SignResponse
from mesh.identity import spiffe
from mesh.identity.pki import PkiError, make_csr, make_key, read_certificate
from mesh.identity.spiffe import SpiffeError
from pilot.ca.authority import Authority

DEFAULT_TTL = 24 * 3600.0  # Istio DEFAULT_WORKLOAD_CERT_TTL
MAX_TTL = 90 * 24 * 3600.0  # Istio MAX_WORKLOAD_CERT_TTL
_SERVER_TTL = 30 * 24 * 3600.0


def sign(
    authority: Authority, request: SignRequest, *, namespace: str, service_account: str, now: float
) -> SignResponse:
    """A certificate for the caller, or a response whose `error` says why not. A longer TTL than 90 days is refused."""
    ttl = request.ttl if request.ttl > 0 else DEFAULT_TTL
    if ttl > MAX_TTL:
        return SignResponse(request.id, error=f"a TTL of {ttl:.0f} s is over the maximum of {MAX_TTL:.0f} s")
    try:
        identity = spiffe.make(authority.trust_domain, namespace, service_account)
        leaf = authority.issuer.sign_workload(request.csr_pem.encode(), identity.uri, now=now, ttl=ttl)
    except (PkiError, SpiffeError) as exc:
        return SignResponse(request.id, error=str(exc))
    info = read_certificate(leaf)
    return SignResponse(
        request.id,
        chain_pem=(leaf + authority.intermediates_pem).decode(),
        roots_pem=authority.roots_pem.decode(),
        spiffe_id=identity.uri,
        not_before=info.not_before,
        not_after=info.not_after,
    )


def server_certificate(authority: Authority, names: tuple[str, ...], *, now: float) -> tuple[bytes, bytes, float]:
    """Certificate chain, key and expiry for the pilot's own ports."""
    key = make_key()
    leaf = authority.issuer.sign_server(make_csr(key), names, now=now, ttl=_SERVER_TTL)
    return leaf + authority.intermediates_pem, key, read_certificate(leaf).not_after
