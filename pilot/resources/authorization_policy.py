"""AuthorizationPolicy: who may do what to a workload, by connection and by request."""

from typing import Literal

from msgspec import Struct, field

from pilot.resources.meta import MatchLabels
from pilot.resources.target_ref import TargetRef


class Source(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Who asks: all given fields hold; within a field one value is enough, and of `not…` none may match."""

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    not_service_accounts: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()


class Operation(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is asked for; `ports` are the workload's own. Fields combine as in Source."""

    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


class From(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One alternative of a rule's sources."""

    source: Source | None = None


class To(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One alternative of a rule's operations."""

    operation: Operation | None = None


class When(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A condition on one attribute of Istio's list, such as `request.headers[x-token]`."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


class Rule(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Any of `from_`, any of `to`, all of `when`; a part that is not given holds always."""

    from_: tuple[From, ...] | None = field(default=None, name="from")
    to: tuple[To, ...] | None = None
    when: tuple[When, ...] | None = None


class Provider(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The external authorizer of a CUSTOM policy, by its name in MeshConfig."""

    name: str = ""


class AuthorizationPolicy(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of an AuthorizationPolicy. An ALLOW policy without rules matches nothing, so it denies."""

    selector: MatchLabels | None = None
    target_ref: TargetRef | None = None
    target_refs: tuple[TargetRef, ...] = ()
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] = "ALLOW"
    provider: Provider | None = None
    rules: tuple[Rule, ...] = ()
