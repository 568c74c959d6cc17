import pytest

from tests.pilot.faults import faults, paths, warnings


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{}", []),
        (
            "tracing: [{customTags: {a: {literal: {value: b}, header: {name: c}}}}]",
            ["tracing[0].customTags.a.header"],
        ),
        (
            "metrics: [{overrides: [{match: {metric: ALL_METRICS, customMetric: a}}]}]",
            ["metrics[0].overrides[0].match.customMetric"],
        ),
        ("metrics: [{overrides: [{tagOverrides: {a: {}}}]}]", ["metrics[0].overrides[0].tagOverrides.a.value"]),
        (
            "metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE, value: b}}}]}]",
            ["metrics[0].overrides[0].tagOverrides.a.value"],
        ),
        ("metrics: [{reportingInterval: 1us}]", ["metrics[0].reportingInterval"]),
        ("accessLogging: [{filter: {expression: 'response.code >='}}]", ["accessLogging[0].filter.expression"]),
        ("accessLogging: [{filter: {expression: response.code >= 400}}]", []),
    ],
)
def test_rules(spec, expected):
    assert paths("Telemetry", spec) == expected


def test_a_filter_that_is_none_says_where():
    assert faults("Telemetry", "accessLogging: [{filter: {expression: 'a b'}}]") == [
        "accessLogging[0].filter.expression: not a CEL expression: unexpected 'b' at character 3"
    ]


def test_what_has_no_effect_is_told():
    spec = "tracing: [{providers: [{name: a}, {name: b}]}, {}]"
    assert warnings("Telemetry", spec) == ["tracing[1]", "tracing[0].providers[1]"]
