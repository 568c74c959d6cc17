import pytest

from tests.pilot.faults import paths, warnings

TO = "route: [{destination: {host: r}}]"


def broken(rule):
    return [
        path.removeprefix("http[0]").removeprefix(".")
        for path in paths("VirtualService", f"hosts: [r]\nhttp: [{{{rule}}}]")
    ]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("name: nothing", [""]),
        (f"{TO}, redirect: {{uri: /a}}", ["redirect"]),
        (f"{TO}, directResponse: {{status: 200}}", ["directResponse"]),
        ("redirect: {uri: /a}, directResponse: {status: 200}", ["directResponse"]),
        ("redirect: {uri: /a}, fault: {abort: {httpStatus: 500, percentage: {value: 1}}}", ["fault"]),
        ("directResponse: {status: 200}, rewrite: {uri: /a}", ["rewrite"]),
        (f"delegate: {{name: d}}, {TO}", ["route"]),
        ("delegate: {name: d}, redirect: {uri: /a}", ["redirect"]),
        ("delegate: {name: d}", []),
        (f"match: [{{method: {{prefix: ''}}}}], {TO}", ["match[0].method.prefix"]),
        (f"match: [{{uri: {{prefix: ''}}}}], {TO}", []),
        (f"match: [{{uri: {{regex: ''}}}}], {TO}", ["match[0].uri.regex"]),
        (f"match: [{{uri: {{regex: '['}}}}], {TO}", ["match[0].uri.regex"]),
        (f"match: [{{uri: {{exact: a, prefix: b}}}}], {TO}", ["match[0].uri.prefix"]),
        (f"match: [{{headers: {{'': {{exact: a}}}}}}], {TO}", ['match[0].headers[""]']),
        (
            f"match: [{{headers: {{'a b': {{prefix: ''}}}}}}], {TO}",
            ['match[0].headers["a b"]', 'match[0].headers["a b"].prefix'],
        ),
        (f"match: [{{withoutHeaders: {{a: {{regex: '?'}}}}}}], {TO}", ["match[0].withoutHeaders.a.regex"]),
        (f"match: [{{withoutHeaders: {{a: {{regex: '*'}}}}}}], {TO}", []),
        (f"match: [{{headers: {{a: null}}}}], {TO}", ["match[0].headers.a"]),
        (f"match: [{{queryParams: {{a: {{regex: '['}}}}}}], {TO}", ["match[0].queryParams.a.regex"]),
        (
            f"match: [{{port: 70000, sourceNamespace: a.b, sourceLabels: {{a: 'b c'}}, gateways: ['x@']}}], {TO}",
            ["match[0].port", "match[0].sourceLabels.a", "match[0].gateways[0]", "match[0].sourceNamespace"],
        ),
        (f"timeout: 0s, {TO}", ["timeout"]),
        (f"mirror: {{host: a}}, mirrors: [{{destination: {{host: b}}}}], {TO}", ["mirrors"]),
        (f"mirror: {{host: '*'}}, mirrorPercent: 101, {TO}", ["mirror.host", "mirrorPercent"]),
        (f"mirror: {{host: a}}, mirrorPercentage: {{value: -1}}, {TO}", ["mirrorPercentage.value"]),
        (f"mirrors: [{{destination: {{host: b}}, percentage: {{value: 101}}}}], {TO}", ["mirrors[0].percentage.value"]),
        (
            f"headers: {{request: {{set: {{'': a}}, add: {{':path': b}}, remove: [host]}}}}, {TO}",
            ['headers.request.set[""]', 'headers.request.add[":path"]', "headers.request.remove[0]"],
        ),
        (
            f"headers: {{response: {{set: {{host: a}}, add: {{x: 'a%b'}}}}}}, {TO}",
            ["headers.response.set.host", "headers.response.add.x"],
        ),
        (
            f"headers: {{request: {{set: {{':authority': a}}}}}}, rewrite: {{authority: b}}, {TO}",
            ['headers.request.set[":authority"]'],
        ),
        (f"headers: {{request: {{set: {{host: a}}, add: {{Host: b}}}}}}, {TO}", ["headers.request.add.Host"]),
        ("route: [{destination: {host: r}, weight: -1}]", ["route[0].weight"]),
        ("route: [{destination: {host: r}}, {destination: {host: s}}]", ["route"]),
        (
            "route: [{destination: {host: r, subset: a.b, port: {number: 0}}}]",
            ["route[0].destination.subset", "route[0].destination.port.number"],
        ),
        (
            "route: [{destination: {host: 'a*b'}, headers: {request: {remove: ['']}}}]",
            ["route[0].destination.host", "route[0].headers.request.remove[0]"],
        ),
        ("route: [{destination: {host: 10.0.0.1}}]", ["route[0].destination.host"]),
        ("match: [{headers: {':path': {exact: a}}}], route: [{destination: {host: r}}]", []),
        (
            "match: [{headers: {':other': {exact: a}, '@request.auth.claims': {exact: a}}}], "
            "route: [{destination: {host: r}}]",
            ['match[0].headers[":other"]', 'match[0].headers["@request.auth.claims"]'],
        ),
    ],
)
def test_rules(rule, expected):
    assert broken(rule) == expected


def test_a_delegate_does_not_delegate():
    assert paths("VirtualService", "http: [{delegate: {name: d}}]") == ["http[0].delegate"]


def test_deprecated_fields_are_told():
    assert warnings("VirtualService", f"hosts: [r]\nhttp: [{{mirror: {{host: a}}, mirrorPercent: 5, {TO}}}]") == [
        "http[0].mirrorPercent"
    ]
