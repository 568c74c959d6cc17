from pilot.resources.service_entry import WorkloadSelector
from pilot.resources.sidecar import OutboundTrafficPolicy, Sidecar, SidecarPort
from tests.pilot.faults import spec


def test_every_field_decodes():
    made = spec(
        "Sidecar",
        """
        workloadSelector: {labels: {app: a}}
        ingress:
          - port: {number: 80, protocol: HTTPS, name: https}
            bind: 10.0.0.1
            captureMode: NONE
            defaultEndpoint: 127.0.0.1:8080
            tls: {mode: SIMPLE, serverCertificate: c, privateKey: k}
            connectionPool: {tcp: {maxConnections: 1}}
        egress:
          - port: {number: 0, protocol: TCP}
            bind: unix:///run/out.sock
            captureMode: NONE
            hosts: ["./a.example.com"]
          - hosts: ["*/*"]
        inboundConnectionPool: {http: {http1MaxPendingRequests: 2}}
        outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: out.example.com, port: {number: 1}}}
        """,
    )
    assert made.workload_selector == WorkloadSelector(labels={"app": "a"})
    ingress = made.ingress[0]
    assert ingress.port == SidecarPort(number=80, protocol="HTTPS", name="https")
    assert (ingress.bind, ingress.capture_mode, ingress.default_endpoint) == ("10.0.0.1", "NONE", "127.0.0.1:8080")
    assert (ingress.tls.mode, ingress.connection_pool.tcp.max_connections) == ("SIMPLE", 1)
    assert [listener.hosts for listener in made.egress] == [("./a.example.com",), ("*/*",)]
    assert (made.egress[0].bind, made.egress[1].port) == ("unix:///run/out.sock", None)
    assert made.inbound_connection_pool.http.http1_max_pending_requests == 2
    assert made.outbound_traffic_policy.egress_proxy.host == "out.example.com"


def test_an_empty_outbound_policy_is_registry_only():
    assert OutboundTrafficPolicy().mode == "REGISTRY_ONLY"
    assert Sidecar().outbound_traffic_policy is None
