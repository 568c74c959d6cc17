"""DestinationRules of one host as the rule that applies: merged within a namespace, looked up across three.

The order of namespaces (client's, service's, root) and the merge are Istio's; composing a policy for one
cluster out of the rule found is pilot/translate/clusters.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from pilot.resources.destination_rule import DestinationRule, Subset, TrafficPolicy
from pilot.resources.meta import covers, expand_host, is_wildcard, specificity
from pilot.resources.object import Object
from pilot.store.mesh_config import MeshSettings


class RuleSubset(Struct, frozen=True):
    """A subset and the place where it is defined."""

    subset: Subset
    obj: Object
    path: str


class MergedRule(Struct, frozen=True):
    """All DestinationRules of a namespace for one host that are exported to the same places.

    `policy_object` is the one whose trafficPolicy it is. `selector` None applies to every client.
    """

    host: str
    namespace: str
    policy: TrafficPolicy | None
    policy_object: Object
    subsets: tuple[RuleSubset, ...]
    export_to: tuple[str, ...]
    selector: tuple[tuple[str, str], ...] | None
    objects: tuple[Object, ...]

    def exported_to(self, namespace: str) -> bool:
        """Whether clients of that namespace may use it."""
        return "*" in self.export_to or namespace in self.export_to

    @property
    def private(self) -> bool:
        """Whether it is exported to its own namespace only."""
        return self.export_to == (self.namespace,)

    def subset(self, name: str) -> RuleSubset | None:
        """The subset of that name."""
        for candidate in self.subsets:
            if candidate.subset.name == name:
                return candidate
        return None


class NamespaceRules:
    """The rules that one namespace defines, for look-up by host."""

    __slots__ = ("_exact", "_wildcards")

    def __init__(self, rules: Iterable[MergedRule]) -> None:
        self._exact: dict[str, list[MergedRule]] = {}
        wildcards = []
        for rule in rules:
            if is_wildcard(rule.host):
                wildcards.append(rule)
            else:
                self._exact.setdefault(rule.host, []).append(rule)
        self._wildcards = sorted(wildcards, key=lambda rule: specificity(rule.host))

    def candidates(self, host: str) -> list[MergedRule]:
        """Rules for that host, the most specific first."""
        found = list(self._exact.get(host, ()))
        found.extend(rule for rule in self._wildcards if covers(rule.host, host))
        return found


def exported(own_namespace: str, export_to: tuple[str, ...], default: tuple[str, ...]) -> tuple[str, ...]:
    """An exportTo with its default and `.` resolved, as sorted namespace names; `*` alone when public."""
    listed = export_to or default
    if "*" in listed:
        return ("*",)
    return tuple(sorted({own_namespace if item == "." else item for item in listed if item != "~"}))


def merge_rules(objects: Iterable[Object], settings: MeshSettings) -> dict[str, NamespaceRules]:
    """Rules by namespace. `objects` are DestinationRules in order of creation: the first trafficPolicy wins,
    subsets join, a second subset of the same name is dropped."""
    merged: dict[tuple[object, ...], MergedRule] = {}
    for obj in objects:
        spec = obj.spec
        if not isinstance(spec, DestinationRule):
            continue
        selector = None
        if spec.workload_selector is not None and spec.workload_selector.match_labels:
            selector = tuple(sorted(spec.workload_selector.match_labels.items()))
        export_to = exported(obj.namespace, spec.export_to, settings.destination_rule_export)
        if selector is not None:
            export_to = (obj.namespace,)
        host = expand_host(spec.host, obj.namespace, settings.domain)
        group = (obj.namespace, host, export_to, selector)
        merged[group] = _join(merged.get(group), obj, spec, host, export_to, selector)
    by_namespace: dict[str, list[MergedRule]] = {}
    for rule in merged.values():
        by_namespace.setdefault(rule.namespace, []).append(rule)
    return {namespace: NamespaceRules(rules) for namespace, rules in by_namespace.items()}


def _join(
    before: MergedRule | None,
    obj: Object,
    spec: DestinationRule,
    host: str,
    export_to: tuple[str, ...],
    selector: tuple[tuple[str, str], ...] | None,
) -> MergedRule:
    subsets = [RuleSubset(subset, obj, f"spec.subsets[{i}]") for i, subset in enumerate(spec.subsets)]
    if before is None:
        return MergedRule(host, obj.namespace, spec.traffic_policy, obj, tuple(subsets), export_to, selector, (obj,))
    known = {item.subset.name for item in before.subsets}
    first = before.policy is not None
    return MergedRule(
        host,
        obj.namespace,
        before.policy if first else spec.traffic_policy,
        before.policy_object if first else obj,
        before.subsets + tuple(item for item in subsets if item.subset.name not in known),
        export_to,
        selector,
        (*before.objects, obj),
    )


def find_rule(
    rules: dict[str, NamespaceRules],
    host: str,
    *,
    client: str,
    labels: dict[str, str],
    service: str,
    root: str,
) -> MergedRule | None:
    """The rule that a client (namespace and labels) uses for a host defined in namespace `service`."""
    own = [rule for rule in _candidates(rules, client, host) if client != root or rule.private]
    chosen = _with_selector(own, labels)
    if chosen is not None:
        return chosen
    for namespace in (service, root):
        shared = [rule for rule in _candidates(rules, namespace, host) if rule.exported_to(client)]
        chosen = _with_selector(shared, labels if namespace == client else None)
        if chosen is not None:
            return chosen
    return None


def _candidates(rules: dict[str, NamespaceRules], namespace: str, host: str) -> list[MergedRule]:
    known = rules.get(namespace)
    return known.candidates(host) if known is not None else []


def _with_selector(candidates: list[MergedRule], labels: dict[str, str] | None) -> MergedRule | None:
    plain = None
    for rule in candidates:
        if rule.selector is None:
            plain = plain or rule
        elif labels is not None and all(labels.get(key) == value for key, value in rule.selector):
            return rule
    return plain
