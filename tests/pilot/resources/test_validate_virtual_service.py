import pytest

from tests.pilot.faults import faults, paths, warnings

ROUTE = "http: [{route: [{destination: {host: r}}]}]\n"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("hosts: [r]", [""]),
        ("hosts: ['ba!r']\n" + ROUTE, ["hosts[0]"]),
        ("hosts: ['*']\n" + ROUTE, ["hosts[0]"]),
        ("hosts: ['*', a.com]\ngateways: [gw]\n" + ROUTE, ["hosts[1]"]),
        ("hosts: ['*.foo.com', '*.com']\n" + ROUTE, ["hosts[1]"]),
        ("hosts: [r, R]\n" + ROUTE, ["hosts[1]"]),
        ("hosts: [r]\ngateways: ['b@d']\n" + ROUTE, ["gateways[0]"]),
        ("hosts: [r]\nexportTo: [., default]\n" + ROUTE, ["exportTo[1]"]),
        ("gateways: [gw]\n" + ROUTE, ["gateways"]),
        ("tcp: [{route: [{destination: {host: r}}]}]\n", ["tcp"]),
        ("hosts: [a.com]\ntls: [{match: [], route: [{destination: {host: r}}]}]", ["tls[0].match"]),
        (
            "hosts: [a.com]\ntls: [{match: [{sniHosts: [b.com]}], route: [{destination: {host: r}}]}]",
            ["tls[0].match[0].sniHosts[0]"],
        ),
        ("hosts: [a.com]\ntls: [{match: [{sniHosts: []}]}]", ["tls[0].match[0].sniHosts", "tls[0].route"]),
        (
            "hosts: [a.com]\ntls: [{match: [{sniHosts: ['a*']}], route: [{destination: {host: r}}]}]",
            ["tls[0].match[0].sniHosts[0]"],
        ),
        ("hosts: [r]\ntcp: [{}]", ["tcp[0].route"]),
        (
            "hosts: [r]\ntcp: [{match: [{port: 70000, destinationSubnets: [x], sourceNamespace: a.b, "
            "sourceLabels: {a: '*'},"
            " gateways: ['']}], route: [{destination: {host: '*'}, weight: -1}]}]",
            [
                "tcp[0].match[0].destinationSubnets[0]",
                "tcp[0].match[0].port",
                "tcp[0].match[0].sourceLabels.a",
                "tcp[0].match[0].gateways[0]",
                "tcp[0].match[0].sourceNamespace",
                "tcp[0].route[0].weight",
                "tcp[0].route[0].destination.host",
            ],
        ),
        (
            "hosts: [r]\nhttp: [{match: [{headers: {'@request.auth.claims.x': {exact: y}}}], "
            "route: [{destination: {host: r}}]}]",
            ['http[0].match[0].headers["@request.auth.claims.x"]'],
        ),
        (
            "hosts: [r]\ngateways: [mesh, gw]\nhttp: [{match: [{gateways: [gw], "
            "withoutHeaders: {'@request.auth.claims[x]': {exact: y}}}], route: [{destination: {host: r}}]}]",
            ['http[0].match[0].withoutHeaders["@request.auth.claims[x]"]'],
        ),
        (
            "hosts: [a.com]\ngateways: [mesh]\n"
            "tls: [{match: [{sniHosts: [outbound_.80_._.a.com]}], route: [{destination: {host: r}}]}]",
            ["tls[0].match[0].sniHosts[0]"],
        ),
    ],
)
def test_broken_rules(spec, expected):
    assert [path.removeprefix("spec") for path in paths("VirtualService", spec)] == expected


@pytest.mark.parametrize(
    "spec",
    [
        "hosts: [r, 10.0.0.1]\n" + ROUTE,
        "hosts: ['*']\ngateways: [gw]\n" + ROUTE,
        ROUTE,
        "hosts: ['*.a.com']\ntls: [{match: [{sniHosts: [x.a.com]}], route: [{destination: {host: r}}]}]",
        "hosts: [r]\ntcp: [{route: [{destination: {host: r}}]}]",
        "hosts: [outbound_.80_._.a.b]\ngateways: [n/g]\n"
        "tls: [{match: [{sniHosts: [outbound_.80_._.a.b]}], route: [{destination: {host: r}}]}]",
        "hosts: [a.com]\ngateways: [gw]\n"
        "http: [{match: [{headers: {'@request.auth.claims.x': {exact: y}}}], route: [{destination: {host: r}}]}]",
    ],
)
def test_sound_rules(spec):
    assert faults("VirtualService", spec) == []


def test_doubtful_rules():
    assert warnings("VirtualService", "hosts: [r]\ngateways: [gw.ns.svc]\n" + ROUTE) == ["gateways[0]"]
    sni = "hosts: [10.0.0.1]\ntls: [{match: [{sniHosts: [10.0.0.1]}], route: [{destination: {host: r}}]}]"
    assert warnings("VirtualService", sni) == ["tls[0].match[0].sniHosts[0]"]
