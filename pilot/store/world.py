"""The pilot's knowledge at one moment, never changed after it is made.

Objects by kind and key, live workloads, mesh settings. A step gives a new World that shares what did not
change, and the Change that tells what did. Translation is a pure function of a World and a proxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType

from mesh.feed.node import Node
from pilot.resources.object import Object
from pilot.store.change import Change, Key
from pilot.store.index import Index
from pilot.store.instances import WORKLOAD_KINDS, Registration
from pilot.store.mesh_config import MeshSettings

__all__ = ["Registration", "World"]

# Kinds that only say where a service's workloads are.
_ENDPOINT_KINDS = frozenset({"EndpointSlice", "WorkloadEntry", *WORKLOAD_KINDS})

_Table = dict[tuple[str, str], Object]


class World:
    """All objects and workloads. `dry_run`: nothing is live; pod templates and bare Services count as ready."""

    def __init__(self, settings: MeshSettings | None = None, *, dry_run: bool = False) -> None:
        self.settings = settings or MeshSettings()
        self.dry_run = dry_run
        self._objects: dict[str, _Table] = {}
        self._workloads: dict[str, Registration] = {}

    @cached_property
    def index(self) -> Index:
        """Derived look-ups."""
        return Index(self)

    @property
    def workloads(self) -> Mapping[str, Registration]:
        """Connected agents by node id."""
        return MappingProxyType(self._workloads)

    def get(self, key: Key) -> Object | None:
        """The object of that key, if there is one."""
        kind, namespace, name = key
        return self._objects.get(kind, {}).get((namespace, name))

    def of_kind(self, kind: str) -> Iterable[Object]:
        """All objects of a kind, in no particular order."""
        return self._objects.get(kind, {}).values()

    def __iter__(self) -> Iterator[Object]:
        """All objects."""
        for table in self._objects.values():
            yield from table.values()

    def __len__(self) -> int:
        return sum(len(table) for table in self._objects.values())

    def apply(self, changes: Iterable[tuple[Key, Object | None]]) -> tuple[World, Change]:
        """The World after upserts (an object) and deletions (None); what is equal to what was there is no change."""
        tables: dict[str, _Table] = {}
        changed: set[Key] = set()
        for key, obj in changes:
            kind, namespace, name = key
            before = tables.get(kind, self._objects.get(kind, {}))
            if obj is None and (namespace, name) not in before:
                continue
            if kind not in tables:
                tables[kind] = dict(before)
            if obj is None:
                del tables[kind][(namespace, name)]
                changed.add(key)
                continue
            if before.get((namespace, name)) != obj:
                changed.add(key)
            # An equal object may stand elsewhere in its file: the new one has the right lines.
            tables[kind][(namespace, name)] = obj
        if not tables:
            return self, Change()
        after = self._copy()
        after._objects = {kind: table for kind, table in {**self._objects, **tables}.items() if table}
        keys = frozenset(changed)
        endpoint_kinds = all(key[0] in _ENDPOINT_KINDS for key in keys)
        return after, self._change_to(after, Change(keys=keys), may_be_endpoints=endpoint_kinds)

    def with_workload(self, node: Node, *, healthy: bool = True) -> tuple[World, Change]:
        """The World after an agent connected or said something new of itself."""
        registration = Registration(node, healthy)
        if self._workloads.get(node.id) == registration:
            return self, Change()
        after = self._copy()
        after._workloads = {**self._workloads, node.id: registration}
        return after, self._change_to(after, Change(workloads=frozenset({node.id})), may_be_endpoints=True)

    def without_workload(self, node_id: str) -> tuple[World, Change]:
        """The World after an agent left."""
        if node_id not in self._workloads:
            return self, Change()
        after = self._copy()
        after._workloads = {other: item for other, item in self._workloads.items() if other != node_id}
        return after, self._change_to(after, Change(workloads=frozenset({node_id})), may_be_endpoints=True)

    def with_settings(self, settings: MeshSettings) -> tuple[World, Change]:
        """The World under other mesh settings."""
        if settings == self.settings:
            return self, Change()
        after = self._copy()
        after.settings = settings
        return after, Change(keys=frozenset({("MeshConfig", settings.root_namespace, "istio")}))

    def _copy(self) -> World:
        after = World(self.settings, dry_run=self.dry_run)
        after._objects = self._objects
        after._workloads = self._workloads
        return after

    def _change_to(self, after: World, change: Change, *, may_be_endpoints: bool) -> Change:
        """The change with its `hosts`, when nothing but endpoints can differ.

        Clusters name the service accounts that they accept, so a new account is more than an endpoint.
        """
        if not may_be_endpoints or not change:
            return change
        old, new = self.index, after.index
        if old.services != new.services or old.accounts != new.accounts:
            return change
        hosts = {
            host
            for key in old.instances.keys() | new.instances.keys()
            for host in (key[1],)
            if old.instances.get(key) != new.instances.get(key)
        }
        return Change(change.keys, change.workloads, frozenset(hosts), endpoints_only=True)
