import pytest
import trio

from pilot.sources.files import FileSource
from tests.pilot.sources.test_folder import namespace


@pytest.fixture
async def watched(tmp_path, autojump_clock):
    (tmp_path / "a.yaml").write_text(namespace("a", v="one"))
    source = FileSource(tmp_path)
    changes = source.changes()
    with trio.fail_after(60):
        yield tmp_path, source, changes
    await changes.aclose()


async def test_first_everything_then_steps(watched):
    folder, _, changes = watched
    assert [o.name for o in (await anext(changes)).upserts] == ["a"]
    (folder / "b.yaml").write_text(namespace("b"))
    change = await anext(changes)
    assert [o.name for o in change.upserts] == ["b"]
    assert change.deletes == ()
    (folder / "b.yaml").unlink()
    change = await anext(changes)
    assert change.upserts == ()
    assert change.deletes == (("Namespace", "", "b"),)


async def test_a_change_is_seen_within_one_poll(watched):
    folder, _, changes = watched
    await anext(changes)
    (folder / "a.yaml").write_text(namespace("a", v="changed"))
    start = trio.current_time()
    await anext(changes)
    assert trio.current_time() - start == pytest.approx(0.05, abs=0.02)


async def test_an_object_that_moved_in_its_file_is_told_again(watched):
    folder, _, changes = watched
    await anext(changes)
    (folder / "a.yaml").write_text("# a comment\n" + namespace("a", v="one"))
    (moved,) = (await anext(changes)).upserts
    assert moved.origin("metadata").line == 4


async def test_faults_come_and_go(watched):
    folder, source, changes = watched
    await anext(changes)
    (folder / "a.yaml").write_text("x: [")
    change = await anext(changes)
    assert (change.upserts, change.deletes) == ((), ())
    assert len(change.errors) == 1
    assert source.faults() == change.errors
    (folder / "a.yaml").write_text(namespace("a", v="one"))
    change = await anext(changes)
    assert change.errors == source.faults() == ()


async def test_an_empty_start_is_a_change_too(tmp_path, autojump_clock):
    changes = FileSource(tmp_path / "none").changes()
    change = await anext(changes)
    assert change.upserts == ()
    assert "No such file" in change.errors[0].what
    await changes.aclose()
