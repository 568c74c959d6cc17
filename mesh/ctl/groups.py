"""Errors out of nurseries: what a command reports is the one MeshError inside, not the groups around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mesh.errors import MeshError

T = TypeVar("T")


def unwrapped(run: Callable[[], T]) -> T:
    """Call `run`; a group whose first leaf is a MeshError raises that error, any other goes on as it is."""
    try:
        return run()
    except BaseExceptionGroup as group:
        found: BaseException | None = group.subgroup(MeshError)
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if found is None:
            raise
        raise found from None
