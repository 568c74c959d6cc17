import pytest

from tests.pilot.faults import paths

GATEWAY = "{group: gateway.networking.k8s.io, kind: Gateway, name: a}"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (f"targetRefs: [{GATEWAY}, {{kind: Service, name: a}}, {{group: core, kind: Service, name: b}}]", []),
        ("targetRef: {group: networking.istio.io, kind: ServiceEntry, name: a}", []),
        ("targetRefs: [{group: apps, kind: Deployment, name: a}]", ["targetRefs[0].kind"]),
        ("targetRefs: [{kind: Service, name: a, namespace: b}]", ["targetRefs[0].namespace"]),
        (f"targetRefs: [{GATEWAY}]\ntargetRef: {GATEWAY}", ["targetRef"]),
        (f"targetRefs: [{GATEWAY}]\nselector: {{matchLabels: {{a: b}}}}", ["selector"]),
        ("targetRefs: [" + ", ".join([GATEWAY] * 17) + "]", ["targetRefs"]),
        ("selector: {matchLabels: {a: '*'}}", ["selector.matchLabels.a"]),
    ],
)
def test_a_policy_selects_or_refers(spec, expected):
    assert paths("RequestAuthentication", spec) == expected


def test_an_envoy_filter_selects_by_another_name():
    assert paths("EnvoyFilter", f"targetRefs: [{GATEWAY}]\nworkloadSelector: {{labels: {{a: b}}}}") == [
        "workloadSelector"
    ]
