import pytest

from pilot.resources.target_ref import TargetRef
from tests.pilot.faults import paths, spec

ONE = "targetRefs: [{%s}]"


def test_every_field_decodes():
    made = spec("Telemetry", ONE % "group: gateway.networking.k8s.io, kind: Gateway, name: web, namespace: ''")
    assert made.target_refs == (TargetRef(group="gateway.networking.k8s.io", kind="Gateway", name="web"),)


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("kind: Service", ["targetRefs[0].name"]),
        ("name: a", ["targetRefs[0].kind"]),
        ("kind: '', name: ''", ["targetRefs[0].kind", "targetRefs[0].name"]),
        ("kind: Ser_vice, name: a", ["targetRefs[0].kind"]),
        ("kind: Service, name: a, group: Core", ["targetRefs[0].group", "targetRefs[0].kind"]),
        ("kind: Service, name: " + "a" * 254, ["targetRefs[0].name"]),
    ],
)
def test_its_schema(ref, expected):
    assert paths("Telemetry", ONE % ref) == expected
