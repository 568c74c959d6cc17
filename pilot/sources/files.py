"""A folder of YAML as a source: looked at again and again, only changed files are parsed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import trio

from mesh.errors import ConfigError
from pilot.resources.object import Object
from pilot.sources.folder import Folder, View
from pilot.sources.source import Change

POLL = 0.05
"""Seconds between two looks: 25 ms of the 300 ms from a change on disk to the last agent's ack."""
FILES_PER_POLL = 500
"""Beyond this many files the looks get rarer in proportion, so that watching stays below 2 % of a core."""


class FileSource:
    """Files and folders (recursive, *.yaml, *.yml, *.json) as a Source.

    A broken file keeps the objects of its last good version, a broken object its own last good version;
    both are in `faults()` with file, line and field. A path that is not there is a fault until it is.
    """

    def __init__(self, *roots: Path, poll: float = POLL) -> None:
        self._folder = Folder(roots)
        self._poll = poll

    def faults(self) -> tuple[ConfigError, ...]:
        """The errors that stand since the last look."""
        return self._folder.view.errors

    async def changes(self) -> AsyncIterator[Change]:
        """See Source.changes."""
        self._folder.look()
        view = self._folder.view
        yield difference(View(), view)
        while True:
            await trio.sleep(self._poll * (1 + self._folder.size // FILES_PER_POLL))
            if self._folder.look():
                before, view = view, self._folder.view
                yield difference(before, view)


def difference(before: View, after: View) -> Change:
    """What came, went or changed between two looks. An object that only moved in its file counts as changed,
    for explanations end in file and line."""
    return Change(
        upserts=tuple(obj for key, obj in after.objects.items() if _differs(before.objects.get(key), obj)),
        deletes=tuple(key for key in before.objects if key not in after.objects),
        errors=after.errors,
        notices=after.notices,
    )


def _differs(before: Object | None, after: Object) -> bool:
    if before is after:
        return False
    return before is None or before != after or before.mark != after.mark or before.file != after.file
