"""A parent's care for its workers, which are fake: small programs that speak the protocol."""

from __future__ import annotations

import os
import signal
import socket
import sys

import pytest
import trio

from mesh.errors import MeshError
from mesh.net.http import Request
from mesh.workers.supervisor import Gone
from tests.mesh.workers.parent import Parent, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
HELLO = Request("GET", "/hello", {}, {})
DIE = Request("POST", "/die", {}, {})


async def test_ready_when_all_serve_and_gone_when_told_to_leave() -> None:
    async with running(Parent(3)) as parent:
        workers = parent.supervisor.workers
        assert all(worker.ready is not None for worker in workers)
        assert parent.ready == workers[0].ready
        assert len({worker.ready["web"] for worker in workers if worker.ready}) == 1
        assert parent.supervisor.served.is_set()
        pids = [worker.pid for worker in workers]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_questions_are_answered_by_whom_they_are_put_to() -> None:
    async with running(Parent()) as parent:
        for worker in parent.supervisor.workers:
            response = await worker.ask(HELLO)
            assert f'"pid":{worker.pid}'.encode() in response.body


@pytest.mark.parametrize("how", ["SIGKILL", "exited"])
async def test_a_dead_worker_is_replaced_and_counted(how: str) -> None:
    async with running(Parent()) as parent:
        first, second = parent.supervisor.workers
        pid, other = first.pid, second.pid
        died = []
        parent.supervisor.on_death = lambda worker: died.append((worker.index, worker.generation))
        if how == "SIGKILL":
            os.kill(pid, signal.SIGKILL)
        else:
            with pytest.raises(Gone):
                await first.ask(DIE)
        await parent.until(lambda: first.generation == 2 and first.ready)
        assert first.pid != pid
        assert second.pid == other
        assert died == [(0, 1)]
        assert parent.deaths(how) == 1
        assert parent.ready is not None
        assert first.ready == parent.ready, "it has the same port"
        assert any(event == "a worker died" for event, _ in parent.log.lines)


async def test_what_was_queued_for_the_dead_is_there_for_the_replacement() -> None:
    async with running(Parent(1)) as parent:
        (worker,) = parent.supervisor.workers
        assert parent.ready is not None
        host, _, port = parent.ready["web"].rpartition(":")
        with socket.create_connection((host, int(port))) as waiting:
            os.kill(worker.pid, signal.SIGKILL)
            await parent.until(lambda: worker.generation == 2 and worker.ready)
            waiting.setblocking(False)
            with pytest.raises(BlockingIOError):  # neither closed nor reset
                waiting.recv(1)


async def test_a_replacement_that_fails_gives_its_share_away_and_is_tried_again() -> None:
    async with running(Parent()) as parent:
        first = parent.supervisor.workers[0]
        parent.orders[0]["fail"] = "no certificate"
        os.kill(first.pid, signal.SIGKILL)
        await parent.until(lambda: parent.deaths("start_failed"))
        assert any("take a dead worker's share" in event for event, _ in parent.log.lines)
        assert any(fields.get("reason") == "no certificate" for _, fields in parent.log.lines)
        del parent.orders[0]["fail"]
        await parent.until(lambda: first.ready)
        assert first.ready["web"] == (parent.ready or {})["web"]


async def test_one_that_cannot_start_is_the_failure_of_all() -> None:
    parent = Parent()
    parent.orders[1]["fail"] = "the configuration is not valid"
    with pytest.RaisesGroup(
        pytest.RaisesExc(MeshError, match="the configuration is not valid"), flatten_subgroups=True
    ):
        async with running(parent):
            pytest.fail("it is not ready")
    with pytest.raises(ProcessLookupError):
        os.kill(parent.supervisor.workers[0].pid, 0)


async def test_told_to_leave_before_all_serve() -> None:
    parent = Parent()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            parent.supervisor.leave()
            assert await nursery.start(parent.supervisor.run) is None


async def test_a_cancelled_parent_leaves_nobody() -> None:
    parent = Parent(ignore_term=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(parent.supervisor.run)
        nursery.cancel_scope.cancel()
    for worker in parent.supervisor.workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, 0)


async def test_nobody_to_ask() -> None:
    with pytest.raises(Gone):
        await Parent().supervisor.workers[0].ask(HELLO)
