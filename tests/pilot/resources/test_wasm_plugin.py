from pilot.resources.wasm_plugin import EnvVar, MatchedPort, TrafficSelector
from tests.pilot.faults import loaded, paths, spec


def test_every_field_decodes():
    made = spec(
        "WasmPlugin",
        """
        url: oci://registry/plugin:1
        selector: {matchLabels: {app: a}}
        imagePullPolicy: IfNotPresent
        imagePullSecret: s
        verificationKey: k
        pluginConfig: {any: {thing: [1]}}
        pluginName: n
        phase: AUTHN
        priority: 10
        failStrategy: FAIL_OPEN
        vmConfig: {env: [{name: A, value: b}, {name: C, valueFrom: HOST}]}
        match: [{mode: CLIENT, ports: [{number: 80}]}]
        type: HTTP
        """,
    )
    assert (made.phase, made.priority, made.fail_strategy, made.type) == ("AUTHN", 10, "FAIL_OPEN", "HTTP")
    assert made.plugin_config == {"any": {"thing": [1]}}
    assert made.vm_config.env == (EnvVar(name="A", value="b"), EnvVar(name="C", value_from="HOST"))
    assert made.match == (TrafficSelector(mode="CLIENT", ports=(MatchedPort(number=80),)),)


def test_its_schema():
    assert paths("WasmPlugin", "sha256: A1\nimagePullSecret: ''\npluginName: " + "a" * 257) == [
        "sha256",
        "imagePullSecret",
        "pluginName",
        "url",
    ]
    assert paths("WasmPlugin", "url: a/b\nmatch: [{ports: [{}, {number: 0}]}]\nvmConfig: {env: [{}]}") == [
        "match[0].ports[0].number",
        "match[0].ports[1].number",
        "vmConfig.env[0].name",
    ]
    assert [e.path for e in loaded("WasmPlugin", "").errors] == ["spec"]
