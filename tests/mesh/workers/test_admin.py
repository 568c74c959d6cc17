"""The one admin port of several workers, which are fake. With real ones: tests/sockets/test_workers.py."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mesh.net.http import Request, Response
from mesh.workers.admin import Admin
from tests.mesh.workers.parent import Parent, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")


def compile_full(pattern: str) -> Callable[[bytes], bool]:
    compiled = re.compile(pattern.encode())
    return lambda value: compiled.fullmatch(value) is not None


class Asked:
    """A parent and its admin pages."""

    def __init__(self, parent: Parent) -> None:
        self.parent = parent
        self.workers = parent.supervisor.workers
        self.admin = Admin(parent.supervisor, parent.registry, compile_full)

    async def ask(self, path: str, method: str = "GET", host: str = "localhost", **query: str) -> Response:
        return await self.admin.handle(Request(method, path, query, {"host": host}))

    async def read(self, path: str, **query: str) -> Any:
        response = await self.ask(path, **query)
        assert response.status == 200
        return json.loads(response.body) if "json" in response.content_type else response.body.decode()


@asynccontextmanager
async def asked() -> AsyncIterator[Asked]:
    parent = Parent()
    found = Asked(parent)
    async with running(parent):
        yield found


async def test_lists_of_all_with_whose_they_are() -> None:
    async with asked() as it:
        assert (await it.read("/clusters"))["items"] == [{"worker": 0, "index": 0}, {"worker": 1, "index": 1}]


async def test_one_explains() -> None:
    async with asked() as it:
        assert (await it.read("/explain"))["pid"] == it.workers[0].pid


async def test_server_info_tells_of_each_and_of_the_whole() -> None:
    async with asked() as it:
        info = await it.read("/server_info")
        assert [(each["worker"], each["pid"], each["state"]) for each in info["workers"]] == [
            (worker.index, worker.pid, "LIVE") for worker in it.workers
        ]
        assert info["state"] == "LIVE"


async def test_counters_are_summed_and_outlive_a_worker() -> None:
    async with asked() as it:
        assert "requests_total 10\n" in await it.read("/stats/prometheus")
        assert "requests_total: 10\n" in await it.read("/stats", filter="requests")
        assert "trioweave_workers 2\n" in await it.read("/stats", format="prometheus")
        os.kill(it.workers[0].pid, signal.SIGKILL)
        await it.parent.until(lambda: it.workers[0].generation == 2 and it.workers[0].ready)
        page = await it.read("/stats/prometheus")
        assert "requests_total 15\n" in page
        assert 'trioweave_worker_deaths_total{reason="SIGKILL"} 1\n' in page
        assert not re.search("trioweave_scrape_bytes 0$", page, re.MULTILINE)
        assert (await it.ask("/stats", format="xml")).status == 400


async def test_ready_while_one_serves() -> None:
    parent = Parent()
    it = Asked(parent)
    response = await it.ask("/ready")
    assert (response.status, response.body) == (503, b"INITIALIZING\n")
    assert (await it.ask("/clusters")).status == 503
    assert (await it.ask("/explain")).status == 503
    assert (await it.ask("/server_info")).status == 503
    async with running(parent):
        parent.orders[0]["fail"] = "not now"
        os.kill(it.workers[0].pid, signal.SIGKILL)
        await parent.until(lambda: it.workers[0].ready is None)
        assert (await it.ask("/ready")).body == b"LIVE\n"
        assert (await it.read("/clusters"))["items"] == [{"worker": 1, "index": 1}]
        assert (await it.ask("/quitquitquit", "POST")).body == b"OK\n"
        assert (await it.ask("/ready")).body == b"DRAINING\n"


async def test_a_web_page_is_refused() -> None:
    assert (await Asked(Parent()).ask("/ready", host="evil.test")).status == 403
