from pilot.resources.service_entry import ServicePort, WorkloadSelector
from tests.pilot.faults import spec


def test_every_field_decodes():
    made = spec(
        "ServiceEntry",
        """
        hosts: [a.example.com]
        addresses: [10.1.1.1]
        ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
        location: MESH_INTERNAL
        resolution: STATIC
        endpoints: [{address: 127.0.0.1, ports: {http: 9000}, weight: 3, labels: {version: v1}}]
        exportTo: ["*"]
        subjectAltNames: [spiffe://a]
        """,
    )
    assert made.ports == (ServicePort(number=80, name="http", protocol="HTTP", target_port=8080),)
    assert made.endpoints[0].ports == {"http": 9000}
    assert (made.location, made.resolution) == ("MESH_INTERNAL", "STATIC")


def test_defaults_are_istios():
    made = spec("ServiceEntry", "hosts: [a.b]\nresolution: STATIC\nworkloadSelector: {labels: {app: a}}")
    assert made.location == "MESH_EXTERNAL"
    assert made.workload_selector == WorkloadSelector(labels={"app": "a"})
