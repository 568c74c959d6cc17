import pytest

from tests.pilot.faults import paths

LUA = "lua: {inlineCode: a}"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (LUA, []),
        ("phase: AUTHN", [""]),
        (f"{LUA}\nwasm: {{url: a/b}}", ["lua"]),
        ("wasm: {url: ftp://a}", ["wasm.url"]),
        ("wasm: {url: a/b, vmConfig: {env: [{name: A}, {name: A}]}}", ["wasm.vmConfig.env[1].name"]),
        (f"{LUA}\nmatch: [{{ports: [{{number: 1}}, {{number: 1}}]}}]", ["match[0].ports[1].number"]),
        (f"{LUA}\nselector: {{matchLabels: {{a: b}}}}\ntargetRefs: [{{kind: Service, name: a}}]", ["selector"]),
    ],
)
def test_rules(spec, expected):
    assert [path.removeprefix("spec") for path in paths("TrafficExtension", spec)] == expected
