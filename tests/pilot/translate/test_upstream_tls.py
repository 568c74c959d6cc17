"""Encryption towards clusters, from traffic policies and without them."""

from __future__ import annotations

from mesh import config
from pilot.translate import Proxy, translate
from pilot.translate.visibility import Report
from tests.pilot.translate.test_secrets import ROOTS, secret
from tests.pilot.worlds import gateway, istio, service, sidecar, world

CERTIFICATE = "file-cert:/a.pem~/a.key"


def entry(host: str = "api.test", extra: str = "") -> str:
    ports = "[{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TCP}]"
    return istio("ServiceEntry", "api", f"  hosts: ['{host}']\n  resolution: NONE\n  ports: {ports}{extra}")


def towards(
    tls: str, *, host: str = "api.test", port: int = 80, extra: str = "", proxy: Proxy | None = None, more: str = ""
) -> tuple[config.UpstreamTls, config.Snapshot, tuple[Report, ...]]:
    rule = istio("DestinationRule", "d", f"  host: '{host}'\n  trafficPolicy: {{tls: {{{tls}}}}}")
    made = translate(world(entry(host, extra) + rule + more), proxy or sidecar())
    return made.snapshot.clusters[f"outbound|{port}||{host}"].tls, made.snapshot, made.reports


def test_simple_asks_for_the_host_and_verifies_it() -> None:
    tls, snapshot, reports = towards("mode: SIMPLE")
    assert tls == config.UpstreamTls("simple", "api.test", verify_host=True)
    assert (snapshot.secrets, reports) == ({}, ())


def test_opaque_connections_name_nobody() -> None:
    assert towards("mode: SIMPLE", port=443)[0] == config.UpstreamTls("simple")
    assert towards("mode: SIMPLE, sni: x.test", port=443)[0] == config.UpstreamTls("simple", "x.test")


def test_names_that_are_given_stand_for_the_host() -> None:
    assert towards("mode: SIMPLE, sni: x.test")[0] == config.UpstreamTls("simple", "x.test")
    tls = towards("mode: SIMPLE, subjectAltNames: [a, b]")[0]
    assert tls == config.UpstreamTls("simple", "api.test", ("a", "b"))
    assert towards("mode: SIMPLE", extra="\n  subjectAltNames: [c]")[0].subject_alt_names == ("c",)


def test_nothing_is_verified_when_asked() -> None:
    tls = towards("mode: SIMPLE, insecureSkipVerify: true", extra="\n  subjectAltNames: [c]")[0]
    assert tls == config.UpstreamTls("simple", "api.test", skip_verify=True)


def test_mutual_with_files() -> None:
    tls, snapshot, _ = towards(
        "mode: MUTUAL, clientCertificate: /a.pem, privateKey: /a.key, caCertificates: /r.pem, caCrl: /r.crl"
    )
    assert (tls.mode, tls.certificate, tls.trust) == ("mutual", CERTIFICATE, "file-root:/r.pem~/r.crl")
    assert set(snapshot.secrets) == {tls.certificate, tls.trust}
    assert snapshot.dangling() == []


def test_gateways_are_given_secrets() -> None:
    text = secret("api", tls_crt=ROOTS, tls_key=ROOTS, ca_crt=ROOTS)
    tls, snapshot, reports = towards("mode: MUTUAL, credentialName: api", proxy=gateway(), more=text)
    assert (tls.certificate, tls.trust) == ("kubernetes://istio-system/api", "kubernetes://istio-system/api-cacert")
    assert set(snapshot.secrets) == {tls.certificate, tls.trust}
    assert reports == ()
    tls, snapshot, _ = towards("mode: SIMPLE, credentialName: api", proxy=gateway(), more=text)
    assert (tls.certificate, set(snapshot.secrets)) == ("", {tls.trust})


def test_sidecars_are_not_and_refuse_rather_than_send_in_the_clear() -> None:
    tls, snapshot, [report] = towards("mode: MUTUAL, credentialName: api", more=secret("api", namespace="default"))
    assert (tls.mode, tls.certificate) == ("mutual", "kubernetes://default/api")
    assert snapshot.secrets == {}
    assert report.field == "spec.trafficPolicy.tls.credentialName"
    assert "gateways only" in report.message
    assert sum("refers to secret" in each for each in snapshot.dangling()) == 4, "two secrets of two ports"


def test_many_hosts_under_one_name_cannot_be_verified() -> None:
    tls, _, reports = towards("mode: SIMPLE", host="*.api.test")
    assert (tls.sni, tls.verify_host) == ("", True)
    assert [report.field for report in reports] == ["spec.trafficPolicy.tls.sni"]


def test_the_policy_of_a_subset_is_reported_in_its_place() -> None:
    rule = istio(
        "DestinationRule",
        "d",
        "  host: api.test\n  subsets: [{name: s, trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}}]",
    )
    [report, *_] = translate(world(entry() + rule), sidecar()).reports
    assert report.field == "spec.subsets[0].trafficPolicy.tls.credentialName"


def test_the_meshs_own() -> None:
    text = service("reviews")
    name = "outbound|9080||reviews.default.svc.cluster.local"
    found = translate(world(text), sidecar()).snapshot.clusters[name].tls
    assert (found.mode, found.sni) == ("auto", "outbound_.9080_._.reviews.default.svc.cluster.local")
    mutual = istio("DestinationRule", "d", "  host: reviews\n  trafficPolicy: {tls: {mode: ISTIO_MUTUAL, sni: x}}")
    assert translate(world(text + mutual), sidecar()).snapshot.clusters[name].tls == config.UpstreamTls(
        "istio_mutual", "x"
    )
    plain = istio("DestinationRule", "d", "  host: reviews\n  trafficPolicy: {tls: {mode: DISABLE}}")
    assert translate(world(text + plain), sidecar()).snapshot.clusters[name].tls == config.UpstreamTls("disable")
