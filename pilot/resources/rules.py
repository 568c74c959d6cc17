"""Rules that several kinds share: hosts, exportTo, selectors, durations, ports, percentages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from pilot.resources.duration import is_whole_milliseconds
from pilot.resources.meta import MatchLabels, ObjectMeta
from pilot.resources.names import (
    NameFault,
    domain_fault,
    is_ip,
    label_fault,
    label_key_fault,
    label_value_fault,
    port_fault,
    port_name_fault,
    subnet_fault,
)
from pilot.resources.regex import regex_fault
from pilot.resources.report import Report
from pilot.resources.virtual_service import PortSelector
from pilot.resources.yaml import Path


def tell(report: Report, path: Path, fault: NameFault) -> bool:
    """Report a name's fault, if it is one; says whether it was."""
    if fault is not None:
        report(path, *fault)
    return fault is not None


def check_one_of(part: Struct, attributes: Iterable[str], path: Path, report: Report) -> bool:
    """At most one of the attributes is given (is not None), the others are faults; says whether one is."""
    written = dict(zip(part.__struct_fields__, part.__struct_encode_fields__, strict=True))
    given = [written[name] for name in attributes if getattr(part, name) is not None]
    for name in given[1:]:
        report((*path, name), f"cannot stand beside {given[0]}", "keep one of them")
    return bool(given)


def check_unique(names: Iterable[object], path: Path, field: str, report: Report) -> None:
    """Members of the list at `path` differ in `field`."""
    seen: set[object] = set()
    for index, name in enumerate(names):
        if name in seen:
            report((*path, index, field), f"{name} is given twice", "remove one, or rename it")
        seen.add(name)


def check_duration(seconds: float | None, path: Path, report: Report) -> None:
    """At least 1 ms and whole milliseconds."""
    if seconds is None:
        return
    if seconds < 0.001:
        report(path, "the duration is shorter than 1ms", "write at least 1ms, or leave the field out")
    elif not is_whole_milliseconds(seconds):
        report(path, "the duration is not a whole number of milliseconds", "round it to milliseconds")


def check_percent(value: float, path: Path, report: Report) -> None:
    """0..100."""
    if not 0 <= value <= 100:
        report(path, f"{value:g} is not a percentage", "write a number from 0 to 100")


def check_port(port: PortSelector | None, path: Path, report: Report) -> None:
    """A port selector that was given."""
    if port is not None:
        tell(report, (*path, "number"), port_fault(port.number))


def check_regex(pattern: str, path: Path, report: Report) -> None:
    """A regular expression that RE2 takes."""
    if not pattern:
        report(path, "an empty regular expression", 'write one, or ".*" for anything')
    else:
        tell(report, path, regex_fault(pattern))


def check_labels(labels: Mapping[str, str], path: Path, report: Report) -> None:
    """Labels of a workload or of a subset."""
    for key, value in labels.items():
        tell(report, (*path, key), label_key_fault(key)) or tell(report, (*path, key), label_value_fault(value))


def check_selector(labels: Mapping[str, str], path: Path, report: Report) -> None:
    """Labels that select: no wildcards, no empty keys."""
    if not labels:
        report.warn(path, "the selector is empty and selects every workload in scope", "give labels")
    for key, value in labels.items():
        if not key:
            report((*path, key), "an empty label key", "name the label")
        if "*" in key or "*" in value:
            report((*path, key), "a selector knows no wildcards", "give the label's whole value")
        elif len(value) > 63:
            report((*path, key), "a label value longer than 63 characters", "shorten it")


def check_match_labels(selector: MatchLabels | None, path: Path, report: Report) -> None:
    """A workload selector of Istio's security kinds and of DestinationRule."""
    if selector is not None:
        check_selector(selector.match_labels, (*path, "matchLabels"), report)


def check_export_to(
    export_to: tuple[str, ...], meta: ObjectMeta, path: Path, report: Report, *, nobody: bool = False
) -> None:
    """`.`, `*`, `~` or namespaces; each once, `*` and `~` alone.

    The mesh knows what `~` (nobody) means in every kind; Istio's webhook takes it where `nobody` says so.
    """
    seen: set[str] = set()
    for index, entry in enumerate(export_to):
        here = (*path, index)
        if entry not in (".", "*", "~") and label_fault(entry):
            report(here, f'"{entry}" is not a namespace', "write ., *, ~ or a namespace's name")
            continue
        if entry == "~" and not nobody:
            report.style(here, "Istio exports services only to ~ (nobody)", "leave the object out, or write .")
        namespace = meta.namespace if entry == "." else entry
        if namespace in seen:
            report(here, f"{namespace} is exported to twice", "remove one")
        seen.add(namespace)
    for lone, means in (("*", "everybody"), ("~", "nobody")):
        if lone in seen and len(seen) > 1:
            report(path, f"{lone} ({means}) stands beside other entries", f"write {lone} alone, or leave it out")


def check_gateway_names(gateways: Iterable[str], path: Path, report: Report) -> None:
    """`mesh`, `name`, `namespace/name`, or the old form by host name."""
    for index, gateway in enumerate(gateways):
        namespace, slash, name = gateway.partition("/")
        here = (*path, index)
        if not slash:
            tell(report, here, domain_fault(gateway))
            if "." in gateway:
                report.warn(here, f"{gateway} is the old form of a gateway's name", "write namespace/name")
        elif namespace == ".":
            report.style(here, f"Istio's webhook does not take {gateway}", f"write {name}, or namespace/{name}")
        elif label_fault(namespace):
            report(here, f'"{namespace}" is not a namespace', "write namespace/name")
        else:
            tell(report, here, label_fault(name))


def check_subnets(subnets: Iterable[str], path: Path, report: Report) -> None:
    """Addresses or CIDR blocks."""
    for index, subnet in enumerate(subnets):
        tell(report, (*path, index), subnet_fault(subnet))


def check_port_map(ports: Mapping[str, int], path: Path, report: Report) -> None:
    """Port names to numbers of a workload."""
    for name, number in ports.items():
        tell(report, (*path, name), port_name_fault(name)) or tell(report, (*path, name), port_fault(number))


def check_unix_address(address: str, path: Path, report: Report) -> None:
    """`unix:///absolute/file`, or `unix://@abstract`."""
    socket = address.removeprefix("unix://")
    if not socket.startswith(("/", "@")):
        report(path, f'"{socket}" is not an absolute path', "write unix:///path/to/socket")
    elif socket.endswith("/"):
        report(path, f'"{socket}" is a folder', "write the socket's own path")


def is_host_address(text: str) -> bool:
    """An IP address or a host name without wildcards."""
    return is_ip(text) or domain_fault(text) is None
