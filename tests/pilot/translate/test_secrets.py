"""credentialName to secrets of the snapshot, and what is said where there is none."""

from __future__ import annotations

import base64
import json

import pytest

from mesh import config
from pilot.resources.object import Object
from pilot.translate import Proxy
from pilot.translate.secrets import certificate_files, certificate_secret, trust_files, trust_secret
from pilot.translate.visibility import View
from tests.pilot.worlds import gateway, istio, node, objects, world

CERTIFICATE, KEY = "-----BEGIN CERTIFICATE-----\nx\n", "-----BEGIN PRIVATE KEY-----\ny\n"
ROOTS, CRL = "-----BEGIN CERTIFICATE-----\nr\n", "-----BEGIN X509 CRL-----\nc\n"
FIELD = "spec.servers[0].tls.credentialName"


def secret(name: str, *, namespace: str = "istio-system", plain: bool = False, **keys: str) -> str:
    values = {
        key.replace("_", "."): text if plain else base64.b64encode(text.encode()).decode() for key, text in keys.items()
    }
    where = "stringData" if plain else "data"
    made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, where: values}
    return f"\n---\n{json.dumps(made)}\n"


def asked_by() -> Object:
    [obj] = objects(
        istio("Gateway", "gw", "  servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: [a.com]}]")
    )
    return obj


def view(text: str, proxy: Proxy | None = None) -> View:
    return View(world(text), proxy or gateway())


@pytest.mark.parametrize(
    "written", ["web", "kubernetes://web", "kubernetes://istio-system/web", "kubernetes-gateway://istio-system/web"]
)
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("keys", [("tls_crt", "tls_key"), ("cert", "key")])
def test_a_certificate(written: str, plain: bool, keys: tuple[str, str]) -> None:
    seen = view(secret("web", plain=plain, **{keys[0]: CERTIFICATE, keys[1]: KEY}))
    name = certificate_secret(seen, asked_by(), FIELD, written)
    assert name == "kubernetes://istio-system/web"
    assert seen.secrets == {name: config.Secret(name, CERTIFICATE, KEY)}
    assert not seen.reports


@pytest.mark.parametrize(
    "text",
    [
        secret("web", cacert=ROOTS, crl=CRL),
        secret("web", ca_crt=ROOTS, ca_crl=CRL),
        secret("web-cacert", cacert=ROOTS, crl=CRL) + secret("web", tls_crt=CERTIFICATE),
    ],
)
def test_roots(text: str) -> None:
    seen = view(text)
    name = trust_secret(seen, asked_by(), FIELD, "web")
    assert name == "kubernetes://istio-system/web-cacert"
    assert seen.secrets == {name: config.Secret(name, roots=ROOTS, crl=CRL)}
    assert not seen.reports


def test_a_secret_that_is_not_there() -> None:
    seen = view(secret("web", namespace="default", tls_crt=CERTIFICATE, tls_key=KEY))
    assert certificate_secret(seen, asked_by(), FIELD, "web") == "kubernetes://istio-system/web"
    assert seen.secrets == {}
    [report] = seen.reports
    assert str(report).startswith("in.yaml:7 Gateway/default/gw spec.servers[0].tls.credentialName: there is no Secret")
    assert "create it in namespace istio-system" in report.remedy


def test_secrets_of_other_namespaces_are_not_given_away() -> None:
    seen = view(secret("web", namespace="default", tls_crt=CERTIFICATE, tls_key=KEY, cacert=ROOTS))
    certificate_secret(seen, asked_by(), FIELD, "kubernetes://default/web")
    trust_secret(seen, asked_by(), FIELD, "kubernetes://default/web")
    assert seen.secrets == {}
    [report] = seen.reports
    assert report.message == "Secret default/web is not given to a proxy of namespace istio-system"


def test_a_standalone_gateway_has_the_secrets_beside_its_gateways() -> None:
    alone = Proxy(node(role="gateway", namespace="elsewhere"), match_all_gateways=True)
    seen = view(secret("web", namespace="default", tls_crt=CERTIFICATE, tls_key=KEY), alone)
    assert certificate_secret(seen, asked_by(), FIELD, "web") in seen.secrets


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (secret("web", tls_key=KEY), "tls.crt"),
        (secret("web", tls_crt=CERTIFICATE), "tls.key"),
        (secret("web", tls_crt="rubbish", tls_key=KEY), "tls.crt"),
        (secret("web", tls_crt=CERTIFICATE, tls_key=KEY).replace("LS0t", "!!!!"), "tls.crt"),
    ],
)
def test_a_broken_secret_is_reported_where_it_stands_and_sent_for_the_agent_to_refuse(text: str, key: str) -> None:
    seen = view(text)
    name = certificate_secret(seen, asked_by(), FIELD, "web")
    assert name in seen.secrets, "the agent keeps the last good one"
    report = next(iter(seen.reports))
    assert (report.kind, report.name, report.field) == ("Secret", "web", "data")
    assert report.message.startswith(f"holds no {key} in PEM")


def test_files_are_for_the_agent_to_read() -> None:
    seen = view("")
    pair, roots = certificate_files(seen, "/a.pem", "/a.key"), trust_files(seen, "/r.pem", "/r.crl")
    assert seen.secrets == {
        "file-cert:/a.pem~/a.key": config.Secret(pair, certificate_file="/a.pem", key_file="/a.key"),
        "file-root:/r.pem~/r.crl": config.Secret(roots, roots_file="/r.pem", crl_file="/r.crl"),
    }
