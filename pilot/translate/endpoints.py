"""Workloads behind a cluster -> its endpoints. Also runs alone when nothing but endpoints changed."""

from __future__ import annotations

from collections.abc import Iterable

from mesh import config
from pilot.resources.meta import covers_labels
from pilot.store.instances import Instance
from pilot.store.services import Service
from pilot.store.world import World
from pilot.translate.policies import peer_mode
from pilot.translate.proxy import Proxy
from pilot.translate.services import inbound_name, outbound_name, parse_outbound
from pilot.translate.visibility import View


def translate_endpoints(world: World, proxy: Proxy, cluster_names: Iterable[str]) -> dict[str, config.ClusterEndpoints]:
    """Endpoints of the named clusters; names that this proxy has no cluster for are left out."""
    view = View(world, proxy)
    found = {}
    inbound = {inbound_name(port.app_port): port.app_port for port in proxy.node.ports}
    for name in cluster_names:
        if name in inbound:
            found[name] = app_endpoints(inbound[name])
            continue
        parsed = parse_outbound(name)
        service = view.services.get(parsed[0]) if parsed else None
        if parsed is None or service is None or service.port(parsed[1]) is None:
            continue
        labels = subset_labels(view, service, parsed[2])
        if labels is not None:
            found[name] = cluster_endpoints(view, service, parsed[1], parsed[2], labels)
    return found


def subset_labels(view: View, service: Service, subset: str) -> dict[str, str] | None:
    """Labels that a subset selects by; None when no DestinationRule defines it. The empty name selects all."""
    if not subset:
        return {}
    rule = view.rule(service)
    defined = rule.subset(subset) if rule is not None else None
    return defined.subset.labels if defined is not None else None


def members(view: View, service: Service, port: int, labels: dict[str, str]) -> list[Instance]:
    """Instances of a service port that have the labels."""
    instances = view.world.index.instances.get((service.namespace, service.host), {}).get(port, ())
    return [instance for instance in instances if instance.stand_in or covers_labels(labels, instance.labels)]


def cluster_endpoints(
    view: View, service: Service, port: int, subset: str, labels: dict[str, str]
) -> config.ClusterEndpoints:
    """Endpoints of the cluster for a service port or a subset of it."""
    name = outbound_name(service.host, port, subset)
    key = ("endpoints", service.namespace, name, tuple(sorted(labels.items())))
    return view.once(
        key,
        lambda: config.ClusterEndpoints(
            name, tuple(_endpoint(view, instance) for instance in members(view, service, port, labels))
        ),
    )


def app_endpoints(app_port: int) -> config.ClusterEndpoints:
    """The app beside the sidecar."""
    return config.ClusterEndpoints(inbound_name(app_port), (config.Endpoint("127.0.0.1", app_port),))


def _endpoint(view: View, instance: Instance) -> config.Endpoint:
    labels = instance.labels
    mutual = instance.sidecar and peer_mode(view.world, instance.namespace, labels, instance.workload_port) != "DISABLE"
    return config.Endpoint(
        address=instance.address,
        port=instance.port,
        weight=instance.weight,
        health=instance.health,
        tls="istio" if mutual else "",
        locality=instance.locality,
        workload=config.Workload(
            name=instance.name,
            namespace=instance.namespace,
            app=labels.get("app", labels.get("app.kubernetes.io/name", "")),
            version=labels.get("version", labels.get("app.kubernetes.io/version", "")),
            service_account=instance.account,
        ),
    )
