import pytest

from tests.pilot.faults import paths, warnings


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("weight: 1", ["address"]),
        ("address: 'unix://relative'", ["address"]),
        ("address: 'unix:///dir/'\nports: {a: 1}", ["address", "ports"]),
        ("address: 'a.b:80'", ["address"]),
        ("address: 10.0.0.1\nports: {'@': 1, b: 0}\nlabels: {a: '-'}", ['ports["@"]', "ports.b", "labels.a"]),
        ("address: 10.0.0.1", []),
        ("address: 2001:db8::1", []),
        ("address: a.b", []),
        ("address: 'unix://@x'", []),
    ],
)
def test_entries(spec, expected):
    assert paths("WorkloadEntry", spec) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("metadata: {}", ["template"]),
        ("template: {}\nprobe: {}", ["probe"]),
        (
            "template: {}\nprobe: {tcpSocket: {port: 0}, grpc: {port: 70000}}",
            ["probe.grpc", "probe.tcpSocket.port", "probe.grpc.port"],
        ),
        (
            "template: {}\nprobe: {exec: {command: []}, periodSeconds: -1}",
            ["probe.periodSeconds", "probe.exec.command"],
        ),
        (
            "template: {}\nprobe: {httpGet: {port: 1, scheme: FTP, httpHeaders: [{name: '**'}]}}",
            ["probe.httpGet.scheme", "probe.httpGet.httpHeaders[0].name"],
        ),
        ("template: {ports: {a: 0}}\nmetadata: {labels: {a: '-'}}", ["template.ports.a", "metadata.labels.a"]),
        ("template: {address: 'unix:///a', ports: {b: 1}}", ["template.ports"]),
        ("template: {serviceAccount: s}\nprobe: {tcpSocket: {port: 1}}", []),
    ],
)
def test_groups(spec, expected):
    assert paths("WorkloadGroup", spec) == expected


def test_an_address_is_doubtful():
    assert warnings("WorkloadGroup", "template: {address: 10.0.0.1}") == ["template.address"]
