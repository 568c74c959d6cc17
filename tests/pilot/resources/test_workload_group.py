from pilot.resources.workload_group import HttpHeader
from tests.pilot.faults import spec


def test_every_field_decodes():
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
