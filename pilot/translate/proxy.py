"""Proxy: the pilot's view of an agent, everything about it that its configuration depends on."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh.feed.node import Node
from pilot.store.instances import Registration

if TYPE_CHECKING:
    from pilot.store.world import World


class Proxy(Struct, frozen=True):
    """An agent. Gateways listen on `bind` where their Gateway says nothing else; `match_all_gateways` serves
    every Gateway whatever its selector (standalone mode)."""

    node: Node
    bind: str = "0.0.0.0"
    match_all_gateways: bool = False

    @property
    def namespace(self) -> str:
        """Namespace of the workload."""
        return self.node.namespace

    @property
    def labels(self) -> dict[str, str]:
        """Labels that selectors look at."""
        return Registration(self.node).labels

    @property
    def is_gateway(self) -> bool:
        """Whether it stands at the edge rather than beside an app."""
        return self.node.role == "gateway"


def outbound_key(world: World, proxy: Proxy) -> Hashable:
    """Proxies with equal keys send alike: labels count only as far as some rule asks for them."""
    relevant = world.index.client_labels
    labels = tuple(sorted((key, value) for key, value in proxy.labels.items() if key in relevant))
    return ("outbound", proxy.node.role, proxy.namespace, labels)


def scope_key(world: World, proxy: Proxy) -> Hashable:
    """Proxies with equal keys get the same translation of this World."""
    labels = tuple(sorted(proxy.labels.items()))
    node = proxy.node
    if proxy.is_gateway:
        return ("gateway", node.namespace, labels, proxy.bind, proxy.match_all_gateways)
    checks = (node.health_check, node.health_check_interval)
    return (outbound_key(world, proxy), labels, node.service, node.ports, checks)
