"""Where an agent can send requests, read from its admin port's /clusters?format=json: endpoints and their health."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from mesh.ctl import api


class Endpoint(NamedTuple):
    """One endpoint of one cluster, as one worker of the agent sees it."""

    cluster: str
    address: str
    """HOST:PORT."""
    version: str
    """The workload's; empty when it has none."""
    healthy: bool
    """Whether it gets requests: well by the pilot's word, and left out by neither health check nor outlier check."""
    ejected: bool
    """Whether the outlier check left it out."""

    @property
    def service(self) -> str:
        """The short name of the service that an outbound cluster leads to; empty for other clusters."""
        direction, _, rest = self.cluster.partition("|")
        return rest.rpartition("|")[2].partition(".")[0] if direction == "outbound" else ""


def parse_endpoints(text: str | bytes) -> list[Endpoint]:
    """The endpoints in one answer of /clusters?format=json."""
    return [
        _endpoint(cluster["name"], host)
        for cluster in json.loads(text)["cluster_statuses"]
        for host in cluster["host_statuses"]
    ]


def endpoints(admin: str) -> list[Endpoint]:
    """The endpoints of the agent whose admin URL this is; with workers, those of each. Raises MeshError."""
    return parse_endpoints(api.fetch(f"{admin}/clusters?format=json", whom="the agent"))


def _endpoint(cluster: str, host: dict[str, Any]) -> Endpoint:
    address, health = host["address"]["socket_address"], host["health_status"]
    ejected = bool(health["failed_outlier_check"])
    return Endpoint(
        cluster,
        f"{address['address']}:{address['port_value']}",
        host["workload"].get("version", ""),
        health["eds_health_status"] == "HEALTHY" and not health["failed_active_health_check"] and not ejected,
        ejected,
    )
