"""The attributes of slotted objects, whether their class was compiled or not."""

from __future__ import annotations


def attributes(thing: object, *, but: tuple[str, ...] = ()) -> tuple[object, ...]:
    """Values of what the class says it holds, in one order, without those that are named."""
    kind = type(thing)
    names: tuple[str, ...] = getattr(kind, "__slots__", None) or getattr(kind, "__mypyc_attrs__", ())
    return tuple(getattr(thing, name) for name in sorted(names) if name not in but)
