"""Configuration files on disk and what was last good in them. Synchronous: files.py does the waiting.

A file is parsed again only when its signature (time, size, inode) moved. What it loses, be it an object,
its syntax or the whole file, counts only when it is still so at the next look: editors truncate before they
write and remove before they rename.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from mesh.errors import ConfigError
from pilot.resources.object import Key, Object
from pilot.resources.registry import Loaded, load
from pilot.resources.report import Notice

SUFFIXES = (".yaml", ".yml", ".json")
MAX_FILE_BYTES = 32 * 1024 * 1024
"""A folder of 10,000 Services in one file has 5 MB; beyond this somebody pointed at the wrong file."""

Signature: TypeAlias = tuple[int, int, int]


def config_files(root: Path, unreadable: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """The files below `root` in order, or `root` itself when it is a file; names with a leading dot are left out.

    Links are followed, a folder is entered once. A folder that cannot be read raises OSError, or is passed to
    `unreadable`; one that vanishes meanwhile is passed over.
    """
    try:
        if root.is_dir():
            yield from _walk(root, set(), unreadable)
        else:
            root.stat()
            yield root
    except OSError as exc:
        if unreadable is None:
            raise
        unreadable(exc)


def _walk(folder: Path, entered: set[tuple[int, int]], unreadable: Callable[[OSError], None] | None) -> Iterator[Path]:
    status = folder.stat()
    if (status.st_dev, status.st_ino) in entered:
        return
    entered.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            try:
                yield from _walk(Path(entry.path), entered, unreadable)
            except FileNotFoundError:
                continue
            except OSError as exc:
                if unreadable is None:
                    raise
                unreadable(exc)
        elif entry.name.endswith(SUFFIXES):
            yield Path(entry.path)


@dataclass(slots=True)
class _File:
    """What one file gave: `objects` is the last good version of each."""

    signature: Signature
    digest: bytes
    objects: dict[Key, Object] = field(default_factory=dict)
    errors: list[ConfigError] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    settled: bool = True


@dataclass(frozen=True, slots=True)
class View:
    """The folders' content at one look: for each key the object that counts."""

    objects: dict[Key, Object] = field(default_factory=dict)
    errors: tuple[ConfigError, ...] = ()
    notices: tuple[Notice, ...] = ()


class Folder:
    """Files below some roots (files or folders), kept up to date by `look`."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._files: dict[Path, _File] = {}
        self._missing: set[Path] = set()
        self._path_errors: list[ConfigError] = []
        self.view = View()

    @property
    def size(self) -> int:
        """How many files are watched."""
        return len(self._files)

    def look(self) -> bool:
        """Read what changed on disk; whether `view` is another one than before."""
        present, path_errors, hidden = self._list()
        moved = [str(e) for e in path_errors] != [str(e) for e in self._path_errors]
        self._path_errors = path_errors
        for path in present:
            moved = self._refresh(path) or moved
        missing = {p for p in self._files.keys() - present if not any(p.is_relative_to(h) for h in hidden)}
        for path in missing & self._missing:
            del self._files[path]
            moved = True
        self._missing = missing & self._files.keys()
        if moved:
            self.view = self._merge()
        return moved

    def _list(self) -> tuple[set[Path], list[ConfigError], list[Path]]:
        """The files that are there, and the paths that cannot be read: what was below those stays as it was."""
        present: set[Path] = set()
        errors: list[ConfigError] = []
        hidden: list[Path] = []

        def unreadable(exc: OSError) -> None:
            what, remedy = f"cannot be read: {exc.strerror}", "create it, or give another path"
            errors.append(ConfigError(what, remedy=remedy, file=str(exc.filename)))
            hidden.append(Path(exc.filename))

        for root in self._roots:
            present.update(config_files(root, unreadable))
        return present, errors, hidden

    def _refresh(self, path: Path) -> bool:
        known = self._files.get(path)
        try:
            signature = _signature(path)
            if known is not None and known.settled and known.signature == signature:
                return False
            data = path.read_bytes()
            if _signature(path) != signature:
                return False
        except FileNotFoundError:
            return False
        except (OSError, ConfigError) as exc:
            return self._unreadable(path, known, exc)
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if known is not None and known.digest == digest:
            known.signature, known.settled = signature, True
            return False
        loaded = load(data, str(path))
        if known is not None and known.signature != signature and _loses(known, loaded):
            known.signature, known.settled = signature, False
            return False
        self._files[path] = _accept(loaded, known, signature, digest)
        return True

    def _unreadable(self, path: Path, known: _File | None, exc: OSError | ConfigError) -> bool:
        remedy = "make it a readable file, or move it away"
        what = exc.what if isinstance(exc, ConfigError) else f"cannot be read: {exc.strerror}"
        error = ConfigError(what, remedy=remedy, file=str(path))
        if known is not None and [str(e) for e in known.errors] == [str(error)]:
            return False
        objects = known.objects if known else {}
        self._files[path] = _File((0, 0, 0), b"", objects, [error], known.notices if known else [], settled=False)
        return True

    def _merge(self) -> View:
        """One object per key: the first file in order has it, the others are faults."""
        objects: dict[Key, Object] = {}
        errors = list(self._path_errors)
        notices: list[Notice] = []
        for path in sorted(self._files):
            file = self._files[path]
            errors += file.errors
            notices += file.notices
            for key, obj in file.objects.items():
                if key in objects:
                    errors.append(duplicate(obj, objects[key]))
                else:
                    objects[key] = obj
        return View(objects, tuple(errors), tuple(notices))


def duplicate(obj: Object, first: Object) -> ConfigError:
    """The fault of an object whose key another one has already."""
    line, column, _ = obj.mark
    return ConfigError(
        f"is defined already in {first.file}:{first.mark[0]}, which counts",
        remedy="keep one of the two",
        kind=obj.kind,
        namespace=obj.namespace,
        name=obj.name,
        file=obj.file,
        line=line,
        column=column,
    )


def _signature(path: Path) -> Signature:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError("is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise ConfigError(f"is larger than {MAX_FILE_BYTES} bytes")
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _loses(known: _File, loaded: Loaded) -> bool:
    return not loaded.readable or bool(loaded.broken) or bool(known.objects.keys() - {o.key for o in loaded.objects})


def _accept(loaded: Loaded, known: _File | None, signature: Signature, digest: bytes) -> _File:
    """The file's new state. Not settled: a write within the clock's tick leaves the signature as it is, so the
    file is read once more at the next look."""
    last_good = known.objects if known else {}
    errors = list(loaded.errors)
    objects: dict[Key, Object] = {}
    for obj in loaded.objects:
        if obj.key in objects:
            errors.append(duplicate(obj, objects[obj.key]))
        else:
            objects[obj.key] = obj
    for key in loaded.broken:
        if key in last_good:
            objects.setdefault(key, last_good[key])
    if not loaded.readable and known is not None:
        objects = dict(last_good)
    notices = [*loaded.notices, *(Notice.of(blemish) for blemish in loaded.blemishes)]
    return _File(signature, digest, objects, errors, notices, settled=False)
