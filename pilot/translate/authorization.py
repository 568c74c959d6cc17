"""AuthorizationPolicies -> the policies of a proxy's own chains: which of them apply, and their rules in one form.

Enforcement is on the server's side only: inbound ports and gateways. CUSTOM becomes DENY, because no authorizer
is asked; AUDIT and dry runs decide nothing; what names a target is not for sidecars or gateways of this mesh.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, cast

from mesh import config
from pilot.resources.authorization_policy import AuthorizationPolicy, Operation, Rule, Source, When
from pilot.resources.object import Object
from pilot.resources.validate_authorization_policy import is_dry_run
from pilot.store.world import World
from pilot.translate.visibility import View

_ATTRIBUTES: Final = {
    "principals": "source.principal",
    "request_principals": "request.auth.principal",
    "namespaces": "source.namespace",
    "service_accounts": "source.serviceAccount",
    "trust_domains": "source.trustDomain",
    "ip_blocks": "source.ip",
    "remote_ip_blocks": "remote.ip",
    "hosts": "request.host",
    "ports": "destination.port",
    "methods": "request.method",
    "paths": "request.path",
}
_LOCAL_DOMAIN: Final = "cluster.local"
_HEADERS: Final = "request.headers["


def applicable(world: World, namespace: str, labels: dict[str, str], *, everywhere: bool = False) -> list[Object]:
    """Policies that select a workload: of the root namespace, then of its own, each in order of creation.

    `everywhere`: of all namespaces, for a gateway that stands alone before all of them.
    """
    by_namespace = world.index.authorization_policies
    names = dict.fromkeys((world.settings.root_namespace, namespace, *(sorted(by_namespace) if everywhere else ())))
    return [obj for name in names for obj in by_namespace.get(name, ()) if _selects(obj, labels)]


def _selects(obj: Object, labels: dict[str, str]) -> bool:
    spec = cast(AuthorizationPolicy, obj.spec)
    if spec.target_ref is not None or spec.target_refs:
        return False
    return spec.selector is None or spec.selector.matches(labels)


def authz_policies(view: View) -> tuple[config.AuthzPolicy, ...]:
    """What is enforced where connections come in to this proxy."""
    return tuple(
        _policy(view, obj)
        for obj in applicable(view.world, view.namespace, view.labels, everywhere=view.proxy.match_all_gateways)
        if cast(AuthorizationPolicy, obj.spec).action != "AUDIT" and not is_dry_run(obj.meta)
    )


def _policy(view: View, obj: Object) -> config.AuthzPolicy:
    spec = cast(AuthorizationPolicy, obj.spec)
    rules = tuple(_rule(view, obj, rule) for rule in spec.rules)
    action: Literal["ALLOW", "DENY"] = "ALLOW" if spec.action == "ALLOW" else "DENY"
    return config.AuthzPolicy(obj.name, obj.namespace, action, rules, obj.origin("spec.rules"))


def _rule(view: View, obj: Object, rule: Rule) -> config.AuthzRule:
    sources = [entry.source for entry in rule.from_ or () if entry.source is not None]
    operations = [entry.operation for entry in rule.to or () if entry.operation is not None]
    return config.AuthzRule(
        sources=tuple(tuple(_conditions(view, obj, source)) for source in sources),
        operations=tuple(tuple(_conditions(view, obj, operation)) for operation in operations),
        conditions=tuple(condition for when in rule.when or () for condition in _when(view, obj, when)),
    )


def _conditions(view: View, obj: Object, part: Source | Operation) -> Iterator[config.AuthzCondition]:
    for name in part.__struct_fields__:
        values = getattr(part, name)
        if values:
            attribute = _ATTRIBUTES[name.removeprefix("not_")]
            yield _condition(view, obj, attribute, values, negated=name.startswith("not_"))


def _when(view: View, obj: Object, when: When) -> Iterator[config.AuthzCondition]:
    attribute, name = when.key, ""
    if attribute.startswith(_HEADERS):
        attribute, name = "request.header", when.key[len(_HEADERS) : -1].lower()
    for values, negated in ((when.values, False), (when.not_values, True)):
        if values:
            yield _condition(view, obj, attribute, values, negated=negated, name=name)


def _condition(
    view: View, obj: Object, attribute: str, values: tuple[str, ...], *, negated: bool, name: str = ""
) -> config.AuthzCondition:
    if attribute == "source.serviceAccount":
        values = tuple(value if "/" in value else f"{obj.namespace}/{value}" for value in values)
    elif attribute in ("source.principal", "source.trustDomain"):
        values = _in_all_domains(view, values)
    return config.AuthzCondition(attribute, values, negated, name)


def _in_all_domains(view: View, values: tuple[str, ...]) -> tuple[str, ...]:
    """A name in the mesh's trust domain, however it is called, is one in each of its aliases too."""
    domains = (view.settings.trust_domain, *view.settings.trust_domain_aliases)
    found: dict[str, None] = {}
    for value in values:
        domain, slash, rest = value.partition("/")
        own = domain in domains or domain == _LOCAL_DOMAIN
        found.update(dict.fromkeys(f"{each}{slash}{rest}" for each in domains) if own else {value: None})
    return tuple(found)
