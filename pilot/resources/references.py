"""Names that objects use and no object of the same set defines.

Istio accepts those: the other object may come later, and until then requests get 503 NC. So they are
warnings, and only where the set is telling: it defines objects of the kind that is missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pilot.resources.destination_rule import DestinationRule
from pilot.resources.meta import covers, expand_host
from pilot.resources.object import Object
from pilot.resources.report import Notice
from pilot.resources.service_entry import ServiceEntry
from pilot.resources.virtual_service import Destination, VirtualService
from pilot.resources.yaml import Path, format_path, position


def dangling(objects: Iterable[Object]) -> Iterator[Notice]:
    """A warning for each destination or gateway of a VirtualService that the objects do not define."""
    known = list(objects)
    hosts = set(_hosts(known))
    subsets = _subsets(known)
    gateways = {f"{obj.namespace}/{obj.name}" for obj in known if obj.kind in ("Gateway", "K8sGateway")}
    for obj in known:
        if not isinstance(obj.spec, VirtualService):
            continue
        for path, destination in _destinations(obj.spec):
            yield from _check_destination(obj, path, destination, hosts, subsets)
        for index, name in enumerate(obj.spec.gateways) if gateways else ():
            if name != "mesh" and "." not in name.partition("/")[0] and _full_name(name, obj) not in gateways:
                what = f"gateway {_full_name(name, obj)} is not defined here"
                yield _warning(obj, ("spec", "gateways", index), what, _defined("gateways", gateways))


def _check_destination(
    obj: Object, path: Path, destination: Destination, hosts: set[str], subsets: dict[str, set[str]]
) -> Iterator[Notice]:
    host = expand_host(destination.host, obj.namespace)
    if hosts and not any(covers(known, host) for known in hosts):
        remedy = "define a Service or ServiceEntry, or requests get 503"
        if "." in destination.host and not destination.host.endswith(".svc.cluster.local"):
            remedy += " (a name with a dot is not expanded: write it in full)"
        yield _warning(obj, (*path, "host"), f"no service {host} is defined here", remedy)
    if destination.subset and host in subsets and destination.subset not in subsets[host]:
        what = f"no DestinationRule of {host} defines subset {destination.subset}"
        yield _warning(obj, (*path, "subset"), what, _defined("subsets", subsets[host]))


def _full_name(gateway: str, obj: Object) -> str:
    namespace, slash, name = gateway.rpartition("/")
    return f"{namespace}/{name}" if slash and namespace != "." else f"{obj.namespace}/{name}"


def _defined(what: str, names: set[str]) -> str:
    return f"defined {what}: " + (", ".join(sorted(names)[:8]) or "none")


def _hosts(objects: list[Object]) -> Iterator[str]:
    for obj in objects:
        if obj.kind == "Service":
            yield f"{obj.name}.{obj.namespace}.svc.cluster.local"
        elif isinstance(obj.spec, ServiceEntry):
            yield from (host.lower() for host in obj.spec.hosts)


def _subsets(objects: list[Object]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for obj in objects:
        if isinstance(obj.spec, DestinationRule):
            host = expand_host(obj.spec.host, obj.namespace)
            found.setdefault(host, set()).update(subset.name for subset in obj.spec.subsets)
    return found


def _destinations(spec: VirtualService) -> Iterator[tuple[Path, Destination]]:
    for index, http in enumerate(spec.http):
        here: Path = ("spec", "http", index)
        for number, item in enumerate(http.route):
            yield (*here, "route", number, "destination"), item.destination
        if http.mirror is not None:
            yield (*here, "mirror"), http.mirror
        for number, mirror in enumerate(http.mirrors):
            yield (*here, "mirrors", number, "destination"), mirror.destination
    for name, rules in (("tls", [r.route for r in spec.tls]), ("tcp", [r.route for r in spec.tcp])):
        for index, route in enumerate(rules):
            for number, target in enumerate(route):
                yield ("spec", name, index, "route", number, "destination"), target.destination


def _warning(obj: Object, path: Path, what: str, remedy: str) -> Notice:
    line, column = position(obj.mark, path)
    return Notice(
        level="warning",
        what=what,
        remedy=remedy,
        path=format_path(path),
        kind=obj.kind,
        namespace=obj.namespace,
        name=obj.name,
        file=obj.file,
        line=line,
        column=column,
    )
