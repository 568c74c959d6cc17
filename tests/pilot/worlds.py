"""Worlds from YAML, and the few words that tests of the pilot's inside are written in."""

from __future__ import annotations

from mesh.feed.node import InboundPort, Node
from pilot.resources.object import Object
from pilot.resources.registry import load
from pilot.store import MeshSettings, World
from pilot.translate import Proxy


def objects(text: str, file: str = "in.yaml") -> list[Object]:
    """The objects of a YAML text that must be sound."""
    loaded = load(text, file)
    assert not loaded.errors, [str(error) for error in loaded.errors]
    return loaded.objects


def world(text: str = "", *, dry_run: bool = False, settings: MeshSettings | None = None) -> World:
    """A World of these objects."""
    made, _ = World(settings, dry_run=dry_run).apply((obj.key, obj) for obj in objects(text))
    return made


def node(
    service: str = "",
    *,
    namespace: str = "default",
    port: int = 9080,
    sidecar_port: int = 4000,
    role: str = "sidecar",
    account: str = "default",
    node_id: str = "",
    **labels: str,
) -> Node:
    """An agent; labels as keywords."""
    return Node(
        id=node_id or f"{role}~{service or 'x'}-{sidecar_port}.{namespace}",
        role="gateway" if role == "gateway" else "sidecar",
        namespace=namespace,
        service=service,
        service_account=account,
        workload=f"{service or 'x'}-{sidecar_port}",
        labels=labels,
        ports=(InboundPort(port, "127.0.0.1", sidecar_port),) if port and role == "sidecar" else (),
    )


def sidecar(namespace: str = "default", **labels: str) -> Proxy:
    """A client that serves nothing."""
    return Proxy(node(namespace=namespace, port=0, **labels))


def gateway(namespace: str = "istio-system", **labels: str) -> Proxy:
    """An ingress gateway."""
    return Proxy(node(namespace=namespace, port=0, role="gateway", **labels))


def service(
    name: str, port: int = 9080, *, namespace: str = "default", port_name: str = "http", target: int = 0
) -> str:
    """A Kubernetes Service that selects by the label app."""
    aim = f", targetPort: {target}" if target else ""
    return f"""
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  clusterIP: 10.0.0.{len(name)}
  selector: {{app: {name}}}
  ports: [{{name: {port_name}, port: {port}{aim}}}]
"""


def deployment(name: str, *, app: str = "", version: str = "v1", namespace: str = "default", replicas: int = 1) -> str:
    """A Deployment whose pods have the labels app and version."""
    return f"""
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {app or name}}}}}
  template:
    metadata: {{labels: {{app: {app or name}, version: {version}}}}}
    spec:
      serviceAccountName: {app or name}
      containers: [{{name: app, ports: [{{containerPort: 9080, name: web}}]}}]
"""


def istio(kind: str, name: str, spec: str, *, namespace: str = "default", created: str = "") -> str:
    """An Istio object with its spec as indented YAML."""
    group = "security" if kind in ("PeerAuthentication", "AuthorizationPolicy") else "networking"
    stamp = f', creationTimestamp: "{created}"' if created else ""
    return f"""
---
apiVersion: {group}.istio.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}{stamp}}}
spec:
{spec}
"""
