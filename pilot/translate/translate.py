"""The table of contents: one World and one proxy in, all that the proxy is told out.

Pure: nothing but the arguments decides the result. What does not depend on the single proxy is shared
through a dict that the caller keeps as long as it keeps the World.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from msgspec import Struct

from mesh import config
from pilot.store.world import World
from pilot.translate.clusters import translate_clusters
from pilot.translate.gateways import translate_gateway
from pilot.translate.listeners import translate_inbound, translate_outbound_listeners
from pilot.translate.proxy import Proxy, outbound_key
from pilot.translate.sidecar_hosts import translate_outbound_routes
from pilot.translate.visibility import Report, View


class Translation(Struct, frozen=True):
    """A snapshot, and what authors should know of it: routes to nothing, rules that never act, servers not served."""

    snapshot: config.Snapshot
    reports: tuple[Report, ...] = ()


def translate(world: World, proxy: Proxy, shared: dict[Hashable, Any] | None = None) -> Translation:
    """Configuration of one proxy. `shared` belongs to exactly one World; proxies that send alike share through it."""
    if proxy.is_gateway:
        return _gateway(View(world, proxy, shared))
    if shared is None:
        shared = {}
    key = outbound_key(world, proxy)
    if key not in shared:
        shared[key] = _outbound(View(world, proxy, shared))
    outbound: Translation = shared[key]
    snapshot = outbound.snapshot
    listeners, routes = {}, {}
    clusters, endpoints = {}, {}
    for inbound in translate_inbound(View(world, proxy, shared)):
        listeners[inbound.listener.name] = inbound.listener
        clusters[inbound.cluster.name] = inbound.cluster
        endpoints[inbound.endpoints.cluster] = inbound.endpoints
        if inbound.routes is not None:
            routes[inbound.routes.name] = inbound.routes
    return Translation(
        config.Snapshot(
            {**listeners, **snapshot.listeners},
            {**routes, **snapshot.routes},
            {**clusters, **snapshot.clusters},
            {**endpoints, **snapshot.endpoints},
            snapshot.secrets,
        ),
        outbound.reports,
    )


def _outbound(view: View) -> Translation:
    """How a sidecar sends: the part that proxies of equal outbound key share."""
    listeners = {listener.name: listener for listener in translate_outbound_listeners(view)}
    routes = {table.name: table for table in translate_outbound_routes(view)}
    return _finish(view, listeners, routes)


def _gateway(view: View) -> Translation:
    listeners, tables = translate_gateway(view)
    return _finish(view, {listener.name: listener for listener in listeners}, {table.name: table for table in tables})


def _finish(view: View, listeners: dict[str, config.Listener], routes: dict[str, config.RouteConfig]) -> Translation:
    clusters = {}
    endpoints = {}
    for cluster, members in translate_clusters(view):
        clusters[cluster.name] = cluster
        if members is not None:
            endpoints[members.cluster] = members
    return Translation(config.Snapshot(listeners, routes, clusters, endpoints, view.secrets), tuple(view.reports))
