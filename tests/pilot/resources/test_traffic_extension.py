from pilot.resources.traffic_extension import LuaConfig
from tests.pilot.faults import paths, spec


def test_every_field_decodes():
    made = spec(
        "TrafficExtension",
        """
        selector: {matchLabels: {app: a}}
        phase: STATS
        priority: 1
        match: [{mode: SERVER}]
        lua: {inlineCode: function envoy_on_request() end}
        """,
    )
    assert (made.phase, made.priority, made.match[0].mode) == ("STATS", 1, "SERVER")
    assert made.lua == LuaConfig(inline_code="function envoy_on_request() end")
    made = spec("TrafficExtension", "wasm: {url: a/b, pluginConfig: {a: 1}, failStrategy: FAIL_RELOAD, type: NETWORK}")
    assert (made.wasm.url, made.wasm.plugin_config, made.wasm.type) == ("a/b", {"a": 1}, "NETWORK")


def test_its_schema():
    assert paths("TrafficExtension", "lua: {inlineCode: ''}") == ["lua.inlineCode"]
    assert paths("TrafficExtension", "wasm: {sha256: '00'}") == ["wasm.sha256", "wasm.url"]
