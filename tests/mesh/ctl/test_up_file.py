"""The file of `meshctl up`: what it means, and what is told of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.ctl import up_file
from mesh.errors import MeshError
from pilot.resources.registry import load

GOOD = """services:
  web: {run: python 'my web.py', port: 8080}
  api: {run: python api.py, version: v1, replicas: 2, env: {DEBUG: "1"}, labels: {team: a}, cwd: src, restart: false}
  db: {run: ./db, port: 3306, service_port: 13306, protocol: tcp, health: tcp}
expose: web
config: mesh
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "mesh.yaml"
    file.write_text(text)
    for name in ("src", "mesh"):
        (folder / name).mkdir(exist_ok=True)
    return file


def test_a_good_file_becomes_workloads(tmp_path: Path) -> None:
    mesh_file, errors = up_file.read(write(tmp_path, GOOD))
    assert errors == []
    assert mesh_file is not None
    web, first, second, db = up_file.workloads(mesh_file, tmp_path)
    assert (web.name, web.service, web.argv, web.app_port) == ("web", "web", ("python", "my web.py"), 8080)
    assert (web.cwd, web.restart) == (tmp_path.resolve(), True)
    assert (first.name, second.name, first.service) == ("api-1", "api-2", "api")
    assert first.labels == {"app": "api", "version": "v1", "team": "a"}
    assert (first.version, first.env, first.app_port, first.restart) == ("v1", {"DEBUG": "1"}, 0, False)
    assert (web.health, db.health) == ("", "tcp")
    assert first.cwd == (tmp_path / "src").resolve()


def test_a_good_file_becomes_objects_that_the_pilot_takes(tmp_path: Path) -> None:
    mesh_file, _ = up_file.read(write(tmp_path, GOOD))
    assert mesh_file is not None
    loaded = load(up_file.objects(mesh_file), "up.yaml")
    assert loaded.errors == []
    keys = [(obj.kind, obj.name) for obj in loaded.objects]
    assert keys == [
        ("Service", "web"),
        ("Service", "api"),
        ("Service", "db"),
        ("Gateway", "expose"),
        ("VirtualService", "expose"),
    ]
    ports = [(entry.called_at, entry.protocol) for entry in mesh_file.services.values()]
    assert ports == [(8080, "http"), (80, "http"), (13306, "tcp")]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "services:\n  web: {run: a, prot: 1}\n",
            "mesh.yaml:2:17 services.web.prot: unknown field; did you mean port?",
        ),
        ("services:\n  web: {}\n", "mesh.yaml:2:3 services.web.run: is required; add it"),
        ("services: {}\n", "mesh.yaml:1:1 services: no service; add one"),
        ("services: [\n", "not YAML"),
        ("", "0 documents; write one with `services:`"),
        ("services:\n  Web: {run: a}\n", 'mesh.yaml:2:3 services.Web: "Web" is no service name'),
        ("services:\n  web: {run: ''}\n", "services.web.run: no command"),
        ('services:\n  web: {run: "a \'b"}\n', "services.web.run: cannot be split into words"),
        ("services:\n  web: {run: a, port: 70000}\n", "services.web.port: 70000 is no port"),
        ("services:\n  web: {run: a, protocol: udp}\n", 'unknown protocol "udp"; write http, http2, grpc, tcp'),
        (
            "services:\n  web: {run: a, health: ready}\n",
            '"ready" is no way to check; write tcp, grpc, or a path such as /health',
        ),
        ("services:\n  web: {run: a, replicas: 0}\n", "0 replicas; write a number from 1 to 50"),
        ("services:\n  web: {run: a, replicas: 2, port: 80}\n", "2 replicas cannot share port 80; leave `port` out"),
        ("services:\n  web: {run: a, cwd: none}\n", "services.web.cwd: none is not a folder"),
        ("services:\n  web: {run: a}\nexpose: api\n", "mesh.yaml:3:1 expose: there is no service api; name one of web"),
        ("services:\n  web: {run: a}\nconfig: none\n", "mesh.yaml:3:1 config: none is not a folder"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    mesh_file, errors = up_file.read(write(tmp_path, text))
    assert mesh_file is None
    assert complaint in "\n".join(map(str, errors))


def test_the_file_is_found_by_its_usual_names(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match=r"neither mesh\.yaml nor trioweave\.yaml is here; write one such as"):
        up_file.find_file(None, tmp_path)
    (tmp_path / "trioweave.yaml").touch()
    assert up_file.find_file(None, tmp_path).name == "trioweave.yaml"
    (tmp_path / "mesh.yaml").touch()
    assert up_file.find_file(None, tmp_path).name == "mesh.yaml"
    with pytest.raises(MeshError, match=r"other\.yaml: no such file"):
        up_file.find_file("other.yaml", tmp_path)
