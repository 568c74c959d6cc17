"""Running something until the operator ends it: Ctrl-C or SIGTERM cancel it, and it cleans up in peace."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import trio


def run_until_interrupted(serve: Callable[[], Awaitable[int | None]]) -> int:
    """Run `serve`; returns its status, 0 when it was interrupted. Further signals do not cut the clean-up short."""
    return trio.run(_run, serve)


async def _run(serve: Callable[[], Awaitable[int | None]]) -> int:
    serving, watching = trio.CancelScope(), trio.CancelScope(shield=True)
    status: int | None = 0
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:

        async def watch() -> None:
            with watching:
                async for _ in signals:
                    serving.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            try:
                with serving:
                    status = await serve()
            finally:
                watching.cancel()
    return status or 0
