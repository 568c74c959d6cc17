"""apply, delete and get against a real pilot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mesh.ctl.main import cli
from mesh.ctl.objects import kind_name
from mesh.errors import MeshError
from tests.mesh.ctl.small_mesh import CONFIG, SmallMesh, sidecar, small_mesh

SAMPLES = CONFIG.parent / "samples"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallMesh]:
    with small_mesh(tmp_path_factory.mktemp("pilot")) as running:
        yield running


def test_apply_get_and_delete_one_object(mesh: SmallMesh) -> None:
    sample = str(SAMPLES / "ratings-delay.yaml")
    assert mesh.meshctl("apply", "-f", sample).output.startswith("VirtualService/default/ratings created\n")
    assert "VirtualService/default/ratings unchanged" in mesh.meshctl("apply", "-f", sample, "--wait").output
    shown = mesh.meshctl("get", "vs", "ratings", "-o", "yaml")
    assert shown.exit_code == 0
    assert shown.output in Path(sample).read_text()
    assert "fixedDelay: 2s" in shown.output
    both = mesh.meshctl("get", "svc", "-o", "yaml").output
    assert both.count("kind: Service\n") == 4
    assert both.count("---\n") == 3
    deleted = mesh.meshctl("delete", "virtualservices", "ratings", "--wait")
    assert (deleted.exit_code, deleted.output) == (0, "VirtualService/default/ratings deleted\n")
    assert mesh.meshctl("get", "vs", "ratings").exit_code == 1
    again = mesh.meshctl("delete", "vs", "ratings")
    assert again.exit_code == 2
    assert "there is no VirtualService/default/ratings" in again.output


def test_apply_takes_stdin_and_folders_and_prints_json(mesh: SmallMesh, tmp_path: Path) -> None:
    text = (SAMPLES / "ratings-abort.yaml").read_bytes()
    applied = mesh.meshctl("apply", "-f", "-", "-o", "json", input=text)
    assert [each["result"] for each in json.loads(applied.stdout)["objects"]] == ["created"]
    (tmp_path / "inner").mkdir()
    (tmp_path / "one.yaml").write_bytes(text)
    (tmp_path / "inner" / "two.yml").write_bytes((SAMPLES / "reviews-90-10.yaml").read_bytes())
    assert mesh.meshctl("apply", "-f", str(tmp_path)).output.count("VirtualService/default/") >= 2
    assert mesh.meshctl("delete", "-f", str(tmp_path)).output.count("deleted") == 2


def test_a_faulty_file_changes_nothing_and_is_named_with_its_line(mesh: SmallMesh, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_bytes((SAMPLES / "reviews-90-10.yaml").read_bytes().replace(b"weight: 90", b"wieght: 90"))
    refused = mesh.meshctl("apply", "-f", str(SAMPLES / "ratings-delay.yaml"), "-f", str(bad))
    assert refused.exit_code == 2
    assert "nothing was changed:" in refused.output
    assert f"{bad}:" in refused.output
    assert "did you mean weight?" in refused.output
    assert mesh.meshctl("get", "vs", "ratings").exit_code == 1


def test_a_route_to_a_subset_that_nobody_serves_is_reported_by_name(mesh: SmallMesh, tmp_path: Path) -> None:
    route = tmp_path / "v9.yaml"
    route.write_bytes((SAMPLES / "reviews-90-10.yaml").read_bytes().replace(b"subset: v3", b"subset: v9"))
    with sidecar(mesh, "ratings", "v1"):
        applied = mesh.meshctl("apply", "-f", str(route), "--wait")
    assert applied.exit_code == 0
    assert "VirtualService/default/reviews created" in applied.stdout
    assert 'no DestinationRule defines subset "v9" of reviews' in applied.stderr
    mesh.meshctl("delete", "-f", str(route))


def test_objects_are_listed_with_their_source(mesh: SmallMesh) -> None:
    listed = mesh.meshctl("get").output
    assert "DestinationRule" in listed
    assert "destination-rules.yaml:" in listed
    services = json.loads(mesh.meshctl("get", "services", "-o", "json").stdout)
    assert [each["name"] for each in services] == ["details", "productpage", "ratings", "reviews"]
    assert mesh.meshctl("get", "svc", "-n", "elsewhere", "-o", "json").stdout.strip() == "[]"


def test_an_object_of_the_configuration_folder_is_not_deletable(mesh: SmallMesh) -> None:
    refused = mesh.meshctl("delete", "dr", "reviews")
    assert refused.exit_code == 2
    assert "destination-rules.yaml" in refused.output


def test_wrong_usage_says_what_to_write(mesh: SmallMesh, tmp_path: Path) -> None:
    assert "write -f PATH" in mesh.meshctl("apply").output
    assert "write either KIND NAME or -f PATH" in mesh.meshctl("delete", "vs").output
    assert "No such file" in mesh.meshctl("apply", "-f", str(tmp_path / "none.yaml")).output
    assert "no file in it ends in" in mesh.meshctl("apply", "-f", str(tmp_path)).output


def test_a_wrong_token_changes_nothing(mesh: SmallMesh, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("not-the-token-of-this-pilot")
    words = ["--pilot", mesh.ready["dashboard"], "--token-file", str(token)]
    refused = CliRunner().invoke(cli, ["delete", "vs", "ratings", *words])
    assert refused.exit_code == 2
    assert "the token is missing or wrong" in refused.output


def test_kinds_go_by_every_usual_spelling() -> None:
    for spelling in ("vs", "virtualservice", "VirtualServices", "VIRTUALSERVICE"):
        assert kind_name(spelling) == "VirtualService"
    assert kind_name("serviceentries") == "ServiceEntry"
    assert kind_name("gatewayclasses") == "GatewayClass"
    with pytest.raises(MeshError, match="unknown kind virtualservce; did you mean VirtualService"):
        kind_name("virtualservce")


def test_an_object_whose_file_is_gone_is_shown_as_it_was_understood(mesh: SmallMesh) -> None:
    mesh.meshctl("apply", "-f", str(SAMPLES / "ratings-abort.yaml"))
    kept = mesh.state_dir / "applied" / "VirtualService.default.ratings.yaml"
    kept.unlink()
    text = mesh.meshctl("get", "vs", "ratings", "-o", "yaml").stdout
    mesh.meshctl("delete", "vs", "ratings")
    assert '"httpStatus": 503' in text
    assert "redirect" not in text
