from pilot.resources.workload import HttpHeader
from tests.pilot.faults import spec


def test_every_field_of_an_entry_decodes():
    made = spec(
        "WorkloadEntry",
        "address: 10.0.0.1\nports: {http: 80}\nlabels: {a: b}\nnetwork: n\nlocality: r/z\nweight: 2\nserviceAccount: s",
    )
    assert (made.address, made.ports, made.weight, made.service_account) == ("10.0.0.1", {"http": 80}, 2, "s")


def test_every_field_of_a_group_decodes():
    made = spec(
        "WorkloadGroup",
        """
        metadata: {labels: {a: b}, annotations: {c: d}}
        template: {serviceAccount: s, ports: {http: 80}}
        probe:
          initialDelaySeconds: 1
          timeoutSeconds: 2
          periodSeconds: 3
          successThreshold: 4
          failureThreshold: 5
          httpGet: {port: 80, path: /, host: h, scheme: HTTP, httpHeaders: [{name: a, value: b}]}
        """,
    )
    assert made.probe.http_get.http_headers == (HttpHeader(name="a", value="b"),)
    assert made.metadata.labels == {"a": "b"}
