"""Translations shared among equal proxies: one per scope and world, each resource encoded once.

A scope is whatever decides a proxy's configuration (role, namespace, labels …); proxies of equal scope get the very
same bytes. Nothing here outlives the world it was made from, but for resources that did not change.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from msgspec import Struct

from mesh.config import Snapshot
from mesh.feed.node import Node
from mesh.feed.session import Bundle, Memo, encode_snapshot


class Translated(Struct, frozen=True):
    """What one scope is to be told, and what the translation had to say about it."""

    snapshot: Snapshot
    reports: tuple[Any, ...] = ()


class _Entry(Struct, frozen=True):
    version: int
    translated: Translated
    bundle: Bundle


class Translations:
    """Cache in front of the translator. `scope` and `translate` see the world of the moment they are called."""

    def __init__(self, scope: Callable[[Node], Hashable], translate: Callable[[Node], Translated]) -> None:
        self._scope = scope
        self._translate = translate
        self._entries: dict[Hashable, _Entry] = {}
        self._memo: Memo = {}
        self.version = 0
        self.made = 0

    def renew(self) -> int:
        """The world has changed: what was translated before is stale. Returns the new version."""
        self.version += 1
        self._memo = {}
        return self.version

    def bundle(self, node: Node) -> Bundle:
        """What this proxy should hold. Raises what the translator raises."""
        scope = self._scope(node)
        entry = self._entries.get(scope)
        if entry is None or entry.version != self.version:
            entry = self._entries[scope] = self._make(node)
        return entry.bundle

    def reports(self) -> list[Any]:
        """Reports of every scope's newest translation, each once."""
        found: list[Any] = []
        for entry in self._entries.values():
            found.extend(report for report in entry.translated.reports if report not in found)
        return found

    def prune(self, nodes: Iterable[Node]) -> None:
        """Forget scopes that none of these proxies has."""
        live = {self._scope(node) for node in nodes}
        self._entries = {scope: entry for scope, entry in self._entries.items() if scope in live}

    def _make(self, node: Node) -> _Entry:
        translated = self._translate(node)
        self.made += 1
        return _Entry(self.version, translated, encode_snapshot(translated.snapshot, self._memo))
