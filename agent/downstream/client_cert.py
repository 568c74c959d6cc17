"""What a client's certificate says, and whether that is enough: names, fingerprints, and the element that tells the
upstream of it (x-forwarded-client-cert). Pure; OpenSSL has verified the chain."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from mesh import config
from mesh.identity.der import read_fields

_SHORT: Final = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
"""RFC 2253 2.3; others keep OpenSSL's name."""


def names(certificate: Mapping[str, Any], kind: str = "") -> tuple[str, ...]:
    """Subject alternative names of getpeercert()'s dict, all or those of one kind (`URI`, `DNS`)."""
    found: Any = certificate.get("subjectAltName", ())
    return tuple(str(value) for each, value in found if not kind or each == kind)


def refusal(certificate: Mapping[str, Any], der: bytes, tls: config.DownstreamTls) -> str:
    """Why this client may not enter, as a token for the refusal counter; "" when it may."""
    if tls.subject_alt_names and not set(names(certificate)).intersection(tls.subject_alt_names):
        return "client_name_not_allowed"
    if tls.certificate_hash or tls.certificate_spki:
        # either list is enough, as in Envoy
        if hashlib.sha256(der).hexdigest() in tls.certificate_hash:
            return ""
        if hashlib.sha256(read_fields(der).public_key).hexdigest() in tls.certificate_spki:
            return ""
        return "client_fingerprint_not_allowed"
    return ""


def forwarded_element(certificate: Mapping[str, Any], der: bytes, own_uri: str = "") -> bytes:
    """What a gateway writes of its client (Envoy's SANITIZE_SET with Istio's details: subject, cert, uri, dns)."""
    parts = [f"By={own_uri}"] if own_uri else []
    parts.append(f"Hash={hashlib.sha256(der).hexdigest()}")
    parts.append(f'Cert="{quote(ssl.DER_cert_to_PEM_cert(der), safe="")}"')
    parts.append(f'Subject="{_quoted(subject(certificate))}"')
    parts.extend(f"URI={_value(uri)}" for uri in names(certificate, "URI") or ("",))
    parts.extend(f"DNS={_value(name)}" for name in names(certificate, "DNS"))
    return ";".join(parts).encode("ascii", "replace")


def subject(certificate: Mapping[str, Any]) -> str:
    """The subject as RFC 2253 writes it: the last part first."""
    found: Any = certificate.get("subject", ())
    return ",".join(
        "+".join(f"{_SHORT.get(name, name)}={_escaped(str(value))}" for name, value in part) for part in reversed(found)
    )


def _escaped(value: str) -> str:
    text = "".join("\\" + char if char in ',+"\\<>;' else char for char in value)
    return "\\" + text if text[:1] in ("#", " ") else text


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _value(value: str) -> str:
    """Values that hold a separator stand in quotes."""
    return f'"{_quoted(value)}"' if any(char in value for char in ',;="') else value
