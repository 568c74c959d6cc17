"""What is read from a client's certificate, and who may enter with it."""

from __future__ import annotations

import hashlib
import ssl
from typing import Any
from urllib.parse import unquote

import pytest
import trustme

from agent.downstream.client_cert import forwarded_element, names, refusal, subject
from mesh import config
from mesh.identity.der import read_fields

DER = ssl.PEM_cert_to_DER_cert(trustme.CA().issue_cert("a.test").cert_chain_pems[0].bytes().decode())
DIGEST = hashlib.sha256(DER).hexdigest()
SPKI = hashlib.sha256(read_fields(DER).public_key).hexdigest()
CERTIFICATE: dict[str, Any] = {
    "subject": (
        (("countryName", "DE"),),
        (("organizationName", 'Acme, "Inc"'),),
        (("commonName", "robot"), ("UID", "7")),
    ),
    "subjectAltName": (("DNS", "a.test"), ("URI", "spiffe://td/ns/a/sa/b"), ("DNS", "b.test"), ("email", "x@y")),
}


def test_names_by_kind() -> None:
    assert names(CERTIFICATE) == ("a.test", "spiffe://td/ns/a/sa/b", "b.test", "x@y")
    assert names(CERTIFICATE, "DNS") == ("a.test", "b.test")
    assert names({}, "DNS") == ()


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((), ""),
        (((("commonName", "a"),),), "CN=a"),
        (((("countryName", "DE"),), (("commonName", "a"),)), "CN=a,C=DE"),
        (((("commonName", "a"), ("userId", "7")),), "CN=a+UID=7"),
        (((("commonName", "#a;b"),),), "CN=\\#a\\;b"),
    ],
)
def test_the_subject_is_written_as_rfc_2253_says(parts: Any, text: str) -> None:
    assert subject({"subject": parts}) == text


def test_the_element_of_a_client() -> None:
    element = forwarded_element(CERTIFICATE, DER, "spiffe://td/ns/x/sa/gateway").decode()
    by, digest, cert, rest = element.split(";", 3)
    assert by == "By=spiffe://td/ns/x/sa/gateway"
    assert digest == f"Hash={DIGEST}"
    assert ssl.PEM_cert_to_DER_cert(unquote(cert.removeprefix('Cert="').removesuffix('"'))) == DER
    assert rest == (
        'Subject="CN=robot+UID=7,O=Acme\\\\, \\\\\\"Inc\\\\\\",C=DE";URI=spiffe://td/ns/a/sa/b;DNS=a.test;DNS=b.test'
    )


def test_a_client_without_names_has_an_empty_uri() -> None:
    assert forwarded_element({}, DER).decode().endswith(';Subject="";URI=')
    assert forwarded_element({}, DER).startswith(b"Hash=")


def test_values_with_separators_stand_in_quotes() -> None:
    element = forwarded_element({"subjectAltName": (("URI", "http://a/?b=c;d"),)}, DER)
    assert element.endswith(b';URI="http://a/?b=c;d"')


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        ({}, ""),
        ({"subject_alt_names": ("b.test",)}, ""),
        ({"subject_alt_names": ("c.test",)}, "client_name_not_allowed"),
        ({"certificate_hash": (DIGEST,)}, ""),
        ({"certificate_spki": (SPKI,)}, ""),
        ({"certificate_hash": ("00",), "certificate_spki": (SPKI,)}, ""),
        ({"certificate_hash": ("00",)}, "client_fingerprint_not_allowed"),
        ({"certificate_spki": (DIGEST,)}, "client_fingerprint_not_allowed"),
    ],
)
def test_who_may_enter(tls: dict[str, Any], reason: str) -> None:
    assert refusal(CERTIFICATE, DER, config.DownstreamTls("mutual", **tls)) == reason
