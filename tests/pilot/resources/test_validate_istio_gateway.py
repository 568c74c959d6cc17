import pytest

from tests.pilot.faults import paths, warnings

PORT = "port: {number: 443, protocol: HTTPS, name: https}, hosts: ['*']"
PLAIN = "port: {number: 80, protocol: http, name: http}"


def broken(server):
    return [p.removeprefix("servers[0].") for p in paths("Gateway", f"servers: [{{{server}}}]")]


def test_servers():
    assert paths("Gateway", "servers: []") == ["servers"]
    two = f"servers: [{{{PLAIN}, hosts: [a.b]}}, {{{PLAIN}, hosts: [c.d]}}]"
    assert paths("Gateway", two) == ["servers[1].port.name"]


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (f"{PLAIN}, hosts: []", ["hosts"]),
        (f"{PLAIN}, hosts: ['*', ns/*.a.b, ./a.b, '*/a.b', 10.0.0.1]", []),
        (f"{PLAIN}, hosts: [short, 'n@/a.b', 'a.*.b']", ["hosts[0]", "hosts[1]", "hosts[2]"]),
        (f"{PLAIN}, hosts: ['*'], bind: nowhere", ["bind"]),
        (f"{PLAIN}, hosts: ['*'], bind: unix://a", ["port.number", "bind"]),
        ("port: {number: 0, protocol: HTTP, name: h}, hosts: ['*'], bind: unix:///a", []),
        ("port: {number: 0, protocol: kafka, name: 'a_b'}, hosts: ['*']", ["port.protocol", "port.number"]),
        ("port: {number: 1}, hosts: ['*']", ["port.protocol", "port.name"]),
        ("port: {number: 1, protocol: '', name: ''}, hosts: ['*']", ["port.protocol", "port.name"]),
        (f"{PLAIN}, hosts: ['*a.com', '::1', a.1]", ["hosts[0]", "hosts[1]", "hosts[2]"]),
        (PORT, ["tls"]),
        (f"{PLAIN}, hosts: ['*'], tls: {{httpsRedirect: true}}", []),
        (f"{PLAIN}, hosts: ['*'], tls: {{mode: PASSTHROUGH, privateKey: a}}", ["tls"]),
        (f"{PLAIN}, hosts: ['*'], tls: {{mode: SIMPLE, credentialName: a}}", ["tls"]),
        ("port: {number: 1, protocol: TCP, name: t}, hosts: ['*'], tls: {mode: PASSTHROUGH}", ["tls"]),
    ],
)
def test_rules(server, expected):
    assert broken(server) == expected


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ("{mode: SIMPLE}", ["serverCertificate", "privateKey"]),
        ("{mode: SIMPLE, credentialName: a}", []),
        ("{mode: SIMPLE, credentialName: a, serverCertificate: b, privateKey: c}", ["serverCertificate"]),
        ("{mode: PASSTHROUGH, credentialName: a, credentialNames: [b]}", ["credentialNames"]),
        ("{mode: SIMPLE, serverCertificate: a, privateKey: b, caCrl: c}", ["caCrl"]),
        ("{mode: SIMPLE, credentialNames: [a, b, c]}", ["credentialNames"]),
        ("{mode: ISTIO_MUTUAL, tlsCertificates: []}", ["tlsCertificates"]),
        (
            "{mode: SIMPLE, tlsCertificates: [{serverCertificate: a}, {privateKey: b}]}",
            ["tlsCertificates[0].privateKey", "tlsCertificates[1].serverCertificate"],
        ),
        ("{mode: MUTUAL, serverCertificate: a, privateKey: b}", ["caCertificates"]),
        ("{mode: OPTIONAL_MUTUAL, serverCertificate: a, privateKey: b, caCertCredentialName: c}", []),
        ("{mode: ISTIO_MUTUAL}", []),
        ("{mode: ISTIO_MUTUAL, privateKey: a, credentialName: b}", ["privateKey", "credentialName"]),
        ("{mode: ISTIO_MUTUAL, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}", ["minProtocolVersion"]),
        ("{mode: PASSTHROUGH}", []),
    ],
)
def test_tls(tls, expected):
    assert [p.removeprefix("tls.") for p in broken(f"{PORT}, tls: {tls}")] == expected


def test_doubtful_settings():
    ciphers = "cipherSuites: [X, AES128-SHA, AES128-SHA]"
    tls = f"tls: {{mode: AUTO_PASSTHROUGH, credentialName: a, httpsRedirect: true, {ciphers}}}"
    assert [
        p.removeprefix("servers[0].") for p in warnings("Gateway", f"servers: [{{{PORT}, defaultEndpoint: x, {tls}}}]")
    ] == [
        "defaultEndpoint",
        "tls.cipherSuites[0]",
        "tls.cipherSuites[2]",
        "tls",
        "tls.httpsRedirect",
    ]
    target = "servers: [{port: {number: 80, protocol: HTTP, name: h, targetPort: 5}, hosts: ['*']}]"
    assert warnings("Gateway", target) == ["servers[0].port.targetPort"]
