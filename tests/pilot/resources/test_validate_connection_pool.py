import pytest

from tests.pilot.faults import paths


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ("{}", [""]),
        ("{tcp: {idleTimeout: 0s}, http: {idleTimeout: 0s}}", []),
        ("{tcp: {idleTimeout: 1us}, http: {idleTimeout: -1s}}", ["tcp.idleTimeout", "http.idleTimeout"]),
        (
            "{tcp: {maxConnections: -1, tcpKeepalive: {interval: 0s}}}",
            ["tcp.maxConnections", "tcp.tcpKeepalive.interval"],
        ),
        ("{http: {maxConcurrentStreams: -1}}", ["http.maxConcurrentStreams"]),
        ("{http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE}}", ["http.useClientProtocol"]),
        ("{http: {http2KeepAlive: {interval: 1s}}}", ["http.http2KeepAlive.timeout"]),
    ],
)
def test_a_rule_and_a_sidecar_judge_alike(pool, expected):
    rule = paths("DestinationRule", f"host: a\ntrafficPolicy: {{connectionPool: {pool}}}")
    sidecar = paths("Sidecar", f"inboundConnectionPool: {pool}")
    assert [p.removeprefix("trafficPolicy.connectionPool").removeprefix(".") for p in rule] == expected
    assert [p.removeprefix("inboundConnectionPool").removeprefix(".") for p in sidecar] == expected
