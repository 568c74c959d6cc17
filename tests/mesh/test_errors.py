from __future__ import annotations

from mesh.errors import ConfigError, MeshError


def test_config_error_reads_place_object_field_fault_and_remedy() -> None:
    error = ConfigError(
        "weight is negative",
        remedy="write 0 to 100",
        path="spec.http[0].route[1].weight",
        kind="VirtualService",
        namespace="default",
        name="reviews",
        file="vs.yaml",
        line=12,
        column=7,
    )
    assert str(error) == (
        "vs.yaml:12:7 VirtualService/default/reviews spec.http[0].route[1].weight: weight is negative; write 0 to 100"
    )


def test_config_error_says_input_when_the_file_is_unknown() -> None:
    assert str(ConfigError("broken")) == "<input>:0:0: broken"


def test_config_error_is_caught_as_mesh_error_and_keeps_its_parts() -> None:
    error = ConfigError("broken", path="a.b", remedy="mend it")
    assert isinstance(error, MeshError)
    assert (error.what, error.path, error.remedy, error.line) == ("broken", "a.b", "mend it", 0)
