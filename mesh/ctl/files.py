"""`-f PATH`, the same for all commands: files, folders (recursive), several of them, `-` for stdin."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mesh.errors import MeshError
from pilot.resources import registry
from pilot.resources.object import Key, Object
from pilot.resources.registry import Loaded
from pilot.resources.report import Notice
from pilot.sources.folder import SUFFIXES, config_files, duplicate


def load(paths: Sequence[str]) -> Loaded:
    """Everything that the paths hold, faults included.

    Of several objects with one key the first counts, and the others are warnings. Raises MeshError for a
    path that is not there, cannot be read, or is a folder without a configuration file.
    """
    whole = Loaded()
    seen: dict[Key, Object] = {}
    for name, data in _texts(paths):
        loaded = registry.load(data, name)
        whole.readable = whole.readable and loaded.readable
        whole.errors += loaded.errors
        whole.blemishes += loaded.blemishes
        whole.notices += loaded.notices
        whole.broken += loaded.broken
        for obj in loaded.objects:
            if obj.key in seen:
                whole.notices.append(Notice.of(duplicate(obj, seen[obj.key])))
            else:
                seen[obj.key] = obj
    whole.objects = list(seen.values())
    return whole


def _texts(paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    read: set[Path] = set()
    for path in paths:
        if path == "-":
            yield "<stdin>", sys.stdin.buffer.read()
            continue
        try:
            files = list(config_files(Path(path)))
            if not files:
                raise MeshError(f"{path}: no file in this folder ends in " + ", ".join(SUFFIXES))
            for file in files:
                if file.resolve() not in read:
                    read.add(file.resolve())
                    yield str(file), file.read_bytes()
        except OSError as exc:
            raise MeshError(f"{exc.filename or path}: cannot be read: {exc.strerror}") from exc
