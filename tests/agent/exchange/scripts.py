"""What scripted upstreams do in the tests of exchanges: answer in turn, hang, cut an answer short, hang up."""

from __future__ import annotations

from typing import NamedTuple

import trio
import trio.testing

from mesh import config
from mesh.config import Route, RouteAction, RouteConfig, RouteMatch, VirtualHost, WeightedCluster
from tests.rig import LOOPBACK, Script, ScriptedUpstream, Wire


class Step(NamedTuple):
    """Bytes to answer one request with, and what comes then: the next request, or close, reset, hang."""

    data: bytes
    then: str = "go on"


def ok(body: bytes = b"ok", extra: bytes = b"", *, status: int = 200) -> Step:
    """A whole answer."""
    return Step(b"HTTP/1.1 %d x\r\n%scontent-length: %d\r\n\r\n%s" % (status, extra, len(body), body))


HANG_UP = Step(b"", "close")
HANG = Step(b"", "hang")
BUSY = ok(b"busy", status=503)


def steps(*given: Step) -> Script:
    """One step for each request, over all connections; the last one again and again."""
    left = list(given)

    async def script(upstream: ScriptedUpstream, wire: Wire) -> None:
        while True:
            upstream.requests.append(await wire.message())
            step = left.pop(0) if len(left) > 1 else left[0]
            if not await play(step, wire):
                return

    return script


async def play(step: Step, wire: Wire) -> bool:
    """Do one step; False when the connection is over."""
    if step.data:
        await wire.send(step.data)
    if step.then == "hang":
        while await wire.transport.receive():
            pass
    if step.then == "reset":
        await trio.testing.wait_all_tasks_blocked(0.002)
        wire.transport.reset()
    return step.then == "go on"


def route(action: config.RouteAction | config.Redirect | config.DirectResponse, **fields: object) -> RouteConfig:
    """Every request of every host is served by this action."""
    only = Route("all", RouteMatch(), action, **fields)  # type: ignore[arg-type]
    return RouteConfig("web", (VirtualHost("any", ("*",), (only,)),))


def to(*clusters: str | WeightedCluster, **fields: object) -> RouteAction:
    """Send to clusters."""
    targets = tuple(WeightedCluster(each) if isinstance(each, str) else each for each in clusters)
    return RouteAction(targets, **fields)  # type: ignore[arg-type]


def listener(direction: str, *, tls: bool = False, **fields: object) -> config.Listener:
    """A sidecar's HTTP listener on a free port; `tls` demands a mesh peer."""
    http = config.HttpChain(**fields)  # type: ignore[arg-type]
    downstream = config.DownstreamTls(trust_domains=("cluster.local",)) if tls else None
    chain = config.FilterChain("http", transport="mtls" if tls else "any", tls=downstream, http=http)
    return config.Listener("web", direction, LOOPBACK, 0, (chain,))  # type: ignore[arg-type]
