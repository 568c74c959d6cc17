"""How a living cluster and its endpoints are shown to operators: Envoy's /clusters, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agent.upstream.cluster import Cluster
from agent.upstream.endpoint import Endpoint


def cluster_lines(cluster: Cluster) -> Iterable[str]:
    """`cluster::address::statistic::value` lines, the form that scripts already parse."""
    name, breakers = cluster.name, cluster.config.breakers
    for limit, value in (
        ("max_connections", breakers.max_connections),
        ("max_pending_requests", breakers.max_pending_requests),
        ("max_requests", breakers.max_requests),
        ("max_retries", breakers.max_retries),
    ):
        yield f"{name}::default_priority::{limit}::{value}\n"
    yield f"{name}::added_via_api::true\n"
    for endpoint in cluster.endpoints.values():
        for stat, text in _endpoint_stats(endpoint).items():
            yield f"{name}::{endpoint.name}::{stat}::{text}\n"


def _endpoint_stats(endpoint: Endpoint) -> dict[str, int | str]:
    region, zone, sub_zone = (*endpoint.config.locality.split("/"), "", "", "")[:3]
    return {
        "cx_active": endpoint.cx_active,
        "cx_connect_fail": endpoint.cx_connect_fail,
        "cx_total": endpoint.cx_total,
        "rq_active": endpoint.active,
        "rq_error": endpoint.rq_error,
        "rq_success": endpoint.rq_success,
        "rq_timeout": endpoint.rq_timeout,
        "rq_total": endpoint.rq_total,
        "hostname": endpoint.config.workload.name,
        "health_flags": "".join(_health_flags(endpoint)) or "healthy",
        "weight": endpoint.weight,
        "region": region,
        "zone": zone,
        "sub_zone": sub_zone,
        "canary": "false",
        "priority": 0,
    }


def _health_flags(endpoint: Endpoint) -> Iterable[str]:
    if not endpoint.checked:
        yield "/failed_active_hc"
    if endpoint.ejected:
        yield "/failed_outlier_check"
    if endpoint.config.health != "healthy":
        yield "/failed_eds_health"


def cluster_status(cluster: Cluster) -> dict[str, Any]:
    """The same as an object, in the shape of Envoy's `cluster_statuses`."""
    return {
        "name": cluster.name,
        "added_via_api": True,
        "circuit_breakers": cluster.config.breakers,
        "host_statuses": [
            {
                "address": {"socket_address": {"address": endpoint.address, "port_value": endpoint.port}},
                "stats": {k: v for k, v in _endpoint_stats(endpoint).items() if k.startswith(("cx_", "rq_"))},
                "health_status": {
                    "eds_health_status": endpoint.config.health.upper(),
                    "failed_active_health_check": not endpoint.checked,
                    "failed_outlier_check": endpoint.ejected,
                },
                "weight": endpoint.weight,
                "locality": endpoint.config.locality,
                "workload": endpoint.config.workload,
            }
            for endpoint in cluster.endpoints.values()
        ],
    }
