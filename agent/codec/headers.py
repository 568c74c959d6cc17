"""Header fields: order and case as received, look-up by lower-case name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final


def marks_all_but(allowed: bytes) -> bytes:
    """A table for `bytes.translate` that leaves a text as it is if it consists of `allowed`.

    Where nothing changes, nothing is made; deleting what is allowed makes a table of its own each time.
    """
    return bytes(octet if octet in allowed else octet ^ 0xFF for octet in range(256))


_BREAKS: Final = marks_all_but(bytes(octet for octet in range(256) if octet not in b"\0\r\n"))


def breaks_out(value: bytes) -> bool:
    """Whether NUL, CR or LF in a value would end its line, or its message, before the end."""
    return value.translate(_BREAKS) != value


class Headers:
    """`items` are (name, value) as they came; `index` maps the lower-case name to the value.

    Several fields of one name are joined with a comma in `index` (cookies with "; "), as RFC 9110 5.3 allows.
    Both are kept in step by the methods; read `index` directly on the hot path. An item may be of a class of its own
    (what HTTP/2 is never to index); items that stay are the same objects after `set`, `remove` and `copy`.
    """

    __slots__ = ("index", "items")

    def __init__(self, items: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.items: list[tuple[bytes, bytes]] = []
        self.index: dict[bytes, bytes] = {}
        for name, value in items:
            self.add(name, value)

    def get(self, name: bytes) -> bytes | None:
        """Value of the lower-case `name`."""
        return self.index.get(name)

    def __contains__(self, name: bytes) -> bool:
        return name in self.index

    def add(self, name: bytes, value: bytes) -> None:
        """Append a field."""
        self.items.append((name, value))
        lower = name.lower()
        index = self.index
        if lower in index:
            index[lower] += (b"; " if lower == b"cookie" else b", ") + value
        else:
            index[lower] = value

    def extend(self, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        """Append fields whose names are lower case, all different, and none of them there yet."""
        self.items += fields
        index = self.index
        for name, value in fields:
            index[name] = value

    def put(self, name: bytes, value: bytes) -> None:
        """`set` of a name that is in lower case."""
        index = self.index
        if name in index:
            self.set(name, value)
        else:
            self.items.append((name, value))
            index[name] = value

    def set(self, name: bytes, value: bytes) -> None:
        """Replace every field of that name by one, in the place of the first; append when there is none."""
        lower = name.lower()
        if lower not in self.index:
            self.items.append((name, value))
        else:
            items: list[Any] = self.items
            kept: list[Any] = []
            done = False
            for item in items:
                if item[0].lower() != lower:
                    kept.append(item)
                elif not done:
                    kept.append((name, value))
                    done = True
            self.items = kept
        self.index[lower] = value

    def remove(self, name: bytes) -> None:
        """Drop every field of that name; nothing happens when there is none."""
        lower = name.lower()
        if self.index.pop(lower, None) is not None:
            items: list[Any] = self.items
            self.items = [item for item in items if item[0].lower() != lower]

    def copy(self) -> Headers:
        """An independent copy."""
        twin = Headers()
        twin.items = self.items.copy()
        twin.index = self.index.copy()
        return twin

    def __repr__(self) -> str:
        return f"Headers({self.items!r})"
