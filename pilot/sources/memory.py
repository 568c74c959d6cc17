"""Objects handed over by a program: tests, the standalone examples, `meshctl apply`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import trio

from mesh.errors import ConfigError
from pilot.resources.object import Key, Object
from pilot.sources.source import Change


class MemorySource:
    """A Source that is told what to say. `put` and `delete` are sync and may be called before anybody listens.

    One listener at a time: steps between two reads are merged, the latest version of each object wins.
    """

    def __init__(self, objects: Iterable[Object] = ()) -> None:
        self._objects: dict[Key, Object] = {obj.key: obj for obj in objects}
        self._pending: dict[Key, Object | None] = {}
        self._moved = trio.Event()

    def put(self, *objects: Object) -> None:
        """Add objects or replace those of the same key."""
        for obj in objects:
            self._objects[obj.key] = self._pending[obj.key] = obj
        self._moved.set()

    def delete(self, *keys: Key) -> None:
        """Remove objects; a key that is not there is passed over."""
        for key in keys:
            if self._objects.pop(key, None) is not None:
                self._pending[key] = None
        self._moved.set()

    def faults(self) -> tuple[ConfigError, ...]:
        """None: what a program hands over is already decoded."""
        return ()

    async def changes(self) -> AsyncIterator[Change]:
        """See Source.changes."""
        self._pending = {}
        yield Change(upserts=tuple(self._objects.values()))
        while True:
            while not self._pending:
                self._moved = trio.Event()
                await self._moved.wait()
            pending, self._pending = self._pending, {}
            yield Change(
                upserts=tuple(obj for obj in pending.values() if obj is not None),
                deletes=tuple(key for key, obj in pending.items() if obj is None),
            )
