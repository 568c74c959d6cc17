"""A route's destination -> the name of its cluster, with a report where nothing stands behind the name.

Such a route stays in the snapshot, as in Istio: it answers 503 (NC without a cluster, UH without endpoints).
"""

from __future__ import annotations

from typing import cast

from pilot.resources.meta import expand_host
from pilot.resources.object import Object
from pilot.resources.virtual_service import Destination, VirtualService
from pilot.store.services import Service
from pilot.translate.endpoints import members, subset_labels
from pilot.translate.services import outbound_name
from pilot.translate.visibility import View


def expanded_hosts(obj: Object, domain: str) -> list[str]:
    """Hosts of a VirtualService as full names."""
    return [expand_host(host, obj.namespace, domain) for host in cast(VirtualService, obj.spec).hosts]


def cluster_of(view: View, obj: Object, destination: Destination, path: str, listener_port: int) -> str:
    """Cluster of a destination written at `path` of a VirtualService.

    Without a port it is the service's only one, else the one that the request came in by.
    """
    host = expand_host(destination.host, obj.namespace, view.settings.domain)
    host = view.aliases.get(host, host)
    service = view.services.get(host)
    port = destination.port.number if destination.port is not None else 0
    if not port:
        only = service.ports[0].number if service is not None and len(service.ports) == 1 else 0
        port = only or listener_port
    if service is None:
        _report_unknown(view, obj, host, f"{path}.host")
    elif service.port(port) is None:
        field = f"{path}.port" if destination.port is not None else f"{path}.host"
        listed = ", ".join(str(item.number) for item in service.ports) or "none"
        if destination.port is not None or _is_asked_at(view, obj, port):
            view.report(obj, field, f"service {host} has no port {port}", f"its ports are: {listed}")
    else:
        _check_subset(view, obj, service, port, destination.subset, path)
    return outbound_name(host, port, destination.subset)


def _is_asked_at(view: View, obj: Object, port: int) -> bool:
    """Whether requests of these hosts are meant to come in by the port.

    A sidecar routes a service's host on port 80 too, where the service itself has no such port.
    """
    if view.proxy.is_gateway:
        return True
    hosts = [view.services.get(host) for host in expanded_hosts(obj, view.settings.domain)]
    return not any(service is not None and service.port(port) is None for service in hosts)


def _report_unknown(view: View, obj: Object, host: str, path: str) -> None:
    message = f"no service {host} is known here, requests will get 503"
    if view.world.index.services.get(host):
        remedy = f"export it to namespace {view.namespace} (exportTo)"
    elif host.endswith(f".svc.{view.settings.domain}") or host.count(".") > 1:
        remedy = "define a Service or a ServiceEntry with this host"
    else:
        name, _, namespace = host.partition(".")
        remedy = f"a name with a dot is not completed: write {name}.{namespace or obj.namespace}.svc.cluster.local"
    view.report(obj, path, message, remedy)


def _check_subset(view: View, obj: Object, service: Service, port: int, subset: str, path: str) -> None:
    if not subset:
        return
    labels = subset_labels(view, service, subset)
    if labels is None:
        rule = view.rule(service)
        known = ", ".join(item.subset.name for item in rule.subsets) if rule is not None else ""
        remedy = f"its subsets are: {known}" if known else f"define it in a DestinationRule for {service.host}"
        view.report(obj, f"{path}.subset", f'no DestinationRule defines subset "{subset}" of {service.host}', remedy)
    elif service.resolution != "none" and not members(view, service, port, labels):
        wanted = ", ".join(f"{key}={value}" for key, value in labels.items()) or "any labels"
        view.report(
            obj,
            f"{path}.subset",
            f'subset "{subset}" of {service.host} has no workload ({wanted})',
            "start one with these labels, or route to another subset",
        )
