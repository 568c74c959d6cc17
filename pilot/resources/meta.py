"""What every object has (metadata) and the pure rules on names: label selectors and host names.

Durations are parsed in duration.py; Istio's host rules follow its documentation of VirtualService.hosts.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class ObjectMeta(Struct, frozen=True, rename="camel"):
    """Metadata that the mesh reads; Kubernetes' other metadata fields are passed over.

    `creation_timestamp` is as written (RFC 3339), empty when the file gives none.
    """

    name: str = ""
    namespace: str = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    generation: int = 0
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str = ""
    generate_name: str = ""


class MatchLabels(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Istio's selector: all labels must be there; empty selects everything in scope."""

    match_labels: Annotated[dict[str, str], Meta(max_length=4096)] = {}

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether a workload with these labels is selected."""
        return covers_labels(self.match_labels, labels)


class LabelRequirement(Struct, frozen=True, rename="camel"):
    """One expression of a Kubernetes selector."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        """Kubernetes' meaning: NotIn also holds where the key is missing."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return self.key not in labels or labels[self.key] not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class LabelSelector(Struct, frozen=True, rename="camel"):
    """Kubernetes' selector: labels and expressions, all of which must hold."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelRequirement, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return covers_labels(self.match_labels, labels) and all(r.matches(labels) for r in self.match_expressions)


def covers_labels(wanted: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether every wanted label is among `labels`; an empty `wanted` covers everything."""
    return all(labels.get(key) == value for key, value in wanted.items())


DEFAULT_DOMAIN = "cluster.local"


def expand_host(host: str, namespace: str, domain: str = DEFAULT_DOMAIN) -> str:
    """Full lower-case name of a host as a VirtualService or DestinationRule of `namespace` writes it.

    Only a name without any dot is short (`reviews` but not `reviews.prod`); `*` and IPv6 addresses stay.
    """
    host = host.lower()
    if "." in host or ":" in host or host == "*" or not host:
        return host
    return f"{host}.{namespace}.svc.{domain}"


def is_wildcard(host: str) -> bool:
    """Whether the host is `*` or starts with a wildcard label."""
    return host.startswith("*")


def covers(pattern: str, host: str) -> bool:
    """Whether every name that `host` stands for is one that `pattern` stands for.

    `*.foo.com` covers `a.foo.com`, `a.b.foo.com` and `*.b.foo.com`, but not `foo.com`. Case does not count.
    """
    pattern, host = pattern.lower(), host.lower()
    if not pattern.startswith("*"):
        return pattern == host
    suffix = pattern[1:]
    if host.startswith("*"):
        return len(host) >= len(pattern) and host[1:].endswith(suffix)
    return host.endswith(suffix) and len(host) >= len(suffix)


def overlaps(one: str, other: str) -> bool:
    """Whether some name is covered by both."""
    return covers(one, other) or covers(other, one)


def specificity(host: str) -> tuple[bool, int, str]:
    """Sort key: exact names first, then wildcards, longer before shorter, then by letters."""
    return (is_wildcard(host), -len(host), host)
