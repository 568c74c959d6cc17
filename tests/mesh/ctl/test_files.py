import io
import sys

import pytest

from mesh.ctl.files import load
from mesh.errors import MeshError


def namespace(name):
    return f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"


def test_files_folders_and_repetition(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.yml").write_text(namespace("b"))
    (tmp_path / "a.txt").write_text(namespace("a"))
    (tmp_path / "bad.yaml").write_text("x: [")
    loaded = load([str(tmp_path / "a.txt"), str(tmp_path), str(tmp_path / "sub" / "b.yml")])
    assert [o.name for o in loaded.objects] == ["a", "b"]
    assert [e.file for e in loaded.errors] == [str(tmp_path / "bad.yaml")]
    assert loaded.notices == []
    assert not loaded.readable


def test_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(namespace("a").encode())))
    loaded = load(["-"])
    assert [(o.name, o.file) for o in loaded.objects] == [("a", "<stdin>")]


def test_the_first_of_two_counts(tmp_path):
    (tmp_path / "a.yaml").write_text(namespace("a"))
    (tmp_path / "b.yaml").write_text("\n" + namespace("a"))
    loaded = load([str(tmp_path)])
    assert [o.file for o in loaded.objects] == [str(tmp_path / "a.yaml")]
    assert [(n.file, n.line) for n in loaded.notices] == [(str(tmp_path / "b.yaml"), 2)]


def test_paths_that_are_not_there(tmp_path):
    with pytest.raises(MeshError, match="nothing: cannot be read: No such file"):
        load([str(tmp_path / "nothing")])
    with pytest.raises(MeshError, match=r"no file in this folder ends in \.yaml"):
        load([str(tmp_path)])
