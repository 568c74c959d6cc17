import pytest

from pilot.resources.meta import ObjectMeta
from pilot.resources.registry import load
from pilot.resources.validate_authorization_policy import is_dry_run
from tests.pilot.faults import paths, warnings

KIND = "AuthorizationPolicy"


def source(fields):
    return "rules: [{from: [{source: {" + fields + "}}]}]"


def operation(fields):
    return "rules: [{to: [{operation: {" + fields + "}}]}]"


def when(fields):
    return "rules: [{when: [{" + fields + "}]}]"


S, O, W = "rules[0].from[0].source", "rules[0].to[0].operation", "rules[0].when[0]"  # noqa: E741
REF = "{group: gateway.networking.k8s.io, kind: Gateway, name: web}"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{}", []),
        ("rules: [{}]", []),
        ("action: DENY", ["rules"]),
        ("action: CUSTOM\nprovider: {name: p}", ["rules"]),
        ("action: CUSTOM\nrules: [{}]", ["provider"]),
        ("rules: [{}]\nprovider: {name: p}", ["provider"]),
        ("selector: {matchLabels: {a: '*'}}", ["selector.matchLabels.a"]),
        ("targetRef: " + REF, []),
        ("targetRef: " + REF + "\nselector: {matchLabels: {a: b}}", ["selector"]),
        ("targetRef: " + REF + "\ntargetRefs: [" + REF + "]", ["targetRef"]),
        ("targetRefs: [" + ", ".join([REF] * 17) + "]", ["targetRefs"]),
        ("targetRefs: [{kind: Pod, namespace: x}]", [f"targetRefs[0].{n}" for n in ("kind", "name", "namespace")]),
        ("rules: [{from: [], to: [], when: []}]", ["rules[0].from", "rules[0].to", "rules[0].when"]),
        ("rules: [{from: [{}], to: [{operation: {}}]}]", [S, O]),
        (source("principals: [a, '']"), [S + ".principals[1]"]),
        (source("ipBlocks: [10.0.0.0/33, '']"), [S + ".ipBlocks[0]", S + ".ipBlocks[1]"]),
        (source("serviceAccounts: [a], namespaces: [b]"), [S]),
        (source("serviceAccounts: ['a*', a/b/c]"), [S + ".serviceAccounts[0]", S + ".serviceAccounts[1]"]),
        (source("serviceAccounts: [" + "a" * 321 + "]"), [S + ".serviceAccounts[0]"]),
        (source("serviceAccounts: [" + "a, " * 17 + "]"), [S + ".serviceAccounts"]),
        (source("trustDomains: [a/b]"), [S + ".trustDomains[0]"]),
        (operation("ports: ['80', x, '70000', '']"), [f"{O}.ports[{n}]" for n in (1, 2, 3)]),
        (
            operation("paths: ['/a/{*}/b/{**}', '/{**}/{*}', '/{x}', '/{*}/a b']"),
            [f"{O}.paths[{n}]" for n in (1, 2, 3)],
        ),
        (when("values: [a]"), [W + ".key"]),
        (when("key: '', values: [a]"), [W + ".key"]),
        (when("key: nothing, values: [a]"), [W + ".key"]),
        (when("key: source.namespace"), [W]),
        (when("key: source.ip, notValues: [a]"), [W + ".notValues[0]"]),
        (when("key: destination.port, values: [a]"), [W + ".values[0]"]),
        (when("key: source.serviceAccount, values: ['*']"), [W + ".values[0]"]),
        (when("key: source.trustDomain, values: [a/b]"), [W + ".values[0]"]),
        (when("key: 'request.headers[:authority]', values: ['']"), [W + ".values[0]"]),
        (when("key: 'request.auth.claims[a][b]', values: [x]"), []),
        (
            "action: CUSTOM\nprovider: {name: p}\n"
            "rules: [{from: [{source: {principals: [a]}}], when: [{key: source.namespace, values: [a]}]}]",
            [S + ".principals", W + ".key"],
        ),
    ],
)
def test_rules(spec, expected):
    assert sorted(paths(KIND, spec)) == sorted(expected)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("action: DENY\nrules: [{to: [{operation: {methods: [POST]}}]}]", ["rules[0]"]),
        ("action: DENY\nrules: [{from: [{source: {requestPrincipals: [a/b]}}]}]", ["rules[0]"]),
        ("action: DENY\nrules: [{to: [{operation: {methods: [POST], ports: ['80']}}]}]", []),
        ("rules: [{to: [{operation: {methods: [POST]}}]}]", []),
        ("selector: {}", ["selector.matchLabels"]),
    ],
)
def test_doubts(spec, expected):
    assert warnings(KIND, spec) == expected


@pytest.mark.parametrize(
    ("value", "action", "faults", "told"),
    [("true", "ALLOW", 0, 1), ("false", "DENY", 0, 0), ("maybe", "ALLOW", 1, 0), ("true", "AUDIT", 1, 0)],
)
def test_dry_runs(value, action, faults, told):
    text = f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p, annotations: {{istio.io/dry-run: "{value}"}}}}
spec: {{action: {action}, rules: [{{}}]}}
"""
    loaded = load(text, "f.yaml")
    assert len(loaded.errors) == faults
    assert sum(notice.level == "warning" for notice in loaded.notices) == told
    assert is_dry_run(ObjectMeta(annotations={"istio.io/dry-run": value})) is (value == "true")


def test_what_is_not_served_is_told_by_name():
    text = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec:
  action: CUSTOM
  provider: {name: opa}
  rules:
  - when: [{key: "experimental.envoy.filters.a[b]", values: [x]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: q}
spec:
  rules:
  - from: [{source: {requestPrincipals: ["*"], notRequestPrincipals: [a/b]}}]
    when: [{key: "request.auth.claims[a]", values: [x]}, {key: source.ip, values: [1.2.3.4]}]
"""
    found = [(n.name, n.path) for n in load(text, "f.yaml").notices if n.level == "not_served"]
    assert found == [
        ("p", "spec.action"),
        ("p", "spec.rules[0].when[0].key"),
        ("q", "spec.rules[0].from[0].source.requestPrincipals"),
        ("q", "spec.rules[0].from[0].source.notRequestPrincipals"),
        ("q", "spec.rules[0].when[0].key"),
    ]
