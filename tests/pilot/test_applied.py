"""Applied objects on disk."""

from pathlib import Path

from pilot.applied import AppliedFiles, split

ONE = """# why this is here
apiVersion: v1
kind: Service
metadata: {name: one}
spec: {ports: [{port: 80}]}
"""
TWO = """apiVersion: v1
kind: Service
metadata: {name: two}
spec: {ports: [{port: 80}]}
"""


def test_documents_keep_their_text() -> None:
    assert list(split(f"---\n{ONE}--- # next\n{TWO}\n---\n")) == [ONE, TWO]


def test_lists_are_taken_apart() -> None:
    text = '{"apiVersion":"v1","kind":"List","items":[{"kind":"A"},{"kind":"B"}]}'
    assert ['"A"' in piece for piece in split(text)] == [True, False]


def test_stored_loaded_removed(tmp_path: Path) -> None:
    applied = AppliedFiles(tmp_path / "applied")
    assert applied.load().objects == []
    stored = applied.store(f"{ONE}---\n{TWO}")
    assert [obj.name for obj in stored] == ["one", "two"]
    assert Path(stored[0].file).read_text() == ONE
    assert stored[0].mark[0] == 2
    assert [obj.name for obj in applied.load().objects] == ["one", "two"]
    applied.remove(stored[0].key)
    applied.remove(stored[0].key)
    assert [obj.name for obj in applied.load().objects] == ["two"]


def test_broken_files_are_reported(tmp_path: Path) -> None:
    applied = AppliedFiles(tmp_path)
    applied.store(ONE)
    (tmp_path / "bad.yaml").write_text("kind: [")
    loaded = applied.load()
    assert len(loaded.objects) == 1
    assert loaded.errors[0].file.endswith("bad.yaml")
