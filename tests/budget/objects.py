"""Print, as JSON, how many objects of our classes so many requests make: `python -m tests.budget.objects http1 20 50`.

Every class that a module of `agent` defines gets a counting `__new__`; a class with one of its own is left out.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tests.h2_rig import Http2Upstream, gateway, http2_connected
from tests.rig import ScriptedUpstream, serving, settle, web


def own_classes() -> list[type]:
    """Plain classes that modules of `agent` define."""
    return [
        kind
        for name, module in list(sys.modules.items())
        if name.startswith("agent.")
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == name and kind.__new__ is object.__new__
    ]


def counted_new(made: Counter[str]) -> Any:
    """A `__new__` that counts."""

    def new(cls: type, *args: object, **fields: object) -> object:
        made[cls.__qualname__] += 1
        return object.__new__(cls)

    return staticmethod(new)


async def made_by(ask: Callable[[], Awaitable[object]], warm_up: int, asked: int) -> Counter[str]:
    """Objects by class that `asked` calls of `ask` make once everything is warm."""
    made: Counter[str] = Counter()
    with trio.fail_after(30):
        for _ in range(warm_up):
            await ask()
        await settle()
        for kind in own_classes():
            kind.__new__ = counted_new(made)
        for _ in range(asked):
            await ask()
    return Counter(made)


async def count(version: str, warm_up: int, asked: int) -> Counter[str]:
    """Those of GETs one after another on one connection, of the same version on both sides."""
    if version == "http2":
        async with gateway(Http2Upstream()) as proxy, http2_connected(proxy.port()) as client:
            return await made_by(client.ask, warm_up, asked)
    async with ScriptedUpstream().running() as upstream, serving(web(upstream.port)) as proxy, proxy.connect() as wire:
        return await made_by(wire.ask, warm_up, asked)


if __name__ == "__main__":
    print(json.dumps(trio.run(count, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
