from pilot.resources.telemetry import CustomTag, MetricSelector, ProviderRef, TagOverride, TagSource
from tests.pilot.faults import paths, spec


def test_every_field_decodes():
    made = spec(
        "Telemetry",
        """
        selector: {matchLabels: {app: a}}
        tracing:
          - match: {mode: CLIENT}
            providers: [{name: zipkin}]
            randomSamplingPercentage: 10
            disableSpanReporting: false
            customTags: {a: {header: {name: x-a, defaultValue: none}}}
            enableIstioTags: true
            useRequestIdForTraceSampling: false
            disableContextPropagation: true
        metrics:
          - providers: [{name: prometheus}]
            reportingInterval: 5s
            overrides:
              - match: {metric: REQUEST_COUNT, mode: SERVER}
                disabled: true
                tagOverrides: {a: {operation: REMOVE}}
        accessLogging:
          - match: {mode: SERVER}
            providers: [{name: envoy}]
            disabled: false
            filter: {expression: response.code >= 400}
        """,
    )
    tracing, metrics, logging = made.tracing[0], made.metrics[0], made.access_logging[0]
    assert (tracing.random_sampling_percentage, tracing.match.mode) == (10, "CLIENT")
    assert tracing.custom_tags == {"a": CustomTag(header=TagSource(name="x-a", default_value="none"))}
    assert metrics.overrides[0].match == MetricSelector(metric="REQUEST_COUNT", mode="SERVER")
    assert metrics.overrides[0].tag_overrides == {"a": TagOverride(operation="REMOVE")}
    assert metrics.reporting_interval == 5
    assert (logging.providers, logging.disabled) == ((ProviderRef(name="envoy"),), False)
    assert logging.filter.expression == "response.code >= 400"


def test_its_schema():
    spec = (
        "tracing: [{randomSamplingPercentage: 101, providers: [{name: ''}], customTags: {a: null, b: {literal: {}}}}]"
    )
    assert paths("Telemetry", spec) == [
        "tracing[0].randomSamplingPercentage",
        "tracing[0].providers[0].name",
        "tracing[0].customTags.a",
        "tracing[0].customTags.b.literal.value",
    ]
    assert paths("Telemetry", "metrics: [{overrides: [{match: {metric: ALL, customMetric: ''}}]}]") == [
        "metrics[0].overrides[0].match.metric",
        "metrics[0].overrides[0].match.customMetric",
    ]
