"""One snapshot compiled for serving. Swapped whole; an exchange reads it once and keeps it to its end.

What lives longer than a snapshot (clusters with their pools, ejections and counters) is handed from plan to
plan by name. A resource that cannot be compiled keeps its last good form and is reported; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.codec.message import RequestHead
from agent.exchange import faults
from agent.exchange.retry import compile_retry
from agent.route.action import CompiledRoute
from agent.route.table import RouteTable
from agent.upstream.cluster import Cluster
from mesh import config
from mesh.errors import ConfigError
from mesh.feed.message import Rejected
from mesh.net.authority import split_port

_CACHE: Final = 1024

_ANY: Final = config.RouteMatch()
_ALLOW_ANY: Final = config.RouteConfig(
    "allow_any",
    (
        config.VirtualHost(
            "allow_any",
            ("*",),
            (config.Route("allow_any", _ANY, config.RouteAction((config.WeightedCluster("PassthroughCluster"),))),),
        ),
    ),
)
_BLOCK_ALL: Final = config.RouteConfig(
    "block_all",
    (config.VirtualHost("block_all", ("*",), (config.Route("block_all", _ANY, config.DirectResponse(502)),)),),
)


class Plan:
    """Route tables and living clusters of one snapshot."""

    __slots__ = ("_allow_any", "_block_all", "_by_authority", "_fresh", "clusters", "snapshot", "tables")

    def __init__(
        self,
        snapshot: config.Snapshot,
        tables: dict[str, RouteTable],
        clusters: dict[str, Cluster],
        fresh: dict[str, RouteTable] | None = None,
    ) -> None:
        self.snapshot = snapshot
        self._fresh = fresh or {}
        self.tables = tables
        self.clusters = clusters
        self._allow_any = _only_route(_ALLOW_ANY, clusters)
        self._block_all = _only_route(_BLOCK_ALL, clusters)
        self._by_authority: dict[bytes, RouteTable | None] = {}

    def find_route(self, chain: config.HttpChain, head: RequestHead) -> CompiledRoute:
        """The route of a request. Raises ProxyFault NR (404) when there is none."""
        table = self._table_by_port(head.authority) if chain.route_by_port else self.tables.get(chain.route_config)
        if table is not None:
            route = table.match(head)
            if route is not None:
                return route
            if table.host_known(head.authority):
                raise faults.no_route()
        return self._unknown_host(chain)

    def reports(self) -> list[str]:
        """What the tables that were compiled for this plan leave out or serve in another way, in sentences."""
        found = [f"{name}: {sentence}" for name, table in self._fresh.items() for sentence in table.reports]
        for name, table in self._fresh.items():
            for route in table.routes():
                words = ", ".join(route.retry.unserved) if route.retry is not None else ""
                if words:
                    found.append(f"{name}: route {route.name}: retry conditions not served: {words}")
        return found

    def _unknown_host(self, chain: config.HttpChain) -> CompiledRoute:
        if chain.unknown_host == "allow_any":
            return self._allow_any
        if chain.unknown_host == "registry_only":
            return self._block_all
        raise faults.no_route()

    def _table_by_port(self, authority: bytes) -> RouteTable | None:
        try:
            return self._by_authority[authority]
        except KeyError:
            table = self.tables.get((split_port(authority)[1] or b"80").decode())
            if len(self._by_authority) < _CACHE:
                self._by_authority[authority] = table
            return table

    def connect_cluster(self, chain: config.HttpChain, authority: bytes) -> Cluster:
        """The cluster that a CONNECT goes to: the service of that name and port, else outside.

        Raises ProxyFault 502 when the outside is closed (REGISTRY_ONLY), NR when a gateway is asked.
        """
        host, port = split_port(authority)
        table = self.tables.get((port or b"443").decode())
        known = table.find_host(authority) if table is not None else None
        if known is not None:
            for target in known.routes[-1].targets if known.routes else ():
                if isinstance(target.upstream, Cluster):
                    return target.upstream
        cluster = self.clusters.get(f"outbound|{(port or b'443').decode()}||{host.decode('latin-1').lower()}")
        if cluster is not None:
            return cluster
        route = self._unknown_host(chain)
        outside = self.clusters.get("PassthroughCluster") if route.targets else None
        if outside is None:
            raise faults.ProxyFault("proxy", "UH", "direct_response", status=502)
        return outside


def _only_route(table: config.RouteConfig, clusters: dict[str, Cluster]) -> CompiledRoute:
    compiled = RouteTable.compile(table, upstream=clusters.get, retry=compile_retry)
    return next(iter(compiled.routes()))


def compile_plan(
    snapshot: config.Snapshot, previous: Plan | None, make_cluster: Callable[[config.Cluster], Cluster]
) -> tuple[Plan, list[Rejected]]:
    """Compile `snapshot`, reusing what did not change. Never raises for content: faults come back as rejections."""
    rejections: list[Rejected] = []
    fresh: dict[str, RouteTable] = {}
    for name, routes in snapshot.routes.items():
        if previous is not None and name in previous.tables and previous.snapshot.routes.get(name) is routes:
            continue
        try:
            fresh[name] = RouteTable.compile(routes)
        except ConfigError as exc:
            rejections.append(Rejected("route", name, str(exc)))
    clusters = _carry_clusters(snapshot, previous, make_cluster)
    tables: dict[str, RouteTable] = {}
    for name in snapshot.routes:
        table = fresh.get(name) or (previous.tables.get(name) if previous is not None else None)
        if table is not None:
            table.bind(clusters.get, compile_retry)
            tables[name] = table
    return Plan(snapshot, tables, clusters, fresh), rejections


def _carry_clusters(
    snapshot: config.Snapshot, previous: Plan | None, make_cluster: Callable[[config.Cluster], Cluster]
) -> dict[str, Cluster]:
    old = previous.clusters if previous is not None else {}
    clusters: dict[str, Cluster] = {}
    for name, settings in snapshot.clusters.items():
        cluster = old.get(name)
        if cluster is None or cluster.config.discovery != settings.discovery:
            cluster = make_cluster(settings)
        elif cluster.config is not settings:
            cluster.reconfigure(settings)
        clusters[name] = cluster
        endpoints = snapshot.endpoints.get(name)
        before = previous.snapshot.endpoints.get(name) if previous is not None and name in old else None
        if settings.discovery == "eds" and (endpoints is not before or cluster is not old.get(name)):
            cluster.set_endpoints(endpoints.endpoints if endpoints is not None else ())
    for name, cluster in old.items():
        if clusters.get(name) is not cluster:
            cluster.close()
    return clusters
