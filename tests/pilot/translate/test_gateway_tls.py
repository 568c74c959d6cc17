"""tls of a server to the settings of its filter chain."""

from __future__ import annotations

import base64

import pytest

from mesh import config
from pilot.resources.istio_gateway import ServerTlsSettings
from pilot.translate.gateway_hosts import BoundServer
from pilot.translate.gateway_tls import terminates, translate_server_tls
from pilot.translate.visibility import View
from tests.pilot.worlds import gateway, istio, objects, world

OURS = "kubernetes://istio-system"


def translated(tls: str, *, http: bool = True) -> tuple[config.DownstreamTls, list[str]]:
    spec = f"  servers: [{{port: {{number: 443, name: a, protocol: HTTPS}}, hosts: [a.com], tls: {{{tls}}}}}]"
    [obj] = objects(istio("Gateway", "gw", spec))
    view = View(world(), gateway())
    made = translate_server_tls(view, BoundServer(obj, 0, obj.spec.servers[0]), http=http)
    fields = [report.field.rpartition("tls.")[2] for report in view.reports]
    return made, [field for field in fields if "redential" not in field]


def test_simple() -> None:
    made, reports = translated("mode: SIMPLE, credentialName: web")
    assert made == config.DownstreamTls("simple", (f"{OURS}/web",), alpn=("h2", "http/1.1"))
    assert reports == []


def test_opaque_bytes_under_tls_agree_on_no_protocol() -> None:
    assert translated("mode: SIMPLE, credentialName: web", http=False)[0].alpn == ()


@pytest.mark.parametrize("mode", ["mutual", "optional_mutual"])
def test_clients_with_certificates(mode: str) -> None:
    made, _ = translated(f"mode: {mode.upper()}, credentialName: web, subjectAltNames: [a, b]")
    assert (made.mode, made.trust, made.subject_alt_names) == (mode, f"{OURS}/web-cacert", ("a", "b"))


def test_roots_of_another_secret() -> None:
    made, _ = translated("mode: MUTUAL, credentialName: web, caCertCredentialName: clients")
    assert (made.certificates, made.trust) == ((f"{OURS}/web",), f"{OURS}/clients-cacert")


def test_files() -> None:
    made, _ = translated("mode: MUTUAL, serverCertificate: /a, privateKey: /b, caCertificates: /c, caCrl: /d")
    assert (made.certificates, made.trust) == (("file-cert:/a~/b",), "file-root:/c~/d")


def test_two_types_of_keys() -> None:
    made, _ = translated("mode: SIMPLE, credentialNames: [rsa, ecdsa]")
    assert made.certificates == (f"{OURS}/rsa", f"{OURS}/ecdsa")
    files = "tlsCertificates: [{serverCertificate: /a, privateKey: /b}, {serverCertificate: /c, privateKey: /d}]"
    assert translated(f"mode: SIMPLE, {files}")[0].certificates == ("file-cert:/a~/b", "file-cert:/c~/d")


def test_the_meshs_own() -> None:
    made, _ = translated("mode: ISTIO_MUTUAL")
    assert made == config.DownstreamTls("istio_mutual", trust_domains=("cluster.local",), alpn=("h2", "http/1.1"))


def test_fingerprints_are_brought_into_one_form() -> None:
    spki = base64.b64encode(b"\x01\xab").decode()
    made, _ = translated(
        f"mode: MUTUAL, credentialName: web, verifyCertificateHash: ['AB:CD'], verifyCertificateSpki: ['{spki}', '!']"
    )
    assert (made.certificate_hash, made.certificate_spki) == (("abcd",), ("01ab", "!"))


def test_ciphers_that_nobody_knows_are_left_out() -> None:
    made, _ = translated("mode: SIMPLE, credentialName: web, cipherSuites: [AES128-SHA, ROT13, AES128-SHA]")
    assert made.ciphers == ("AES128-SHA",)


@pytest.mark.parametrize(
    ("written", "versions", "reports"),
    [
        ("", ("TLSv1.2", "TLSv1.3"), []),
        ("minProtocolVersion: TLSV1_3", ("TLSv1.3", "TLSv1.3"), []),
        ("maxProtocolVersion: TLSV1_2", ("TLSv1.2", "TLSv1.2"), []),
        ("minProtocolVersion: TLSV1_0", ("TLSv1.2", "TLSv1.3"), ["minProtocolVersion"]),
        ("maxProtocolVersion: TLSV1_1", ("TLSv1.2", "TLSv1.2"), ["maxProtocolVersion"]),
    ],
)
def test_versions(written: str, versions: tuple[str, str], reports: list[str]) -> None:
    made, told = translated(f"mode: SIMPLE, credentialName: web, {written}")
    assert (made.min_version, made.max_version) == versions
    assert told == reports


def test_clients_are_verified_whatever_is_asked() -> None:
    assert translated("mode: MUTUAL, credentialName: web, insecureSkipVerify: true")[1] == ["insecureSkipVerify"]


@pytest.mark.parametrize(
    ("mode", "ends"), [("PASSTHROUGH", False), ("AUTO_PASSTHROUGH", False), ("SIMPLE", True), ("ISTIO_MUTUAL", True)]
)
def test_which_modes_end_tls_here(mode: str, ends: bool) -> None:
    assert terminates(ServerTlsSettings(mode=mode)) is ends  # type: ignore[arg-type]
