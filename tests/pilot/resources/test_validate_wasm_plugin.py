import pytest

from tests.pilot.faults import paths


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("url: test.com/plugin", []),
        ("url: file:///opt/plugin.wasm", []),
        ("url: /opt/plugin.wasm", []),
        ("url: ftp://test.com", ["url"]),
        ("url: localhost:5000/plugin", ["url"]),
        ('url: "http://a\\tb"', ["url"]),
        ("url: a/b\nvmConfig: {env: [{name: A}, {name: A}]}", ["vmConfig.env[1].name"]),
        ("url: a/b\nvmConfig: {env: [{name: A, value: b, valueFrom: HOST}]}", ["vmConfig.env[0].value"]),
        ("url: a/b\nmatch: [{ports: [{number: 1}, {number: 1}]}]", ["match[0].ports[1].number"]),
    ],
)
def test_rules(spec, expected):
    assert paths("WasmPlugin", spec) == expected
