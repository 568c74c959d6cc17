"""Which field of which kind is served, derived from the models and from what is told to be not served.

docs/supported.md is written from here. Nothing is listed twice: a field is served unless not_served.py has it, or one
of the short tables below; the tests hold this against what the translation reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct

from pilot.resources.kinds import Kind
from pilot.resources.not_served import NOT_SERVED, Unserved

State: TypeAlias = Literal["served", "partly", "reported", "refused", "no effect", "alike"]

FIRST: Final = "0.1"
LATER: Final[dict[tuple[str, str], str]] = {}
"""(kind, path) to the version that began to serve it, where that is not FIRST."""

REFUSED: Final = {
    ("VirtualService", "http.fault.delay.exponentialDelay"): "write fixedDelay",
    ("VirtualService", "http.fault.abort.http2Error"): "write httpStatus or grpcStatus",
}
"""Fields that Istio's schema has and its webhook refuses; and ours."""
NO_EFFECT: Final = {
    ("DestinationRule", "consecutiveErrors"): "deprecated; write consecutive5xxErrors",
    ("Gateway", "defaultEndpoint"): "as in Istio",
    ("Gateway", "targetPort"): "as in Istio; the gateway's Service says the target port",
}
"""(kind, field) wherever it stands; `validate` warns of it."""
COMPANIONS: Final = {
    ("VirtualService", "http.mirrorPercent"): "http.mirror",
    ("VirtualService", "http.mirrorPercentage"): "http.mirror",
    ("AuthorizationPolicy", "provider"): "action",
}
"""Fields that say more of another one, and are told with it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One field. `since` is empty for what is not served; `note` says what happens instead, or when.

    State `alike`: everything below this path is as below the path in `note`.
    """

    path: str
    state: State
    since: str = ""
    note: str = ""


def rows(kind: Kind) -> list[Row]:
    """The fields of a kind in the order of its model; empty for a kind that is known by name only."""
    return list(_Walk(kind).struct(kind.spec, "")) if kind.spec is not None else []


class _Walk:
    """One kind's fields, from the top down."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._unserved = NOT_SERVED.get(kind.name, ())
        self._seen: dict[type[Struct], tuple[str, list[Row]]] = {}

    def struct(self, model: type[Struct], path: str, *, whole: bool = False) -> Iterator[Row]:
        """The fields of a model at `path`; `whole`: without naming what is alike."""
        for field in msgspec.structs.fields(model):
            here = f"{path}.{field.encode_name}" if path else field.encode_name
            own = self._state(here)
            inner = next(structs(field.type), None)
            if own.state not in ("served", "partly") or inner is None:
                yield own
                continue
            if own.state == "partly":
                yield own
            yield from self.struct(inner, here, whole=True) if whole else self._below(inner, here)

    def _below(self, model: type[Struct], path: str) -> Iterator[Row]:
        """What is below a field; in one row where the same has been said of another field of this type."""
        below = [replace(row, path=row.path.removeprefix(path)) for row in self.struct(model, path, whole=True)]
        first, said = self._seen.setdefault(model, (path, below))
        if first != path and said == below and len(below) > 1:
            yield Row(f"{path}.*", "alike", note=first)
        else:
            yield from self.struct(model, path)

    def _state(self, path: str) -> Row:
        key = (self._kind.name, path)
        here = [row for row in self._unserved if row.path == COMPANIONS.get(key, path)]
        if self._kind.instead:
            return Row(path, "reported", note=self._kind.instead)
        if key in REFUSED:
            return Row(path, "refused", note=REFUSED[key])
        if note := NO_EFFECT.get((self._kind.name, path.rpartition(".")[2])):
            return Row(path, "no effect", note=note)
        if here and (key in COMPANIONS or any(row.when is None for row in here)):
            return Row(path, "reported", note=f"with {COMPANIONS[key]}" if key in COMPANIONS else here[0].instead)
        since = LATER.get(key, FIRST)
        some = [*(f"{row.when}: {row.instead}" for row in here), *self._keys(path)]
        return Row(path, "partly", since, "; ".join(some)) if some else Row(path, "served", since)

    def _keys(self, path: str) -> Iterator[str]:
        """Rows about some keys of the map at this path."""
        for row in self._unserved:
            parent, mark, key = row.path.partition(".@")
            if mark and parent == path:
                yield f"@{key}: {row.instead}"


def structs(model: Any) -> Iterator[type[Struct]]:
    """The structs in an annotation: of a field, of a list's items, of a map's values."""
    if isinstance(model, type) and issubclass(model, Struct):
        yield model
    for argument in get_args(model):
        yield from structs(argument)


def is_reported(kind: str, path: str) -> bool:
    """Whether some object of the kind is told that this field, or one above it, does not act."""
    rows: tuple[Unserved, ...] = NOT_SERVED.get(kind, ())
    wanted = COMPANIONS.get((kind, path), path)
    return any(wanted == row.path or wanted.startswith(f"{row.path}.") for row in rows)
