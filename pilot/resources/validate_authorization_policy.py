"""Rules of an AuthorizationPolicy beyond its schema (Istio's webhook and the CRD's expressions)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from pilot.resources.authorization_policy import AuthorizationPolicy, Operation, Rule, Source, When
from pilot.resources.meta import ObjectMeta
from pilot.resources.names import subnet_fault
from pilot.resources.report import Report
from pilot.resources.rules import tell
from pilot.resources.validate_metadata import DRY_RUN
from pilot.resources.validate_target_ref import check_attachment
from pilot.resources.yaml import Path

_TRUE: Final = ("1", "t", "T", "TRUE", "true", "True")
_FALSE: Final = ("0", "f", "F", "FALSE", "false", "False")
_MAX_ACCOUNTS: Final = 16
_MAX_ACCOUNT: Final = 320
_KEYS: Final = (
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
)
_MAP_KEY: Final = re.compile(
    r"(?:request\.headers|request\.auth\.claims|experimental\.envoy\.filters\.[^\[\]]+)\[.+\]\Z"
)
_SEGMENT: Final = re.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]+\Z")
_NOT_CUSTOM: Final = ("principals", "request_principals", "namespaces", "service_accounts", "trust_domains")
_NOT_CUSTOM_KEYS: Final = ("source.namespace", "source.principal", "source.serviceAccount", "request.auth.")
_HTTP_ONLY: Final = ("hosts", "methods", "paths")


def is_dry_run(meta: ObjectMeta) -> bool:
    """Whether the policy is only to be watched (annotation istio.io/dry-run)."""
    return meta.annotations.get(DRY_RUN) in _TRUE


def validate_authorization_policy(spec: AuthorizationPolicy, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    root: Path = ("spec",)
    check_attachment(spec.selector, spec.target_refs, root, report, target_ref=spec.target_ref)
    _check_action(spec, root, report)
    _check_dry_run(spec, meta, report)
    for index, rule in enumerate(spec.rules):
        _check_rule(rule, (*root, "rules", index), report, custom=spec.action == "CUSTOM")
    if spec.action == "DENY":
        _warn_of_tcp(spec, root, report)


def _check_action(spec: AuthorizationPolicy, root: Path, report: Report) -> None:
    if spec.action in ("DENY", "CUSTOM") and not spec.rules:
        remedy = "add rules; one empty rule, `- {}`, matches everything"
        report((*root, "rules"), f"a {spec.action} policy without rules never acts", remedy)
    if spec.action == "CUSTOM":
        if spec.provider is None or not spec.provider.name:
            report((*root, "provider"), "a CUSTOM policy needs a provider", "write provider.name")
    elif spec.provider is not None:
        report((*root, "provider"), f"a provider belongs to CUSTOM, not {spec.action}", "remove it, or use CUSTOM")


def _check_dry_run(spec: AuthorizationPolicy, meta: ObjectMeta, report: Report) -> None:
    value = meta.annotations.get(DRY_RUN)
    if value is None:
        return
    path = ("metadata", "annotations", DRY_RUN)
    if value not in _TRUE + _FALSE:
        report(path, f'"{value}" is not a truth value', 'write "true" or "false"')
    elif spec.action not in ("ALLOW", "DENY"):
        report(path, f"a {spec.action} policy knows no dry run", "remove the annotation")
    elif value in _TRUE:
        report.warn(path, "a dry run enforces nothing, and its verdicts are not counted", "remove it to enforce")


def _check_rule(rule: Rule, path: Path, report: Report, *, custom: bool) -> None:
    for name, part in (("from", rule.from_), ("to", rule.to), ("when", rule.when)):
        if part is not None and not part:
            report((*path, name), "is empty", "give it an item, or remove it")
    for index, entry in enumerate(rule.from_ or ()):
        here: Path = (*path, "from", index, "source")
        if entry.source is None or entry.source == Source():
            report(here, "is empty and says nothing of the source", "write a condition, or remove it")
        else:
            _check_source(entry.source, here, report, custom=custom)
    for index, target in enumerate(rule.to or ()):
        here = (*path, "to", index, "operation")
        if target.operation is None or target.operation == Operation():
            report(here, "is empty and says nothing of the operation", "write a condition, or remove it")
        else:
            _check_operation(target.operation, here, report)
    for index, when in enumerate(rule.when or ()):
        _check_when(when, (*path, "when", index), report, custom=custom)


def _fields(part: Source | Operation, path: Path) -> Iterator[tuple[str, tuple[str, ...], Path]]:
    """Given fields: (name without `not_`, values, path)."""
    for name, written in zip(part.__struct_fields__, part.__struct_encode_fields__, strict=True):
        if values := getattr(part, name):
            yield name.removeprefix("not_"), values, (*path, written)


def _check_source(source: Source, path: Path, report: Report, *, custom: bool) -> None:
    accounts = source.service_accounts or source.not_service_accounts
    if accounts and (source.principals or source.not_principals or source.namespaces or source.not_namespaces):
        report(path, "serviceAccounts stand beside principals or namespaces", "put them into a source of their own")
    for name, values, here in _fields(source, path):
        _check_empty(values, here, report)
        if custom and name in _NOT_CUSTOM:
            report(here, "is not known yet when a CUSTOM policy is asked", "remove it, or use DENY or ALLOW")
        if name in ("ip_blocks", "remote_ip_blocks"):
            _check_blocks(values, here, report)
        elif name == "service_accounts":
            _check_accounts(values, here, report)
        elif name == "trust_domains":
            _check_trust_domains(values, here, report)


def _check_operation(operation: Operation, path: Path, report: Report) -> None:
    for name, values, here in _fields(operation, path):
        _check_empty(values, here, report)
        if name == "ports":
            _check_ports(values, here, report)
        elif name == "paths":
            for index, value in enumerate(values):
                _check_template(value, (*here, index), report)


def _check_when(when: When, path: Path, report: Report, *, custom: bool) -> None:
    key = when.key
    if not key:
        report((*path, "key"), "is required", "name an attribute, for example request.headers[x-token]")
        return
    if key not in _KEYS and not _MAP_KEY.match(key):
        report(
            (*path, "key"), f'unknown attribute "{key}"', "use one of " + ", ".join(_KEYS) + ", request.headers[NAME]"
        )
    if not when.values and not when.not_values:
        report(path, "has neither values nor notValues", "write one of them")
    if custom and key.startswith(_NOT_CUSTOM_KEYS):
        report((*path, "key"), f"{key} is not known yet when a CUSTOM policy is asked", "use DENY or ALLOW")
    for name, values in (("values", when.values), ("notValues", when.not_values)):
        here = (*path, name)
        _check_empty(values, here, report)
        if key in ("source.ip", "remote.ip", "destination.ip"):
            _check_blocks(values, here, report)
        elif key == "destination.port":
            _check_ports(values, here, report)
        elif key == "source.serviceAccount":
            _check_accounts(values, here, report)
        elif key == "source.trustDomain":
            _check_trust_domains(values, here, report)


def _check_empty(values: Iterable[str], path: Path, report: Report) -> None:
    for index, value in enumerate(values):
        if not value:
            report((*path, index), "an empty value", 'write a value, or "*" for any that is not empty')


def _check_blocks(values: Iterable[str], path: Path, report: Report) -> None:
    for index, value in enumerate(values):
        if value:
            tell(report, (*path, index), subnet_fault(value))


def _check_ports(values: Iterable[str], path: Path, report: Report) -> None:
    for index, value in enumerate(values):
        if value and not (value.isascii() and value.isdigit() and len(value) <= 5 and int(value) <= 65535):
            report((*path, index), f'"{value}" is not a port', "write a number from 1 to 65535, in quotes")


def _check_accounts(values: tuple[str, ...], path: Path, report: Report) -> None:
    if len(values) > _MAX_ACCOUNTS:
        report(path, f"more than {_MAX_ACCOUNTS} service accounts", "split the rule")
    for index, value in enumerate(values):
        if len(value) > _MAX_ACCOUNT:
            report((*path, index), f"longer than {_MAX_ACCOUNT} characters", "shorten it")
        elif "*" in value:
            report((*path, index), "a service account knows no wildcards", "write ACCOUNT or NAMESPACE/ACCOUNT")
        elif value.count("/") > 1 or value.startswith("/") or value.endswith("/"):
            report((*path, index), f'"{value}" is not a service account', "write ACCOUNT or NAMESPACE/ACCOUNT")


def _check_trust_domains(values: Iterable[str], path: Path, report: Report) -> None:
    for index, value in enumerate(values):
        if "/" in value:
            report((*path, index), f'"{value}" is not a trust domain', "write the part before the first /")


def _check_template(value: str, path: Path, report: Report) -> None:
    """A path; with {*} (one segment) or {**} (any number, the last operator) it is a template."""
    segments = value.strip("/").split("/")
    template = "{*}" in value or "{**}" in value
    rest = False
    for segment in segments:
        if segment in ("{*}", "{**}"):
            if rest:
                report(path, "an operator follows {**}", "let {**} be the last one")
            rest = rest or segment == "{**}"
        elif "{" in segment or "}" in segment:
            report(path, f'segment "{segment}" has braces', "write {*} or {**} as a whole segment")
        elif template and not _SEGMENT.match(segment):
            report(path, f'segment "{segment}" cannot stand in a template', "write plain characters of a path")


def _warn_of_tcp(spec: AuthorizationPolicy, root: Path, report: Report) -> None:
    """A DENY rule whose conditions all need HTTP matches every connection of a TCP port (as in Istio)."""
    for index, rule in enumerate(spec.rules):
        operations = [entry.operation for entry in rule.to or () if entry.operation is not None]
        sources = [entry.source for entry in rule.from_ or () if entry.source is not None]
        ported = operations and all(operation.ports or operation.not_ports for operation in operations)
        http = any(name in _HTTP_ONLY for operation in operations for name, _, _ in _fields(operation, ()))
        tokens = any(source.request_principals or source.not_request_principals for source in sources)
        if (http or tokens) and not ported:
            report.warn(
                (*root, "rules", index),
                "on a TCP port only what is not HTTP's is looked at, so this rule denies more there",
                "name the HTTP ports in to.operation.ports",
            )
