"""A living cluster before scripted upstreams, and whole exchanges on its leases, for tests of clusters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from agent.codec.headers import Headers
from agent.codec.message import END, End, RequestHead
from agent.upstream.cluster import Cluster
from agent.upstream.endpoint import Endpoint
from agent.upstream.http1 import Http1Connection
from tests.rig import ScriptedUpstream, cluster, idle_counts, make_cluster, until


@asynccontextmanager
async def living(*upstreams: ScriptedUpstream, **fields: Any) -> AsyncIterator[Cluster]:
    """A cluster of these upstreams (one echo without any) that holds nothing when the body is done."""
    fields.setdefault("lb_policy", "round_robin")
    how = {key: fields.pop(key) for key in ("identity", "refused") if key in fields}
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            ups = upstreams or (ScriptedUpstream(),)
            for each in ups:
                await nursery.start(_run, each)
            made = make_cluster(cluster(**fields), *(each.port for each in ups), **how)
            with idle_counts(made):
                yield made
            made.close()
            assert made.limits.connections.held == 0
            await until(lambda: all(each.open == 0 for each in ups))
            nursery.cancel_scope.cancel()


async def _run(upstream: ScriptedUpstream, task_status: trio.TaskStatus[None]) -> None:
    async with upstream.running():
        task_status.started()
        await trio.sleep_forever()


def only(made: Cluster) -> Endpoint:
    [found] = made.endpoints.values()
    return found


async def ask(connection: Http1Connection, path: bytes = b"/") -> bytes:
    """One whole exchange on a leased connection."""
    head = RequestHead(b"GET", path, Headers([(b"host", b"app")]), authority=b"app")
    await connection.send_request(head, b"", END)
    await connection.read_head()
    body = b""
    while not isinstance(event := connection.next_event(), End):
        if event is None:
            await connection.fill()
        else:
            body += event
    return body


async def exchange(made: Cluster, path: bytes = b"/", to: Endpoint | None = None) -> bytes:
    """Lease, ask, give back."""
    connection = await made.lease(to or only(made))
    done = False
    try:
        answer = await ask(connection, path)
        done = True
    finally:
        if done:
            made.give(connection, made.clock())
        else:
            made.discard(connection)
    return answer
