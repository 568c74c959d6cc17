from pilot.resources.destination_rule import HttpSettings, OutlierDetection, TcpKeepalive, TcpSettings
from tests.pilot.faults import faults, spec

FULL = """
host: reviews
exportTo: ["."]
workloadSelector: {matchLabels: {app: a}}
trafficPolicy:
  loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 10s, minimumPercent: 10, aggression: 1.5}}
  connectionPool:
    tcp:
      maxConnections: 1
      connectTimeout: 30ms
      tcpKeepalive: {probes: 3, time: 7200s, interval: 75s}
      maxConnectionDuration: 1h
      idleTimeout: 0s
    http:
      http1MaxPendingRequests: 2
      http2MaxRequests: 3
      maxRequestsPerConnection: 4
      maxRetries: 5
      idleTimeout: 6s
      h2UpgradePolicy: DO_NOT_UPGRADE
      useClientProtocol: false
      maxConcurrentStreams: 7
      http2KeepAlive: {interval: 1s, timeout: 2s}
  outlierDetection:
    splitExternalLocalOriginErrors: true
    consecutiveLocalOriginFailures: 1
    consecutiveGatewayErrors: 2
    consecutive5xxErrors: 0
    interval: 1s
    baseEjectionTime: 3m
    maxEjectionPercent: 100
    minHealthPercent: 50
    outlierDetectionHttpErrorCodes: [500, 503]
  tls: {mode: ISTIO_MUTUAL, sni: a, subjectAltNames: [b]}
  portLevelSettings:
  - port: {number: 80}
    loadBalancer: {consistentHash: {httpCookie: {name: c, path: /, ttl: 0s, attributes: [{name: a, value: b}]}}}
  tunnel: {protocol: CONNECT, targetHost: a, targetPort: 80}
  retryBudget: {percent: 20, minRetryConcurrency: 3, budgetInterval: 0s}
subsets:
- name: v1
  labels: {version: v1}
  trafficPolicy:
    proxyProtocol: {version: V2}
    loadBalancer:
      localityLbSetting:
        enabled: true
        distribute: [{from: r/*, to: {r/z: 100}}]
- name: v2
  trafficPolicy:
    loadBalancer:
      consistentHash: {useSourceIp: true, maglev: {tableSize: 65537}}
      zoneAwareLbSetting: {minClusterSize: 6}
"""


def test_every_field_decodes():
    made = spec("DestinationRule", FULL)
    pool = made.traffic_policy.connection_pool
    assert pool.tcp == TcpSettings(
        max_connections=1,
        connect_timeout=0.03,
        tcp_keepalive=TcpKeepalive(probes=3, time=7200.0, interval=75.0),
        max_connection_duration=3600.0,
        idle_timeout=0.0,
    )
    assert (pool.http.http1_max_pending_requests, pool.http.http2_max_requests, pool.http.max_retries) == (2, 3, 5)
    assert isinstance(pool.http, HttpSettings)
    assert made.traffic_policy.outlier_detection == OutlierDetection(
        split_external_local_origin_errors=True,
        consecutive_local_origin_failures=1,
        consecutive_gateway_errors=2,
        consecutive_5xx_errors=0,
        interval=1.0,
        base_ejection_time=180.0,
        max_ejection_percent=100,
        min_health_percent=50,
        outlier_detection_http_error_codes=(500, 503),
    )
    assert made.subsets[0].traffic_policy.load_balancer.locality_lb_setting.distribute[0].from_ == "r/*"
    assert made.workload_selector.match_labels == {"app": "a"}


def test_enumerations_name_the_nearest():
    found = faults("DestinationRule", "host: a\ntrafficPolicy: {loadBalancer: {simple: ROUND_ROBBIN}}")
    assert found == ['trafficPolicy.loadBalancer.simple: unknown value: the text "ROUND_ROBBIN"']
