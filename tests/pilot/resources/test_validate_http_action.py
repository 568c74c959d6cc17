import pytest

from pilot.resources.validate_http_action import GRPC_STATUS
from tests.pilot.faults import faults, paths, warnings

TO = "route: [{destination: {host: r}}]"


def broken(rule):
    return [path.removeprefix("http[0].") for path in paths("VirtualService", f"hosts: [r]\nhttp: [{{{rule}}}]")]


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ("{}", ["redirect"]),
        ("{uri: /a, prefixRewrite: /b}", ["redirect.prefixRewrite"]),
        ("{scheme: ftp}", ["redirect.scheme"]),
        ("{uri: /a, redirectCode: 400}", ["redirect.redirectCode"]),
        ("{port: 70000}", ["redirect.port"]),
        ("{port: 80, derivePort: FROM_REQUEST_PORT}", ["redirect.derivePort"]),
        ("{authority: a, redirectCode: 308}", []),
        ("{derivePort: FROM_REQUEST_PORT}", []),
    ],
)
def test_redirect(redirect, expected):
    assert broken(f"redirect: {redirect}") == expected


def test_a_prefix_to_rewrite_needs_a_prefix_matched():
    assert broken("match: [{uri: {exact: /a}}], redirect: {prefixRewrite: /b}") == ["redirect.prefixRewrite"]
    assert broken("match: [{uri: {prefix: /a}}, {port: 80}], redirect: {prefixRewrite: /b}") == []


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("directResponse: {status: 199}", ["directResponse.status"]),
        ("directResponse: {status: 601}", ["directResponse.status"]),
        ("directResponse: {status: 200, body: {string: a, bytes: YQ==}}", ["directResponse.body.bytes"]),
        ("directResponse: {status: 200, body: {string: '" + "a" * (1024 * 1024 + 1) + "'}}", ["directResponse.body"]),
        ("directResponse: {status: 503}", []),
        (f"rewrite: {{}}, {TO}", ["rewrite"]),
        (f"rewrite: {{uri: /a, uriRegexRewrite: {{match: a, rewrite: b}}}}, {TO}", ["rewrite.uriRegexRewrite"]),
        (f"rewrite: {{uriRegexRewrite: {{match: a}}}}, {TO}", ["rewrite.uriRegexRewrite"]),
        (f"rewrite: {{uriRegexRewrite: {{match: '[', rewrite: b}}}}, {TO}", ["rewrite.uriRegexRewrite.match"]),
        (f"rewrite: {{authority: a}}, {TO}", []),
        (f"retries: {{attempts: -1}}, {TO}", ["retries.attempts"]),
        (f"retries: {{attempts: 0, retryOn: 5xx}}, {TO}", ["retries"]),
        (f"retries: {{attempts: 0}}, {TO}", []),
        (
            f"retries: {{attempts: 1, retryOn: '5xx, 503,gateway-eror,600'}}, {TO}",
            ["retries.retryOn", "retries.retryOn"],
        ),
        (
            f"retries: {{attempts: 1, perTryTimeout: 1us, backoff: 0s}}, {TO}",
            ["retries.perTryTimeout", "retries.backoff"],
        ),
        (f"fault: {{}}, {TO}", ["fault"]),
        (
            f"fault: {{delay: {{fixedDelay: 0s, percentage: {{value: 101}}}}}}, {TO}",
            ["fault.delay.fixedDelay", "fault.delay.percentage.value"],
        ),
        (
            f"fault: {{delay: {{exponentialDelay: 1s}}}}, {TO}",
            ["fault.delay.exponentialDelay"],
        ),
        (
            f"fault: {{abort: {{httpStatus: 100, grpcStatus: NOPE, percentage: {{value: 0.00001}}}}}}, {TO}",
            [
                "fault.abort.httpStatus",
                "fault.abort.grpcStatus",
                "fault.abort.grpcStatus",
                "fault.abort.percentage.value",
            ],
        ),
        (f"fault: {{abort: {{http2Error: x, percentage: {{value: 1}}}}}}, {TO}", ["fault.abort.http2Error"]),
        (
            f"corsPolicy: {{allowOrigins: [{{}}, {{regex: '['}}, {{exact: a, regex: b}}], allowMethods: [get], "
            f"allowHeaders: ['a b'], maxAge: 1500ms}}, {TO}",
            [
                "corsPolicy.allowOrigins[0]",
                "corsPolicy.allowOrigins[1].regex",
                "corsPolicy.allowOrigins[2].regex",
                "corsPolicy.allowMethods[0]",
                "corsPolicy.allowHeaders[0]",
                "corsPolicy.maxAge",
            ],
        ),
    ],
)
def test_actions(rule, expected):
    assert broken(rule) == expected


def test_the_nearest_condition_is_named():
    (fault,) = faults(
        "VirtualService", f"hosts: [r]\nhttp: [{{retries: {{attempts: 1, retryOn: gateway-eror}}, {TO}}}]"
    )
    assert "gateway-eror" in fault


def test_what_does_nothing_is_told():
    assert warnings(
        "VirtualService",
        f"hosts: [r]\nhttp: [{{fault: {{delay: {{fixedDelay: 1s}}, abort: {{httpStatus: 500}}}}, {TO}}}]",
    ) == [
        "http[0].fault.delay",
        "http[0].fault.abort",
    ]
    large = "directResponse: {status: 200, body: {string: '" + "a" * (101 * 1024) + "'}}"
    assert warnings("VirtualService", f"hosts: [r]\nhttp: [{{{large}}}]") == ["http[0].directResponse.body"]


def test_grpc_codes_are_indexes():
    assert (GRPC_STATUS[0], GRPC_STATUS[14], GRPC_STATUS[16]) == ("OK", "UNAVAILABLE", "UNAUTHENTICATED")
