"""What a GET costs that comes and goes by HTTP/2, eight of them in flight, in counts that are the same in every run."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from mesh.net.tcp import TcpTransport
from tests.budget.test_budget import ASKED, WARM_UP, counted, objects_made
from tests.h2_rig import Http2Peer, Http2Upstream, PeerStream, gateway, http2_connected
from tests.rig import Serving, settle

IN_FLIGHT = 8
ROUNDS = 10

MAX_STEPS = 3  # a round: its requests wake the client's connection, its responses the upstream's, and one to spare
MAX_WRITES = 3
MAX_OBJECTS = (
    16  # heads and fields both ways, three events, streams of codec and exchange; record, body, tries, retries
)


class Together:
    """An upstream that answers its streams once `IN_FLIGHT` of them have come, all in one write."""

    def __init__(self) -> None:
        self._waiting: list[PeerStream] = []

    async def script(self, peer: Http2Peer, stream: PeerStream) -> None:
        self._waiting.append(stream)
        if len(self._waiting) == IN_FLIGHT:
            streams, self._waiting = self._waiting, []
            await peer.reply_together(streams, b"hello")


class Steps(trio.abc.Instrument):
    """Steps of the tasks that read connections, and every task that was born."""

    def __init__(self) -> None:
        self.steps = 0
        self.born: list[str] = []

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name == "connection" or task.name.startswith("upstream connection"):
            self.steps += 1

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.born.append(task.name)


@asynccontextmanager
async def steady() -> AsyncIterator[tuple[Serving, Http2Peer]]:
    """A gateway between two connections that are warm; `hold`: no window updates come between."""
    async with gateway(Http2Upstream(Together().script)) as proxy, http2_connected(proxy.port(), hold=True) as client:
        for _ in range(3):
            await client.ask_together(IN_FLIGHT)
        await settle()
        yield proxy, client


async def test_scheduler_steps_and_tasks() -> None:
    async with steady() as (_proxy, client):
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        for _ in range(ROUNDS):
            await client.ask_together(IN_FLIGHT)
        trio.lowlevel.remove_instrument(steps)
    served = IN_FLIGHT * ROUNDS  # the upstream of the test has a task for each of its streams; the proxy has none
    assert len(steps.born) == served
    assert all("_serve_stream" in name and "Http2Upstream" in name for name in steps.born), steps.born
    assert 0 < steps.steps <= MAX_STEPS * ROUNDS


async def test_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with steady() as (proxy, client):
        (endpoint,) = proxy.cluster().endpoints.values()
        writes: Counter[str] = Counter()
        for connection in (*proxy.dataplane.connections, *endpoint.streams.connections):
            transport = connection.transport
            assert isinstance(transport, TcpTransport)
            monkeypatch.setattr(transport, "_send", counted(transport._send, "write", writes))
        for _ in range(ROUNDS):
            await client.ask_together(IN_FLIGHT)
    assert 0 < writes["write"] <= MAX_WRITES * ROUNDS < IN_FLIGHT * ROUNDS


def test_objects() -> None:
    made = objects_made("http2")
    assert made["RequestHead"] == made["ResponseHead"] == made["Record"] == made["Http2Stream"] == ASKED > WARM_UP
    per_request = {name: count / ASKED for name, count in made.items()}
    assert sum(per_request.values()) <= MAX_OBJECTS, per_request
