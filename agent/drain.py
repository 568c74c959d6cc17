"""A graceful end: answers say that the connection closes, idle connections end, the rest has until a deadline."""

from __future__ import annotations

import trio

from agent.dataplane import Dataplane

_LOOK = 0.05  # seconds between looks at what is still open
_NEWS = 0.25  # seconds for peers to hear of it from the pilot, before a connection closes under a request on its way


async def drain(dataplane: Dataplane, seconds: float) -> int:
    """Let exchanges under way finish for at most `seconds`; returns how many connections were cut at the end.

    New connections are still accepted meanwhile: whoever has not yet heard that this agent leaves must not fail.
    """
    dataplane.draining = True
    with trio.move_on_after(seconds):
        await trio.sleep(_NEWS)
        while True:
            for connection in tuple(dataplane.connections):
                connection.leave()
            await trio.sleep(_LOOK)
            if not dataplane.connections:
                return 0
    return len(dataplane.connections)
