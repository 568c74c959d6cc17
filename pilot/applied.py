"""Objects that `meshctl apply` brought: one file each in the state folder, so that they survive a restart.

A file holds the text as it was applied, comments and all; an item of a List is written as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mesh.private_file import write_private
from pilot.resources.object import Key, Object
from pilot.resources.registry import Loaded, load
from pilot.resources.yaml import documents

_MARKER = re.compile(r"^---(?:[ \t]+#.*|[ \t]*)$", re.MULTILINE)


class AppliedFiles:
    """The folder `applied` of a state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: Key) -> Path:
        """Where the object of that key is kept."""
        kind, namespace, name = key
        return self.folder / f"{kind}.{namespace or '-'}.{name}.yaml"

    def store(self, text: str) -> list[Object]:
        """Write every object of a valid text to its file. Returns them as read back. Raises OSError."""
        stored: list[Object] = []
        for piece in split(text):
            for obj in load(piece, "<applied>").objects:
                path = self.path(obj.key)
                write_private(path, piece.encode())
                stored += load(piece, str(path)).objects
        return stored

    def remove(self, key: Key) -> None:
        """Remove the object's file. Raises OSError."""
        self.path(key).unlink(missing_ok=True)

    def load(self) -> Loaded:
        """All applied objects, with errors for files that became unreadable. Raises OSError."""
        whole = Loaded()
        for path in sorted(self.folder.glob("*.yaml")):
            loaded = load(path.read_bytes(), str(path))
            whole.objects += loaded.objects
            whole.errors += loaded.errors
            whole.notices += loaded.notices
            whole.blemishes += loaded.blemishes
        return whole


def split(text: str) -> Iterator[str]:
    """The texts of single objects: documents apart, Lists taken apart."""
    for piece in _MARKER.split(text):
        found, _ = documents(piece, "")
        if len(found) == 1 and not _is_list(found[0].value):
            yield piece.strip("\n") + "\n"
            continue
        for document in found:
            items = document.value["items"] if _is_list(document.value) else [document.value]
            for item in items:
                yield msgspec.json.format(msgspec.json.encode(item), indent=2).decode() + "\n"


def _is_list(value: object) -> bool:
    return (
        isinstance(value, dict) and str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list)
    )
