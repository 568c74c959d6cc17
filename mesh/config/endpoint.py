"""Endpoints: the addresses behind a cluster. They travel by their own lane and are never debounced."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Workload(Struct, frozen=True, omit_defaults=True):
    """Who serves at an endpoint; telemetry labels are made of it."""

    name: str = ""
    namespace: str = ""
    app: str = ""
    version: str = ""
    service_account: str = ""
    cluster: str = ""


class Endpoint(Struct, frozen=True, omit_defaults=True):
    """One address. `health` is what discovery says; the proxy's own checks and ejections come on top.

    `tls` istio: a sidecar stands before it that speaks mesh mTLS.
    """

    address: str
    port: int
    weight: int = 1
    health: Literal["healthy", "unhealthy", "draining"] = "healthy"
    tls: Literal["", "istio"] = ""
    locality: str = ""
    workload: Workload = Workload()


class ClusterEndpoints(Struct, frozen=True, omit_defaults=True):
    """All endpoints of the cluster `cluster`."""

    cluster: str
    endpoints: tuple[Endpoint, ...] = ()
