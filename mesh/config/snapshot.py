"""The whole of what one proxy is told at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from msgspec import Struct

from mesh.config.cluster import Cluster
from mesh.config.endpoint import ClusterEndpoints
from mesh.config.listener import Listener
from mesh.config.route import RouteAction, RouteConfig
from mesh.config.secret import Secret

ResourceKind: TypeAlias = Literal["secret", "cluster", "endpoints", "listener", "route"]
Resource: TypeAlias = Secret | Cluster | ClusterEndpoints | Listener | RouteConfig


class Snapshot(Struct, frozen=True, omit_defaults=True):
    """Resources by kind and name; never changed after it is made."""

    listeners: dict[str, Listener] = {}
    routes: dict[str, RouteConfig] = {}
    clusters: dict[str, Cluster] = {}
    endpoints: dict[str, ClusterEndpoints] = {}
    secrets: dict[str, Secret] = {}

    def items(self) -> Iterator[tuple[ResourceKind, str, Resource]]:
        """Every resource, make-before-break order: secrets, clusters, endpoints, routes, listeners."""
        for secret in self.secrets.values():
            yield "secret", secret.name, secret
        for cluster in self.clusters.values():
            yield "cluster", cluster.name, cluster
        for endpoints in self.endpoints.values():
            yield "endpoints", endpoints.cluster, endpoints
        for route in self.routes.values():
            yield "route", route.name, route
        for listener in self.listeners.values():
            yield "listener", listener.name, listener

    def dangling(self) -> list[str]:
        """Names that something refers to and nothing defines, one sentence each.

        A route to a missing cluster is served as 503 NC (Istio does not validate clusters), so this is a
        report, not a refusal.
        """
        missing: list[str] = []
        for cluster in self.clusters.values():
            missing.extend(
                f"cluster {cluster.name} refers to secret {name}"
                for name in cluster.tls.secrets()
                if name not in self.secrets
            )
        for listener in self.listeners.values():
            for chain in listener.chains:
                missing.extend(
                    f"listener {listener.name} refers to secret {name}"
                    for name in (chain.tls.secrets() if chain.tls else ())
                    if name not in self.secrets
                )
                if chain.http and chain.http.route_config and chain.http.route_config not in self.routes:
                    missing.append(f"listener {listener.name} refers to route configuration {chain.http.route_config}")
                for name, _ in chain.tcp.clusters if chain.tcp else ():
                    if name not in self.clusters:
                        missing.append(f"listener {listener.name} refers to cluster {name}")
        for route_config in self.routes.values():
            for host in route_config.virtual_hosts:
                for route in host.routes:
                    if isinstance(route.action, RouteAction):
                        missing.extend(
                            f"route {route.name} of {route_config.name} refers to cluster {weighted.cluster}"
                            for weighted in route.action.clusters
                            if weighted.cluster not in self.clusters
                        )
        return missing
