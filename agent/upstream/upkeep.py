"""The tasks that clusters need beside requests: name resolution, active health checks, the regular sweep.

One task per cluster that needs one, started and cancelled as plans come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from agent.upstream.cluster import Cluster
from agent.upstream.endpoint import Endpoint
from agent.upstream.health import check_cluster
from mesh import config
from mesh.net.tcp import resolve

_RESOLVE_TIMEOUT = 10.0


class Upkeep:
    """Owns the upkeep tasks. `adopt` is synchronous, so it can run within a plan's swap."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        dns_refresh_rate: float,
        on_failure: Callable[[str, str], None],
        on_verdict: Callable[[Cluster, Endpoint], None] = lambda cluster, endpoint: None,
    ) -> None:
        self._nursery = nursery
        self._dns_refresh_rate = dns_refresh_rate
        self._on_failure = on_failure
        self._on_verdict = on_verdict
        self._running: dict[Cluster, tuple[object, trio.CancelScope]] = {}

    def adopt(self, clusters: Iterable[Cluster], endpoints: dict[str, config.ClusterEndpoints]) -> None:
        """Run what these clusters need, stop what others needed."""
        wanted: dict[Cluster, object] = {}
        for cluster in clusters:
            if cluster.config.discovery == "dns":
                wanted[cluster] = (endpoints.get(cluster.name), cluster.config.health_check)
            elif cluster.config.health_check is not None:
                wanted[cluster] = (None, cluster.config.health_check)
        for cluster, (need, scope) in list(self._running.items()):
            if wanted.get(cluster) != need:
                scope.cancel()
                del self._running[cluster]
        for cluster, need in wanted.items():
            if cluster not in self._running:
                scope = trio.CancelScope()
                self._running[cluster] = (need, scope)
                self._nursery.start_soon(
                    self._keep, cluster, endpoints.get(cluster.name), scope, name=f"upkeep of {cluster.name}"
                )

    async def _keep(self, cluster: Cluster, names: config.ClusterEndpoints | None, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                if cluster.config.discovery == "dns":
                    nursery.start_soon(self._resolve, cluster, names, name="name resolution")
                if cluster.config.health_check is not None:
                    await self._check(cluster, cluster.config.health_check)

    async def _check(self, cluster: Cluster, rules: config.HealthCheck) -> None:
        stats = cluster.stats

        def count(succeeded: bool) -> None:
            stats.health_check_attempt.inc()
            (stats.health_check_success if succeeded else stats.health_check_failure).inc()

        await check_cluster(
            rules,
            lambda: cluster.endpoints.values(),
            connect=cluster.open_check,
            http2=cluster.check_codec,
            rng=cluster.rng,
            changed=lambda _: cluster.refresh(),
            judged=lambda endpoint: self._on_verdict(cluster, endpoint),
            counted=count,
        )

    async def _resolve(self, cluster: Cluster, names: config.ClusterEndpoints | None) -> None:
        """Resolve every endpoint's name over and over; a failure keeps the last addresses."""
        known: dict[config.Endpoint, tuple[str, ...]] = {}
        while True:
            for entry in names.endpoints if names is not None else ():
                try:
                    with trio.fail_after(_RESOLVE_TIMEOUT):
                        known[entry] = await resolve(entry.address)
                except (OSError, UnicodeError, trio.TooSlowError) as exc:
                    self._on_failure(cluster.name, f"{entry.address}: {exc}")
            cluster.set_endpoints(_spread(known))
            await trio.sleep(self._dns_refresh_rate)


def _spread(known: dict[config.Endpoint, tuple[str, ...]]) -> tuple[config.Endpoint, ...]:
    """One endpoint per address."""
    return tuple(
        config.Endpoint(
            address,
            entry.port,
            weight=entry.weight,
            health=entry.health,
            tls=entry.tls,
            locality=entry.locality,
            workload=entry.workload,
        )
        for entry, addresses in known.items()
        for address in addresses
    )
