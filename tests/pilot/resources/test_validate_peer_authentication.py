import pytest

from tests.pilot.faults import paths, warnings


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("mtls: {mode: BLAH}", ["mtls.mode"]),
        ("portLevelMtls: {80: {mode: STRICT}}", ["portLevelMtls"]),
        ("selector: {matchLabels: {a: b}}\nportLevelMtls: {}", ["portLevelMtls"]),
        (
            "selector: {matchLabels: {a: b}}\nportLevelMtls: {0: {}, 65536: {}, x: {}}",
            ["portLevelMtls.x", "portLevelMtls.0", "portLevelMtls.65536"],
        ),
        ("selector: {matchLabels: {a: '*'}}", ["selector.matchLabels.a"]),
        ("selector: {matchLabels: {a: b}}\nportLevelMtls: {80: {mode: STRICT}}", []),
        ("mtls: {}", []),
    ],
)
def test_rules(spec, expected):
    assert sorted(paths("PeerAuthentication", spec)) == sorted(expected)


def test_an_empty_selector_is_doubtful():
    assert warnings("PeerAuthentication", "selector: {}") == ["selector.matchLabels"]
