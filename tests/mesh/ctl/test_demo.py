"""The demo's parts; the whole is driven by tests/sockets/test_demo.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

from mesh.ctl import demo, volley
from mesh.ctl.local_mesh import open_local_mesh
from mesh.errors import MeshError
from pilot.resources.registry import load

DEADLINE = 90.0


def test_the_bookstore_is_found_with_every_service_of_the_demo() -> None:
    store = demo.bookstore()
    assert all((store / f"{service}.py").is_file() for service, _ in demo.WORKLOADS)


def test_a_missing_bookstore_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo, "__file__", str(tmp_path / "mesh" / "ctl" / "demo.py"))
    with pytest.raises(MeshError, match="install trioweave again"):
        demo.bookstore()


@pytest.mark.parametrize("folder", ["mesh", "samples"])
def test_the_bookstores_yaml_is_valid(folder: str) -> None:
    files = sorted((demo.bookstore() / folder).glob("*.yaml"))
    assert files
    for file in files:
        loaded = load(file.read_bytes(), str(file))
        assert [*loaded.errors, *loaded.blemishes, *loaded.notices] == []


@pytest.mark.slow
async def test_everything_starts_and_the_page_is_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with trio.fail_after(DEADLINE):
        async with open_local_mesh(lambda name, line: None, prefix="test") as mesh:
            running = await demo.start(mesh, demo.bookstore(), 0)
            reply = await trio.to_thread.run_sync(volley.ask, running.gateway, "/productpage")
            assert reply.status == 200
            assert running.page == f"http://{running.gateway}/productpage"
            assert len(mesh.supervisor.processes) == len(demo.WORKLOADS) + 2


@pytest.mark.slow
async def test_a_service_whose_app_is_not_well_is_named_by_who_lacks_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(demo, "_WHOLE_TIME", 1.0)
    store = tmp_path / "bookstore"
    shutil.copytree(demo.bookstore(), store)
    (store / "ratings.py").write_text("import signal; signal.pause()")
    with trio.fail_after(DEADLINE):
        async with open_local_mesh(lambda name, line: None, prefix="test") as mesh:
            with pytest.raises(MeshError, match=r"not every agent can reach(?s:.*)gateway lacks .*ratings-v1"):
                await demo.start(mesh, store, 0)
