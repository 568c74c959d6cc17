"""The one place where the world is replaced: objects from files and from `meshctl apply`, workloads from agents.

Objects come in layers. An applied object stands before one of the same key from a file, which shows again when the
applied one is deleted. Each step tells the fleet what changed, and how urgent it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Literal, Protocol, TypeAlias

from mesh.errors import ConfigError
from mesh.feed.node import Node
from pilot.push.translations import Translated
from pilot.resources.object import Key, Object
from pilot.resources.report import Notice
from pilot.store.change import Change
from pilot.store.mesh_config import MeshSettings
from pilot.store.world import World
from pilot.translate.proxy import Proxy, scope_key
from pilot.translate.translate import translate

Layer: TypeAlias = Literal["files", "applied"]
_LAYERS: tuple[Layer, ...] = ("applied", "files")


class Changed(Protocol):
    """Fleet.changed."""

    def __call__(self, trigger: str, *, endpoints_only: bool = False, at_once: bool = False) -> int: ...


class Ledger:
    """The current world and what it was made from."""

    def __init__(self, settings: MeshSettings, *, make_proxy: Callable[[Node], Proxy] = Proxy) -> None:
        self.world = World(settings)
        self.errors: dict[str, tuple[ConfigError, ...]] = {}
        self.notices: dict[str, tuple[Notice, ...]] = {}
        self.changed: Changed = _nobody
        self.version = 0
        self._layers: dict[Layer, dict[Key, Object]] = {layer: {} for layer in _LAYERS}
        self._make_proxy = make_proxy
        self._shared: dict[Hashable, Any] = {}

    def scope(self, node: Node) -> Hashable:
        """Proxies of equal scope are told the same."""
        return scope_key(self.world, self._make_proxy(node))

    def translate(self, node: Node) -> Translated:
        """What a proxy is told, from the current world."""
        translation = translate(self.world, self._make_proxy(node), self._shared)
        return Translated(translation.snapshot, translation.reports)

    def update(self, layer: Layer, changes: Iterable[tuple[Key, Object | None]], *, at_once: bool = False) -> int:
        """Upserts and deletions (None) of one layer, as one step. Returns the world's version for `wait_in_step`."""
        objects = self._layers[layer]
        keys: dict[Key, None] = {}
        for key, obj in changes:
            keys[key] = None
            if obj is None:
                objects.pop(key, None)
            else:
                objects[key] = obj
        return self._step(*self.world.apply([(key, self.effective(key)) for key in keys]), "config", at_once=at_once)

    def effective(self, key: Key) -> Object | None:
        """The object in force."""
        layer = self.layer_of(key)
        return self._layers[layer][key] if layer else None

    def layer_of(self, key: Key) -> Layer | None:
        """Where the object in force comes from."""
        return next((layer for layer in _LAYERS if key in self._layers[layer]), None)

    def holds(self, layer: Layer, key: Key) -> Object | None:
        """The layer's own object of that key."""
        return self._layers[layer].get(key)

    def workload(self, arrived: Node | None, gone: Node | None) -> None:
        """An agent has come (or says something new of itself), or has left.

        One that checks its app is taken for unwell until it reports, as Istio does with a WorkloadGroup's probe.
        """
        if arrived is not None:
            self._step(*self.world.with_workload(arrived, healthy=not arrived.health_check), "proxy")
        if gone is not None:
            self._step(*self.world.without_workload(gone.id), "proxy")

    def expect(self, node: Node) -> None:
        """An agent of the last run, not back yet: its app is taken for well, or a new pilot would empty the mesh."""
        self._step(*self.world.with_workload(node), "proxy")

    def health(self, node: Node, *, healthy: bool) -> None:
        """An agent's app has become well or unwell."""
        self._step(*self.world.with_workload(node, healthy=healthy), "endpoint")

    def _step(self, world: World, change: Change, trigger: str, *, at_once: bool = False) -> int:
        moved = world is not self.world
        self.world = world
        if moved:
            self._shared = {}
        if change:
            trigger = "endpoint" if change.endpoints_only and trigger != "proxy" else trigger
            # What a person applied and waits for goes by the configuration lane whatever it is: the wait counts those.
            endpoints_only = change.endpoints_only and not at_once
            self.version = self.changed(trigger, endpoints_only=endpoints_only, at_once=at_once)
        return self.version


def _nobody(trigger: str, *, endpoints_only: bool = False, at_once: bool = False) -> int:
    return 0
