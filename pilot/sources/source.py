"""What a source of objects is: a stream of changes, and the faults that stand at the moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Protocol

from mesh.errors import ConfigError
from pilot.resources.object import Key, Object
from pilot.resources.report import Notice


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a source. `errors` and `notices` are all that stand after it, not only the new ones.

    A change without upserts and deletes says that only the errors or notices are others.
    """

    upserts: tuple[Object, ...] = ()
    deletes: tuple[Key, ...] = ()
    errors: tuple[ConfigError, ...] = ()
    notices: tuple[Notice, ...] = ()

    def items(self) -> Iterator[tuple[Key, Object | None]]:
        """Deletes and upserts as (key, object or None)."""
        for key in self.deletes:
            yield key, None
        for obj in self.upserts:
            yield obj.key, obj


class Source(Protocol):
    """Where objects come from."""

    def changes(self) -> AsyncIterator[Change]:
        """The first change is everything there is ("synced"), however little; then one for each step, for ever.

        Never ends and never raises for bad objects: those are in `errors`.
        """
        ...

    def faults(self) -> tuple[ConfigError, ...]:
        """The errors that stand now."""
        ...
