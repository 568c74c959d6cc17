"""Last good resources on disk."""

import stat
from pathlib import Path

import trio

from agent.last_good import LastGood
from mesh.feed.message import Push
from tests.feed_rig import FakeLog


async def test_kept_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "state" / "snapshot.json"
    keeper = LastGood(path, FakeLog())
    assert await keeper.load() is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.keep)
        keeper.note(Push(1))
        keeper.note(Push(2, full=True))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await LastGood(path, FakeLog()).load() == Push(2, full=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keeper.saved == 1


async def test_unusable_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    for content in (b"nonsense", b'{"type":"welcome","session":"s"}'):
        path.write_bytes(content)
        log = FakeLog()
        assert await LastGood(path, log).load() is None
        assert bool(log.lines) == (content == b"nonsense")


async def test_unwritable_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    path.mkdir()
    (path / "inside").touch()
    log = FakeLog()
    keeper = LastGood(path, log)
    keeper.note(Push(1))
    with trio.move_on_after(0):
        await keeper.keep()
    assert keeper.failures == 1
    assert "cannot be written" in log.lines[0][0]


async def test_of_several_workers_one_writes(tmp_path: Path) -> None:
    path = tmp_path / "snapshot.json"
    reader = LastGood(path, FakeLog(), writes=False)
    reader.note(Push(1))
    with trio.move_on_after(0):
        await reader.keep()
    assert not path.exists()
