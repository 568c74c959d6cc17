"""(apiVersion, kind) to decoder: the one way from text to objects, faults and notices.

Every fault of every document is told. A document with a fault gives no object, but its key when that
can be read, so that a source can keep the last good version.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mesh.errors import ConfigError
from pilot.resources.decode import decode as decode_struct
from pilot.resources.decode import describe, nearest
from pilot.resources.kinds import BY_GROUP_KIND, ISTIO_GROUPS, KINDS, OWNED_GROUPS, Kind
from pilot.resources.meta import ObjectMeta
from pilot.resources.names import name_fault
from pilot.resources.not_served import not_served
from pilot.resources.object import Key, Object
from pilot.resources.report import Finding, Notice, Report
from pilot.resources.validate_metadata import check_annotations
from pilot.resources.yaml import Document, Path, documents, format_path

_TOP_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")


@dataclass(slots=True)
class Decoded:
    """What one document gave. `key` is there for broken objects too, when kind and name were readable.

    `errors` cost the object; `blemishes` are what `validate` refuses and the mesh serves all the same.
    """

    object: Object | None = None
    key: Key | None = None
    errors: list[ConfigError] = field(default_factory=list)
    blemishes: list[ConfigError] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


@dataclass(slots=True)
class Loaded:
    """What a text (or several) gave. `broken` are the keys of objects that have errors."""

    objects: list[Object] = field(default_factory=list)
    errors: list[ConfigError] = field(default_factory=list)
    blemishes: list[ConfigError] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    broken: list[Key] = field(default_factory=list)
    readable: bool = True
    """False when a syntax error hides what else the text holds."""


def load(text: str | bytes, file: str) -> Loaded:
    """Objects, errors and notices of a YAML or JSON text; `file` is only for messages."""
    found, errors = documents(text, file)
    loaded = Loaded(errors=errors, readable=not errors)
    for document in found:
        for decoded in decode(document):
            loaded.errors += decoded.errors
            loaded.blemishes += decoded.blemishes
            loaded.notices += decoded.notices
            if decoded.object is not None:
                loaded.objects.append(decoded.object)
            elif decoded.errors and decoded.key is not None:
                loaded.broken.append(decoded.key)
    return loaded


def decode(document: Document) -> Iterator[Decoded]:
    """One result per object; a List gives one for each of its items."""
    value = document.value
    if not isinstance(value, dict):
        line, column = document.position(())
        what = f"an object must be a mapping, not {describe(value)}"
        remedy = "write apiVersion, kind, metadata and spec"
        yield Decoded(errors=[ConfigError(what, remedy=remedy, file=document.file, line=line, column=column)])
    elif str(value.get("kind", "")).endswith("List") and isinstance(value.get("items"), list):
        members = document.mark[2]
        marks = members["items"][2] if isinstance(members, dict) else None
        for index, item in enumerate(value["items"]):
            mark = marks[index] if isinstance(marks, list) else document.mark
            yield from decode(Document(item, mark, document.file))
    else:
        yield _decode_object(value, document)


def _decode_object(value: dict[str, Any], document: Document) -> Decoded:
    report = Report()
    kind = _find_kind(value, report)
    meta = _metadata(kind, value, report)
    name = kind.name if kind else str(value.get("kind") or "")
    result = Decoded()
    if kind is None:
        if not report.faults:
            what = f"kind {value['kind']} of {value['apiVersion']} is not part of the mesh"
            result.notices.append(
                _notice("foreign", Finding(("kind",), what, "it is passed over"), meta, name, document)
            )
    else:
        result.key = (kind.name, meta.namespace, meta.name)
        made = _decode_spec(kind, value, meta, document, report)
        result.object = None if report.faults else made
        for finding in _unserved(kind, value):
            result.notices.append(_notice("not_served", finding, meta, name, document))
    result.notices += [_notice("warning", warning, meta, name, document) for warning in report.warnings]
    result.blemishes = [_error(blemish, meta, name, document) for blemish in report.blemishes]
    result.errors = [_error(fault, meta, name, document) for fault in report.faults]
    return result


def _find_kind(value: dict[str, Any], report: Report) -> Kind | None:
    """The kind; None with a fault for a wrong one, None without for other people's."""
    if "apiVersion" not in value and (core := _unversioned(value.get("kind"))):
        report.warn(("kind",), "apiVersion is missing", f"write apiVersion: {core.api_versions[0]}")
        return core
    for name in ("apiVersion", "kind"):
        if not isinstance(value.get(name), str) or not value[name]:
            report((name,), "is required", "add it, for example " + _EXAMPLES[name])
    if report.faults:
        return None
    api_version, written = value["apiVersion"], value["kind"]
    group, _, version = api_version.rpartition("/")
    kind = BY_GROUP_KIND.get((group, written))
    if kind is None and group in OWNED_GROUPS:
        names = [k.written or k.name for k in KINDS if k.group == group]
        report(("kind",), f"no kind {written} in {group}", nearest(written, names))
    elif kind is None and (similar := _same_kind_elsewhere(group, written)):
        report(("apiVersion",), f"{written} is not in {api_version}", f"write {similar.api_versions[0]}")
    elif kind is not None and version not in kind.versions:
        served = ", ".join(kind.api_versions)
        report(("apiVersion",), f"{written} has no version {version}", f"write one of {served}")
        return None
    return kind


def _unversioned(written: Any) -> Kind | None:
    """Kubernetes' own kinds are told by their name alone, as `istioctl validate` does."""
    return next((k for k in KINDS if k.name == written and k.group not in OWNED_GROUPS), None)


_EXAMPLES = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService"}


def _same_kind_elsewhere(group: str, written: str) -> Kind | None:
    """A mesh kind whose group was forgotten or misspelt (`istio.io/v1`, `v1`)."""
    if group and not group.endswith("istio.io"):
        return None
    return next((k for k in KINDS if k.name == written and k.group in OWNED_GROUPS), None)


def _metadata(kind: Kind | None, value: dict[str, Any], report: Report) -> ObjectMeta:
    private = report if kind else Report()
    raw = value.get("metadata")
    meta: ObjectMeta = decode_struct(ObjectMeta, {} if raw is None else raw, ("metadata",), private)
    if kind is None:
        return meta
    if not meta.name and not meta.generate_name:
        private(("metadata", "name"), "is required", "give the object a name")
    elif meta.name and (fault := name_fault(meta.name)):
        private.style(("metadata", "name"), *fault)
    if kind.cluster_wide:
        return ObjectMeta(**{**{f: getattr(meta, f) for f in meta.__struct_fields__}, "namespace": ""})
    if meta.namespace and (fault := name_fault(meta.namespace, label=True)):
        private.style(("metadata", "namespace"), *fault)
    return meta


def _decode_spec(
    kind: Kind, value: dict[str, Any], meta: ObjectMeta, document: Document, report: Report
) -> Object | None:
    if kind.group in OWNED_GROUPS:
        for name in value.keys() - set(_TOP_FIELDS):
            report((name,), "unknown field", nearest(name, _TOP_FIELDS))
    if kind.group in ISTIO_GROUPS:
        check_annotations(kind.name, meta, report)
    if kind.spec is None:
        return None
    path: Path = ("spec",) if kind.body == "spec" else ()
    raw = value.get("spec") if kind.body == "spec" else value
    if raw is None and kind.spec_required:
        report(path, "is required", "write the object's fields below spec")
        return None
    before = len(report.faults)
    spec = decode_struct(kind.spec, {} if raw is None else raw, path, report)
    status = None
    if kind.status is not None:
        raw_status = value.get("status")
        status = decode_struct(kind.status, {} if raw_status is None else raw_status, ("status",), report)
    _check(kind, spec, meta, report, before)
    return Object(
        kind=kind.name,
        api_version=value.get("apiVersion") or kind.api_versions[0],
        meta=meta,
        spec=spec,
        status=status,
        mark=document.mark,
        file=document.file,
    )


def _check(kind: Kind, spec: Any, meta: ObjectMeta, report: Report, before: int) -> None:
    """Run the kind's rules, and drop what they say about places that could not be decoded."""
    if kind.check is None:
        return
    checked = Report()
    kind.check(spec, meta, checked)
    spoilt = [fault.path for fault in report.faults[before:]]
    report.faults += [fault for fault in checked.faults if not any(_related(fault.path, path) for path in spoilt)]
    report.warnings += checked.warnings
    report.blemishes += checked.blemishes


def _related(one: Path, other: Path) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _unserved(kind: Kind, value: dict[str, Any]) -> Iterator[Finding]:
    if kind.instead:
        yield Finding(("kind",), "accepted, not served yet", kind.instead)
    elif isinstance(spec := value.get("spec"), dict):
        yield from not_served(kind.name, spec, ("spec",))


def _error(fault: Finding, meta: ObjectMeta, kind: str, document: Document) -> ConfigError:
    line, column = document.position(fault.path)
    return ConfigError(
        fault.what,
        remedy=fault.remedy,
        path=format_path(fault.path),
        kind=kind,
        namespace=meta.namespace,
        name=meta.name or meta.generate_name,
        file=document.file,
        line=line,
        column=column,
    )


def _notice(level: Any, finding: Finding, meta: ObjectMeta, kind: str, document: Document) -> Notice:
    line, column = document.position(finding.path)
    return Notice(
        level=level,
        what=finding.what,
        remedy=finding.remedy,
        path=format_path(finding.path),
        kind=kind,
        namespace=meta.namespace,
        name=meta.name or meta.generate_name,
        file=document.file,
        line=line,
        column=column,
    )
