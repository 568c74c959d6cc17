import pytest

from tests.pilot.faults import paths, warnings

PORT = "port: {number: 80, protocol: HTTP}"
TLS = "port: {number: 443, protocol: HTTPS}, tls: "
PAIR = "serverCertificate: c, privateKey: k"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("workloadSelector: {labels: {a: b}}", ["spec"]),
        ("outboundTrafficPolicy: {}", []),
        ("inboundConnectionPool: {}", ["inboundConnectionPool"]),
        ("workloadSelector: {labels: {a: '*'}}\noutboundTrafficPolicy: {}", ["workloadSelector.labels.a"]),
        (
            "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b, port: {number: 1}, subset: v1}}",
            [],
        ),
        ("outboundTrafficPolicy: {egressProxy: {host: a.b}}", ["outboundTrafficPolicy.egressProxy"]),
        (
            "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a*b}}",
            ["outboundTrafficPolicy.egressProxy.port", "outboundTrafficPolicy.egressProxy.host"],
        ),
        (
            "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b, port: {number: 0}, subset: '*'}}",
            ["outboundTrafficPolicy.egressProxy.subset", "outboundTrafficPolicy.egressProxy.port.number"],
        ),
    ],
)
def test_the_whole(spec, expected):
    assert paths("Sidecar", spec) == expected


@pytest.mark.parametrize(
    ("listener", "expected"),
    [
        (PORT, []),
        ("port: {number: 80}", []),
        ("bind: 10.0.0.1", ["port"]),
        (
            "port: {number: 0, protocol: http1, name: '@', targetPort: 1}",
            ["port.name", "port.protocol", "port.targetPort", "port.number"],
        ),
        (f"{PORT}, bind: unix:///a", ["bind"]),
        (f"{PORT}, defaultEndpoint: '127.0.0.1:80'", []),
        (f"{PORT}, defaultEndpoint: '[::1]:80'", []),
        (f"{PORT}, defaultEndpoint: ':80'", []),
        (f"{PORT}, defaultEndpoint: unix:///run/app.sock", []),
        (f"{PORT}, defaultEndpoint: unix://run", ["defaultEndpoint"]),
        (f"{PORT}, defaultEndpoint: '10.0.0.1:80'", ["defaultEndpoint"]),
        (f"{PORT}, defaultEndpoint: '127.0.0.1'", ["defaultEndpoint"]),
        (f"{PORT}, defaultEndpoint: '::1:80'", ["defaultEndpoint"]),
        (f"{PORT}, defaultEndpoint: '127.0.0.1:hi'", ["defaultEndpoint"]),
        (f"{PORT}, defaultEndpoint: '127.0.0.1:70000'", ["defaultEndpoint"]),
        (f"{PORT}, connectionPool: {{}}", ["connectionPool"]),
        (f"{TLS}{{mode: SIMPLE, {PAIR}}}", []),
        (f"{TLS}{{mode: SIMPLE}}", ["tls.serverCertificate", "tls.privateKey"]),
        (f"{TLS}{{mode: ISTIO_MUTUAL}}", ["tls.mode"]),
        (f"{TLS}{{mode: AUTO_PASSTHROUGH}}", ["tls.mode"]),
        (
            f"{TLS}{{mode: SIMPLE, {PAIR}, subjectAltNames: [a], httpsRedirect: true}}",
            ["tls.subjectAltNames", "tls.httpsRedirect"],
        ),
        (f"{TLS}{{mode: SIMPLE, credentialName: a}}", ["tls.credentialName"]),
        (f"{TLS}{{mode: SIMPLE, credentialNames: [a]}}", ["tls.credentialNames"]),
        (f"{TLS}{{mode: SIMPLE, tlsCertificates: [{{{PAIR}}}]}}", ["tls.tlsCertificates"]),
        (f"{PORT}, tls: {{mode: SIMPLE, {PAIR}}}", ["tls"]),
    ],
)
def test_ingress(listener, expected):
    found = paths("Sidecar", f"ingress: [{{{listener}}}]")
    assert [path.removeprefix("ingress[0].") for path in found] == expected


@pytest.mark.parametrize(
    ("listener", "expected"),
    [
        ("{}", ["hosts"]),
        ("hosts: []", ["hosts"]),
        ("hosts: ['*/*']", []),
        ("hosts: [./a.b, ns/*.a.b, '~/*', '*/a.b', '*/*', '~ns/a.b', '~*/c.d']", []),
        ("hosts: [a.b]", ["hosts[0]"]),
        ("hosts: [/]", ["hosts[0]", "hosts[0]"]),
        ("hosts: [ns/short, ns/*a.com, ns/a..b, ns_1/a.b, '~Ns_1/*']", [f"hosts[{n}]" for n in range(5)]),
        ("hosts: ['*/*'], port: {number: 0, protocol: HTTP}, bind: unix:///run/out.sock, captureMode: NONE", []),
        ("hosts: ['*/*'], port: {number: 15080, protocol: HTTP_PROXY}", []),
        ("hosts: ['*/*'], port: {number: 0, protocol: HTTP}", ["bind"]),
        ("hosts: ['*/*'], port: {number: 0}, bind: unix:///a, captureMode: IPTABLES", ["captureMode"]),
        ("hosts: ['*/*'], port: {number: 80}, bind: unix:///a", ["bind"]),
        ("hosts: ['*/*'], port: {number: 70000, protocol: kafka}", ["port.protocol", "port.number"]),
    ],
)
def test_egress(listener, expected):
    inner = listener if listener == "{}" else f"{{{listener}}}"
    found = paths("Sidecar", f"egress: [{inner}]")
    assert [path.removeprefix("egress[0].") for path in found] == expected


def test_each_port_and_each_socket_has_one_listener():
    both = "[{port: {number: 80}}, {port: {number: 80}}]"
    assert paths("Sidecar", f"ingress: {both}") == ["ingress[1].port.number"]
    hosts = "hosts: ['*/*']"
    assert paths("Sidecar", f"egress: [{{port: {{number: 1}}, {hosts}}}, {{port: {{number: 1}}, {hosts}}}]") == [
        "egress[1].port.number"
    ]
    socket = f"{{port: {{number: 0}}, bind: 'unix://@a', {hosts}}}"
    assert paths("Sidecar", f"egress: [{socket}, {socket}]") == ["egress[1].bind"]


def test_what_takes_every_port_comes_last():
    rest, port = "{hosts: ['*/*']}", "{port: {number: 1}, hosts: ['*/*']}"
    assert paths("Sidecar", f"egress: [{port}, {rest}]") == []
    assert paths("Sidecar", f"egress: [{rest}, {port}]") == ["egress[0]"]
    assert paths("Sidecar", f"egress: [{rest}, {rest}]") == ["egress[0]"]


def test_what_is_doubtful():
    assert warnings("Sidecar", "egress: [{hosts: [./a.b, default/a.b, '*/*']}]") == [
        "egress[0].hosts[1]",
        "egress[0].hosts",
    ]
    assert warnings("Sidecar", "egress: [{hosts: [ns/*, ns/a.b]}]") == ["egress[0].hosts[1]"]
    pool = "connectionPool: {http: {maxRetries: 1}}"
    assert warnings("Sidecar", f"ingress: [{{port: {{number: 1, protocol: TCP}}, {pool}}}]") == [
        "ingress[0].connectionPool.http"
    ]
