import pytest

from tests.pilot.faults import paths, warnings

HTTP = "ports: [{number: 80, name: http, protocol: HTTP}]\n"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("hosts: []\n" + HTTP, ["hosts"]),
        ("hosts: ['*', 'a*', 'a..b']\n" + HTTP, ["hosts[0]", "hosts[1]", "hosts[2]"]),
        ("hosts: [" + ", ".join(f"a{n}" for n in range(257)) + "]\n" + HTTP, ["hosts"]),
        ("hosts: [a.b]\naddresses: [x]\n" + HTTP, ["addresses[0]"]),
        ("hosts: [a.b]\nresolution: DNS\naddresses: [10.0.0.0/8]\n" + HTTP, ["addresses"]),
        (
            "hosts: [a.b]\nports: [{number: 0, name: a}, {number: 1, name: '@'}, {number: 1, name: c}, "
            "{number: 2, name: c}]",
            ["ports[0].number", "ports[1].name", "ports[2].number", "ports[3].name"],
        ),
        (
            "hosts: [a.b]\nports: [{number: 1, targetPort: 70000, protocol: kafka}]",
            ["ports[0].name", "ports[0].targetPort", "ports[0].protocol"],
        ),
        ("hosts: [a.b]\nendpoints: [{address: 1.1.1.1}]\n" + HTTP, ["endpoints"]),
        (
            "hosts: [a.b]\nresolution: STATIC\nworkloadSelector: {labels: {a: b}}\nendpoints: [{address: 1.1.1.1}]\n"
            + HTTP,
            ["workloadSelector"],
        ),
        (
            "hosts: [a.b]\nresolution: STATIC\nworkloadSelector: {labels: {a: '*'}}\n" + HTTP,
            ["workloadSelector.labels.a"],
        ),
        ("hosts: [a.b]\nresolution: STATIC\nendpoints: [{address: a.b}]\n" + HTTP, ["endpoints[0].address"]),
        (
            "hosts: [a.b]\nresolution: STATIC\nendpoints: [{address: 'unix:///a', ports: {http: 1}}]\n",
            ["endpoints[0].address", "endpoints[0].ports"],
        ),
        ("hosts: [a.b]\nresolution: STATIC\nendpoints: [{address: 'unix://a'}]\n" + HTTP, ["endpoints[0].address"]),
        ("hosts: [a.b]\nresolution: STATIC\nendpoints: [{}]\n" + HTTP, ["endpoints[0].address"]),
        (
            "hosts: [a.b]\nresolution: STATIC\nendpoints: [{address: 1.1.1.1, ports: {http: 0, "
            "other: 1}, labels: {a: '-'}}]\n" + HTTP,
            ["endpoints[0].ports.http", "endpoints[0].ports.other", "endpoints[0].labels.a"],
        ),
        ("hosts: ['*.a.b']\nresolution: DNS\n" + HTTP, ["hosts[0]"]),
        ("hosts: ['*.a.b']\nresolution: DNS\nworkloadSelector: {labels: {a: b}}\n" + HTTP, ["hosts[0]"]),
        ("hosts: [a.b]\nresolution: DNS\nendpoints: [{network: n}]\n" + HTTP, ["endpoints[0].address"]),
        ("hosts: [a.b, c.d]\nresolution: STATIC\nports: [{number: 1, name: t, protocol: TCP}]", ["hosts"]),
        ("hosts: [a.b, c.d]\nports: [{number: 1, name: t, protocol: TCP}]", []),
        ("hosts: ['*.a.b']\nresolution: DNS\nendpoints: [{address: '*.c'}]\n" + HTTP, ["endpoints[0].address"]),
        ("hosts: [a.b]\nresolution: DNS\nendpoints: [{address: 'unix:///a'}]\n" + HTTP, ["endpoints[0].address"]),
        (
            "hosts: [a.b]\nresolution: DNS_ROUND_ROBIN\nendpoints: [{address: a.b}, {address: c.d}]\n" + HTTP,
            ["endpoints"],
        ),
        (
            "hosts: [a.b]\nresolution: DYNAMIC_DNS\naddresses: [1.1.1.1]\n"
            "endpoints: [{address: a.b}]\nports: [{number: 1, name: a, protocol: TCP}]",
            ["hosts[0]", "endpoints", "addresses", "ports[0].protocol"],
        ),
        ("hosts: ['*.a.b']\nresolution: DYNAMIC_DNS\n" + HTTP, []),
        (
            "hosts: [a.b]\nresolution: DNS\nendpoints: [{address: 1.1.1.1}, {address: c.d, ports: {http: 8080}}]\n"
            + HTTP,
            [],
        ),
        ("hosts: [a.b]\nexportTo: ['*', '.']\n" + HTTP, ["exportTo"]),
    ],
)
def test_rules(spec, expected):
    assert paths("ServiceEntry", spec) == expected


def test_doubtful_entries():
    assert warnings("ServiceEntry", "hosts: ['*x']\n" + HTTP) == ["hosts[0]"]
    assert warnings("ServiceEntry", "hosts: [a.b]\nworkloadSelector: {}\n" + HTTP) == [
        "workloadSelector.labels",
        "workloadSelector",
    ]
    tcp = "hosts: [a.b]\nresolution: DNS\nports: [{number: 1, name: t, protocol: TCP}]"
    assert warnings("ServiceEntry", tcp) == ["ports[0]"]
    assert warnings("ServiceEntry", "hosts: [a.b]\nresolution: STATIC\nendpoints: [{network: n}]\n" + HTTP) == [
        "endpoints[0].address"
    ]
