from tests.pilot.faults import paths, warnings


def test_rules():
    assert paths("ProxyConfig", "concurrency: -1") == ["concurrency"]
    assert paths("ProxyConfig", "environmentVariables: {A: " + "b" * 2049 + "}") == ["environmentVariables.A"]
    assert paths("ProxyConfig", "selector: {matchLabels: {a: 'b*'}}") == ["selector.matchLabels.a"]
    assert warnings("ProxyConfig", "selector: {}") == ["selector.matchLabels"]
