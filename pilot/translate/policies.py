"""Effective PeerAuthentication: which traffic a workload's port takes."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pilot.resources.object import Object
from pilot.resources.peer_authentication import MutualTls, PeerAuthentication
from pilot.store.world import World

MtlsMode: TypeAlias = Literal["DISABLE", "PERMISSIVE", "STRICT"]


def peer_mode(world: World, namespace: str, labels: dict[str, str], port: int) -> MtlsMode:
    """The narrowest scope that sets a mode wins: port, workload, namespace, mesh; PERMISSIVE where none does.

    Of several in one scope the oldest counts. `port` is the workload's own. A root-namespace
    PeerAuthentication with a selector selects workloads of that namespace only.
    """
    mesh_wide, _ = _scoped(world, world.settings.root_namespace, None)
    in_namespace, of_workload = _scoped(world, namespace, labels)
    if of_workload is not None:
        mode = _mode(of_workload.port_level_mtls.get(port)) or _mode(of_workload.mtls)
        if mode is not None:
            return mode
    for scope in (in_namespace, mesh_wide):
        mode = _mode(scope.mtls) if scope is not None else None
        if mode is not None:
            return mode
    return "PERMISSIVE"


def _scoped(
    world: World, namespace: str, labels: dict[str, str] | None
) -> tuple[PeerAuthentication | None, PeerAuthentication | None]:
    """The namespace's own policy and the one that selects the workload."""
    whole = selected = None
    objects: tuple[Object, ...] = world.index.peer_authentications.get(namespace, ())
    for obj in objects:
        spec = obj.spec
        if not isinstance(spec, PeerAuthentication):
            continue
        if spec.selector is None or not spec.selector.match_labels:
            whole = whole or spec
        elif labels is not None and spec.selector.matches(labels):
            selected = selected or spec
    return whole, selected


def _mode(mtls: MutualTls | None) -> MtlsMode | None:
    if mtls is None or mtls.mode == "UNSET":
        return None
    return mtls.mode
