"""tls of a Gateway's server -> how its filter chain terminates TLS."""

from __future__ import annotations

import base64
import binascii
from typing import Final, Literal, cast

from mesh import config
from pilot.resources.istio_gateway import ServerTlsSettings
from pilot.resources.validate_istio_gateway import CIPHERS
from pilot.translate.gateway_hosts import BoundServer
from pilot.translate.secrets import certificate_files, certificate_secret, trust_files, trust_secret
from pilot.translate.visibility import View

ALPN: Final = ("h2", "http/1.1")
"""What HTTPS servers offer, best first."""
_VERSIONS: Final[dict[str, config.TlsVersion]] = {"TLSV1_2": "TLSv1.2", "TLSV1_3": "TLSv1.3"}
_OLD: Final = ("TLSV1_0", "TLSV1_1")


def terminates(tls: ServerTlsSettings) -> bool:
    """Whether TLS ends at the gateway."""
    return tls.mode not in ("PASSTHROUGH", "AUTO_PASSTHROUGH")


def translate_server_tls(view: View, bound: BoundServer, *, http: bool) -> config.DownstreamTls:
    """The settings of a server that terminates."""
    tls = bound.server.tls
    assert tls is not None
    alpn = ALPN if http else ()
    if tls.mode == "ISTIO_MUTUAL":
        settings = view.settings
        domains = (settings.trust_domain, *settings.trust_domain_aliases)
        return config.DownstreamTls("istio_mutual", trust_domains=domains, alpn=alpn)
    mode = cast(Literal["simple", "mutual", "optional_mutual"], tls.mode.lower())
    _report_what_is_left_out(view, bound, tls)
    return config.DownstreamTls(
        mode,
        certificates=tuple(_certificates(view, bound, tls)),
        trust=_trust(view, bound, tls) if mode != "simple" else "",
        alpn=alpn,
        min_version=_VERSIONS.get(tls.min_protocol_version, "TLSv1.2"),
        max_version=_VERSIONS.get(
            tls.max_protocol_version, "TLSv1.2" if tls.max_protocol_version in _OLD else "TLSv1.3"
        ),
        ciphers=tuple(dict.fromkeys(cipher for cipher in tls.cipher_suites if cipher in CIPHERS)),
        subject_alt_names=tls.subject_alt_names,
        certificate_spki=tuple(_hex(spki) for spki in tls.verify_certificate_spki),
        certificate_hash=tuple(digest.replace(":", "").lower() for digest in tls.verify_certificate_hash),
    )


def _certificates(view: View, bound: BoundServer, tls: ServerTlsSettings) -> list[str]:
    path, gateway = f"{bound.path}.tls", bound.gateway
    if tls.credential_name:
        return [certificate_secret(view, gateway, f"{path}.credentialName", tls.credential_name)]
    if tls.credential_names:
        return [
            certificate_secret(view, gateway, f"{path}.credentialNames[{number}]", name)
            for number, name in enumerate(tls.credential_names)
        ]
    pairs = tls.tls_certificates or (tls,)
    return [certificate_files(view, pair.server_certificate, pair.private_key) for pair in pairs]


def _trust(view: View, bound: BoundServer, tls: ServerTlsSettings) -> str:
    path, gateway = f"{bound.path}.tls", bound.gateway
    if tls.ca_cert_credential_name:
        return trust_secret(view, gateway, f"{path}.caCertCredentialName", tls.ca_cert_credential_name)
    credential = tls.credential_name or (tls.credential_names[0] if tls.credential_names else "")
    if credential:
        return trust_secret(view, gateway, f"{path}.credentialName", credential)
    return trust_files(view, tls.ca_certificates, tls.ca_crl)


def _hex(spki: str) -> str:
    """Base64, as it is written, to the form of a fingerprint; what is no base64 matches nobody."""
    try:
        return base64.b64decode(spki, validate=True).hex()
    except binascii.Error:
        return spki


def _report_what_is_left_out(view: View, bound: BoundServer, tls: ServerTlsSettings) -> None:
    path = f"{bound.path}.tls"
    for field, version in (
        ("minProtocolVersion", tls.min_protocol_version),
        ("maxProtocolVersion", tls.max_protocol_version),
    ):
        if version in _OLD:
            view.report(
                bound.gateway,
                f"{path}.{field}",
                "TLS before 1.2 is not offered; TLS 1.2 is",
                "write TLSV1_2 or TLSV1_3",
            )
    if tls.insecure_skip_verify:
        view.report(
            bound.gateway,
            f"{path}.insecureSkipVerify",
            "client certificates are verified all the same",
            "remove it, or write mode SIMPLE",
        )
