import pytest

from pilot.resources.registry import load

VS = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: r, namespace: ns}\nspec:\n"
RULE = "  hosts: [r]\n  http:\n  - route:\n    - destination: {host: r}\n"


def errors(text):
    return [str(e) for e in load(text, "f.yaml").errors]


def test_a_good_object():
    loaded = load(VS + RULE, "f.yaml")
    assert not loaded.errors
    (obj,) = loaded.objects
    assert (obj.kind, obj.api_version, obj.key) == (
        "VirtualService",
        "networking.istio.io/v1",
        ("VirtualService", "ns", "r"),
    )


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_versions_of_one_kind(version):
    assert not errors((VS + RULE).replace("istio.io/v1", f"istio.io/{version}"))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("istio.io/v1", "istio.io/v2", "apiVersion: VirtualService has no version v2; write one of"),
        (
            "VirtualService",
            "VirtualServices",
            "kind: no kind VirtualServices in networking.istio.io; did you mean Virt",
        ),
        ("networking.istio.io/v1", "istio.io/v1", "VirtualService is not in istio.io/v1; write networking.istio.io/v1"),
        ("kind: VirtualService\n", "", "kind: is required"),
        ("apiVersion: networking.istio.io/v1\n", "", "apiVersion: is required"),
        ("name: r, ", "", "metadata.name: is required"),
        ("metadata: {name: r, namespace: ns}", "metadata: []", "metadata: must be a mapping"),
        ("spec:", "spce: {}\nspec:", "spce: unknown field; did you mean spec?"),
        ("  http:", "  htpp:", "spec.htpp: unknown field; did you mean http?"),
    ],
)
def test_what_a_header_may_lack(old, new, expected):
    assert any(expected in e for e in errors((VS + RULE).replace(old, new, 1)))


def test_an_error_has_place_object_path_and_remedy():
    text = VS + RULE + "    timeout: 1s\n    retries: {attempts: 2, perTryTimeuot: 1s}\n"
    assert errors(text) == [
        "f.yaml:10:28 VirtualService/ns/r spec.http[0].retries.perTryTimeuot: unknown field; "
        "did you mean perTryTimeout?"
    ]


def test_schema_and_rules_are_told_together_without_echoes():
    text = VS + "  hosts: [r]\n  http:\n  - route:\n    - destination: {hots: r}\n    timeout: 0s\n"
    found = errors(text)
    assert len(found) == 3
    assert any(".hots: unknown field" in e for e in found)
    assert any(".host: is required" in e for e in found)
    assert any("timeout: the duration is shorter" in e for e in found)


def test_a_broken_object_gives_its_key_and_no_object():
    loaded = load(VS + RULE.replace("host:", "hsot:"), "f.yaml")
    assert loaded.objects == []
    assert loaded.broken == [("VirtualService", "ns", "r")]
    assert loaded.readable


def test_one_broken_document_does_not_hide_the_others():
    loaded = load(VS + "  hosts: 1\n---\n" + VS.replace("name: r", "name: s") + RULE, "f.yaml")
    assert [o.name for o in loaded.objects] == ["s"]
    assert loaded.errors


def test_a_syntax_error_says_that_more_may_be_hidden():
    loaded = load(VS + RULE + "---\na: [", "f.yaml")
    assert [o.name for o in loaded.objects] == ["r"]
    assert not loaded.readable


def test_lists_are_flattened_with_their_places():
    text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n- 5\n"
    loaded = load(text, "f.yaml")
    assert [o.key for o in loaded.objects] == [("Namespace", "", "a")]
    assert loaded.objects[0].origin("metadata").line == 6
    assert [(e.line, e.what) for e in loaded.errors] == [(7, "an object must be a mapping, not the number 5")]


def test_foreign_kinds_get_a_notice():
    loaded = load("apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {anything: 1}\n", "f.yaml")
    assert not loaded.objects
    assert not loaded.errors
    assert [n.level for n in loaded.notices] == ["foreign"]


def test_known_kinds_that_are_not_served_get_a_notice():
    text = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {anything: 1}\n"
    loaded = load(text, "f.yaml")
    assert not loaded.objects
    assert not loaded.errors
    assert [(n.level, n.kind) for n in loaded.notices] == [("not_served", "K8sGateway")]


def test_kubernetes_kinds_are_tolerant_where_the_mesh_does_not_look():
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, uid: u}\n"
    text += "spec: {volumes: [1], nodeName: n}\nstatus: {podIP: 1.2.3.4}\n"
    (obj,) = load(text, "f.yaml").objects
    assert obj.spec.node_name == "n"
    assert obj.status.pod_ip == "1.2.3.4"


def test_kubernetes_kinds_without_a_version_are_taken_with_a_warning():
    loaded = load("kind: Namespace\nmetadata: {name: n}\n", "f.yaml")
    assert loaded.objects[0].api_version == "v1"
    assert [n.what for n in loaded.notices] == ["apiVersion is missing"]


def test_a_name_that_kubernetes_would_refuse_is_a_blemish():
    loaded = load("apiVersion: v1\nkind: Namespace\nmetadata: {name: a b}\n", "f.yaml")
    assert loaded.objects
    assert [e.path for e in loaded.blemishes] == ["metadata.name"]
    bad_namespace = load((VS + RULE).replace("namespace: ns", "namespace: N_S"), "f.yaml")
    assert [e.path for e in bad_namespace.blemishes] == ["metadata.namespace"]


def test_a_spec_that_is_required():
    text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s}\n"
    assert errors(text) == ["f.yaml:1:1 ServiceEntry/default/s spec: is required; write the object's fields below spec"]


def test_defaults_of_metadata():
    (obj,) = load("apiVersion: v1\nkind: Service\nmetadata: {name: s, generateName: x}\n", "f.yaml").objects
    assert obj.namespace == "default"
    assert load("apiVersion: v1\nkind: Service\nmetadata: {generateName: x-}\n", "f.yaml").objects
