import pytest

from tests.pilot.faults import paths, warnings


def broken(policy):
    return [
        p.removeprefix("trafficPolicy").removeprefix(".")
        for p in paths("DestinationRule", f"host: a\ntrafficPolicy: {policy}")
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("host: ''", ["host"]),
        (
            "host: '*.a'\nsubsets: [{name: v1}, {name: v1}, {name: a.b, labels: {'': x}}]",
            ["subsets[1].name", "subsets[2].name", 'subsets[2].labels[""]'],
        ),
        ("host: a\nsubsets: [{name: v1, trafficPolicy: {}}]", ["subsets[0].trafficPolicy"]),
        ("host: a\nworkloadSelector: {matchLabels: {a: b}}\nexportTo: ['*']", ["exportTo"]),
        ("host: a\nworkloadSelector: {matchLabels: {a: b}}\nexportTo: [default]", []),
        (
            "host: a\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: 'configmap://other/ca'}}",
            ["trafficPolicy.tls.credentialName"],
        ),
        ("host: a\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: 'configmap://default/ca'}}", []),
        ("host: a\nworkloadSelector: {matchLabels: {a: '*'}}", ["workloadSelector.matchLabels.a"]),
    ],
)
def test_broken_rules(spec, expected):
    assert paths("DestinationRule", spec) == expected


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("{}", [""]),
        ("{connectionPool: {}}", ["connectionPool"]),
        (
            "{connectionPool: {tcp: {maxConnections: -1, connectTimeout: 1us, "
            "maxConnectionDuration: 1us, tcpKeepalive: {time: 0s}}}}",
            [
                "connectionPool.tcp.maxConnections",
                "connectionPool.tcp.connectTimeout",
                "connectionPool.tcp.maxConnectionDuration",
                "connectionPool.tcp.tcpKeepalive.time",
            ],
        ),
        (
            "{connectionPool: {http: {maxRetries: -1, idleTimeout: 1us}}}",
            ["connectionPool.http.maxRetries", "connectionPool.http.idleTimeout"],
        ),
        ("{connectionPool: {http: {idleTimeout: 0s}}}", []),
        (
            "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}",
            ["connectionPool.http.useClientProtocol"],
        ),
        (
            "{connectionPool: {http: {http2KeepAlive: {}}}}",
            ["connectionPool.http.http2KeepAlive.interval", "connectionPool.http.http2KeepAlive.timeout"],
        ),
        (
            "{outlierDetection: {interval: 1us, baseEjectionTime: 0s, maxEjectionPercent: 101, minHealthPercent: -1}}",
            [
                "outlierDetection.interval",
                "outlierDetection.baseEjectionTime",
                "outlierDetection.maxEjectionPercent",
                "outlierDetection.minHealthPercent",
            ],
        ),
        (
            "{outlierDetection: {consecutiveLocalOriginFailures: 1}}",
            ["outlierDetection.consecutiveLocalOriginFailures"],
        ),
        (
            "{outlierDetection: {outlierDetectionHttpErrorCodes: [99]}}",
            ["outlierDetection.outlierDetectionHttpErrorCodes[0]"],
        ),
        ("{outlierDetection: {}}", []),
        ("{tls: {mode: MUTUAL}}", ["tls.clientCertificate", "tls.privateKey"]),
        ("{tls: {mode: MUTUAL, credentialName: c}}", []),
        ("{tls: {mode: SIMPLE, credentialName: c, caCertificates: d}}", ["tls.caCertificates"]),
        (
            "{tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a], credentialName: c}}",
            ["tls.subjectAltNames", "tls.credentialName"],
        ),
        (
            "{tls: {mode: MUTUAL, insecureSkipVerify: true, caCertificates: a, clientCertificate: b, privateKey: c}}",
            ["tls.caCertificates"],
        ),
        (
            "{portLevelSettings: [{tls: {mode: DISABLE}}, {port: {number: 80}}]}",
            ["portLevelSettings[0].port", "portLevelSettings[1]"],
        ),
        ("{tunnel: {protocol: connect, targetHost: a.b, targetPort: 1}}", ["tunnel.protocol"]),
        (
            "{tunnel: {protocol: GET, targetHost: '', targetPort: 0}, proxyProtocol: {}}",
            ["tunnel.protocol", "tunnel.targetHost", "tunnel.targetPort", "proxyProtocol"],
        ),
        ("{retryBudget: {percent: 101}}", ["retryBudget.percent"]),
    ],
)
def test_broken_policies(policy, expected):
    assert broken(policy) == expected


def test_deprecated_fields_are_told():
    assert warnings("DestinationRule", "host: a\ntrafficPolicy: {outlierDetection: {consecutiveErrors: 3}}") == [
        "trafficPolicy.outlierDetection.consecutiveErrors"
    ]
