"""Names of services as clients write them, and names of the clusters that stand for them."""

from __future__ import annotations

from pilot.store.services import Service

PASSTHROUGH = "PassthroughCluster"
BLACK_HOLE = "BlackHoleCluster"


def outbound_name(host: str, port: int, subset: str = "") -> str:
    """Istio's name of the cluster for a service port, or a subset of it."""
    return f"outbound|{port}|{subset}|{host}"


def inbound_name(port: int) -> str:
    """Istio's name of the cluster for the app's own port."""
    return f"inbound|{port}||"


def parse_outbound(name: str) -> tuple[str, int, str] | None:
    """(host, port, subset) of an outbound cluster's name."""
    parts = name.split("|")
    if len(parts) != 4 or parts[0] != "outbound" or not parts[1].isdigit():
        return None
    return parts[3], int(parts[1]), parts[2]


def domains(service: Service, client: str) -> tuple[list[str], list[str]]:
    """(certain, short) domains under which a client of namespace `client` reaches the service.

    A short one never stands for this service when another service is really called so.
    """
    certain = [service.host]
    short: list[str] = []
    if not service.host.startswith("*"):
        certain.append(service.host + ".")
    if service.short_names:
        short.extend(_short_names(service.host, client))
    for alias in service.aliases:
        certain.extend((alias, alias + "."))
        short.extend(_short_names(alias, client))
    if service.headless:
        certain.extend([f"*.{name}" for name in certain])
        short.extend([f"*.{name}" for name in short])
    certain.extend(service.addresses)
    return certain, short


def _short_names(host: str, client: str) -> list[str]:
    name, namespace = host.split(".", 2)[:2]
    names = [f"{name}.{namespace}", f"{name}.{namespace}.svc"]
    return [name, *names] if namespace == client else names
