import os

import pytest

from pilot.sources.folder import Folder, config_files, duplicate


def namespace(name, **labels):
    pairs = "".join(f"{k}: {v}, " for k, v in labels.items())
    return f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{pairs}}}}}\n"


def names(folder):
    return sorted(obj.name for obj in folder.view.objects.values())


def errors(folder):
    return [str(e) for e in folder.view.errors]


def label(folder, name):
    return folder.view.objects["Namespace", "", name].meta.labels.get("v")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.yaml").write_text(namespace("a", v="one"))
    made = Folder([tmp_path])
    assert made.look()
    assert not made.look()
    return made


def test_which_files_count(tmp_path):
    for name in ("b.yaml", "a.yml", "c.json", "d.txt", ".hidden.yaml", "sub/e.yaml", ".git/f.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "linked.yaml").symlink_to(tmp_path / "d.txt")
    found = [str(path.relative_to(tmp_path)) for path in config_files(tmp_path)]
    assert found == ["a.yml", "b.yaml", "c.json", "linked.yaml", "sub/e.yaml"]
    assert list(config_files(tmp_path / "d.txt")) == [tmp_path / "d.txt"]
    with pytest.raises(FileNotFoundError):
        list(config_files(tmp_path / "nothing"))


def test_only_what_changed_is_read_again(folder, tmp_path):
    before = folder.view.objects["Namespace", "", "a"]
    (tmp_path / "b.yaml").write_text(namespace("b"))
    assert folder.look()
    assert names(folder) == ["a", "b"]
    assert folder.view.objects["Namespace", "", "a"] is before
    assert folder.size == 2


def test_a_change_counts_at_once(folder, tmp_path):
    (tmp_path / "a.yaml").write_text(namespace("a", v="longer"))
    assert folder.look()
    assert label(folder, "a") == "longer"


def test_a_touched_file_is_no_change(folder, tmp_path):
    os.utime(tmp_path / "a.yaml", ns=(1, 1))
    assert not folder.look()


def test_a_write_within_the_clocks_tick_is_seen_at_the_next_look(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(namespace("a", v="one"))
    os.utime(path, ns=(5, 5))
    folder = Folder([tmp_path])
    folder.look()
    path.write_text(namespace("a", v="two"))
    os.utime(path, ns=(5, 5))
    assert folder.look()
    assert label(folder, "a") == "two"


def test_a_removed_file_is_gone_at_the_second_look(folder, tmp_path):
    (tmp_path / "a.yaml").unlink()
    assert not folder.look()
    assert folder.look()
    assert names(folder) == []


def test_a_file_that_is_replaced_by_remove_and_create_is_never_gone(folder, tmp_path):
    (tmp_path / "a.yaml").unlink()
    folder.look()
    (tmp_path / "a.yaml").write_text(namespace("a", v="three"))
    assert folder.look()
    assert label(folder, "a") == "three"


def test_a_truncated_file_keeps_its_objects_until_it_is_still_so(folder, tmp_path):
    (tmp_path / "a.yaml").write_text("")
    assert not folder.look()
    assert names(folder) == ["a"]
    assert folder.look()
    assert names(folder) == []


def test_a_broken_file_keeps_its_last_good_objects_and_tells_why(folder, tmp_path):
    (tmp_path / "a.yaml").write_text(namespace("a") + "---\nx: [\n")
    folder.look()
    assert folder.look()
    assert label(folder, "a") == "one"
    assert len(errors(folder)) == 1
    assert errors(folder)[0].startswith(f"{tmp_path}/a.yaml:6:1: not YAML")
    (tmp_path / "a.yaml").write_text(namespace("a", v="good again"))
    assert folder.look()
    assert errors(folder) == []
    assert label(folder, "a") == "good again"


def test_a_broken_object_keeps_its_last_good_version_and_the_others_go_through(folder, tmp_path):
    (tmp_path / "a.yaml").write_text(namespace("a", v="1") + "---\n" + namespace("b"))
    folder.look()
    folder.look()
    assert names(folder) == ["a", "b"]
    assert label(folder, "a") == "one"
    assert [e.path for e in folder.view.errors] == ["metadata.labels.v"]


def test_a_file_broken_from_the_start_gives_what_it_has_before_the_fault(tmp_path):
    (tmp_path / "a.yaml").write_text(namespace("a") + "---\nx: [\n")
    (tmp_path / "b.yaml").write_text(namespace("b"))
    folder = Folder([tmp_path])
    folder.look()
    assert names(folder) == ["a", "b"]
    assert len(errors(folder)) == 1


def test_the_first_file_has_an_object_that_two_define(folder, tmp_path):
    (tmp_path / "b.yaml").write_text(
        "\n" + namespace("a", v="other") + "---\n" + namespace("c") + "---\n" + namespace("c")
    )
    folder.look()
    assert label(folder, "a") == "one"
    assert [str(e) for e in folder.view.errors] == [
        f"{tmp_path}/b.yaml:10:1 Namespace//c: is defined already in {tmp_path}/b.yaml:6, which counts; "
        "keep one of the two",
        f"{tmp_path}/b.yaml:2:1 Namespace//a: is defined already in {tmp_path}/a.yaml:1, which counts; "
        "keep one of the two",
    ]
    (tmp_path / "a.yaml").unlink()
    folder.look()
    folder.look()
    assert label(folder, "a") == "other"


def test_a_file_that_cannot_be_read_keeps_its_objects(folder, tmp_path):
    path = tmp_path / "a.yaml"
    path.unlink()
    os.mkfifo(path)
    assert folder.look()
    assert names(folder) == ["a"]
    assert "is not a regular file" in errors(folder)[0]
    assert not folder.look()
    path.unlink()
    path.write_text(namespace("a", v="back"))
    assert folder.look()
    assert errors(folder) == []


def test_a_root_that_is_not_there_is_a_fault_until_it_is(tmp_path):
    root = tmp_path / "later"
    folder = Folder([root])
    assert folder.look()
    assert "cannot be read: No such file" in errors(folder)[0]
    assert not folder.look()
    root.mkdir()
    (root / "a.yaml").write_text(namespace("a"))
    assert folder.look()
    assert errors(folder) == []
    (root / "a.yaml").unlink()
    root.rmdir()
    for _ in range(3):
        folder.look()
    assert names(folder) == ["a"]
    assert errors(folder)


def test_a_folder_below_that_may_not_be_read(folder, tmp_path):
    below = tmp_path / "below"
    below.mkdir()
    (below / "b.yaml").write_text(namespace("b"))
    folder.look()
    below.chmod(0)
    try:
        if os.access(below, os.R_OK):
            pytest.skip("this user reads everything")
        for _ in range(3):
            folder.look()
        assert names(folder) == ["a", "b"]
        assert "Permission denied" in errors(folder)[0]
        with pytest.raises(PermissionError):
            list(config_files(tmp_path))
    finally:
        below.chmod(0o700)


def test_blemishes_and_notices_are_told(tmp_path):
    (tmp_path / "s.yaml").write_text("kind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]}\n")
    folder = Folder([tmp_path])
    folder.look()
    assert names(folder) == ["s"]
    assert [n.path for n in folder.view.notices] == ["kind", "spec.ports[0].name"]


def test_a_duplicate_tells_both_places(folder):
    obj = folder.view.objects["Namespace", "", "a"]
    assert obj.file in str(duplicate(obj, obj))
