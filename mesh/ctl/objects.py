"""`meshctl apply`, `delete` and `get`: the running pilot's objects."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import click

from mesh.ctl import tables
from mesh.ctl.api import PilotApi
from mesh.ctl.pilot_option import with_pilot
from mesh.errors import MeshError

# kubectl's short names, for fingers that know them.
_SHORT = {
    "vs": "VirtualService",
    "dr": "DestinationRule",
    "gw": "Gateway",
    "se": "ServiceEntry",
    "we": "WorkloadEntry",
    "wg": "WorkloadGroup",
    "pa": "PeerAuthentication",
    "ap": "AuthorizationPolicy",
    "ra": "RequestAuthentication",
    "svc": "Service",
    "sa": "ServiceAccount",
    "cm": "ConfigMap",
    "ns": "Namespace",
    "deploy": "Deployment",
}

_files = click.option(
    "-f", "paths", multiple=True, metavar="PATH", help="A file, a folder (recursive) or - for stdin; may repeat."
)
_namespace = click.option("-n", "--namespace", metavar="NS", help="Namespace of the object.")
_wait = click.option("--wait", is_flag=True, help="Return when every agent has acknowledged the change.")
_within = click.option("--within", default=30.0, metavar="SECONDS", help="How long --wait waits.", show_default=True)
_as_json = click.option("-o", "output", type=click.Choice(["text", "json"]), default="text", help="How to print it.")


@click.command(epilog="Example: meshctl apply -f reviews-90-10.yaml --wait")
@_files
@_wait
@_within
@_as_json
@with_pilot
def apply_command(paths: tuple[str, ...], wait: bool, within: float, output: str, api: PilotApi) -> None:
    """Check objects and send them to the running pilot in one step: all of them, or none."""
    if not paths:
        raise click.UsageError("nothing to apply; write -f PATH")
    body = _checked(read_texts(paths))
    answer = api.post("/api/apply", body, wait=within if wait else None)
    _finish(answer, output, reports=_reports(api, answer["objects"]))


@click.command(epilog="Example: meshctl delete virtualservice reviews")
@click.argument("kind", required=False)
@click.argument("name", required=False)
@_namespace
@_files
@_wait
@_within
@_as_json
@with_pilot
def delete_command(
    kind: str | None,
    name: str | None,
    namespace: str | None,
    paths: tuple[str, ...],
    wait: bool,
    within: float,
    output: str,
    api: PilotApi,
) -> None:
    """Take objects away that `apply` brought: KIND NAME, or those that stand in files."""
    waiting = within if wait else None
    if bool(paths) == bool(kind and name):
        raise click.UsageError("write either KIND NAME or -f PATH")
    if paths:
        answer = api.post("/api/delete", _checked(read_texts(paths)), wait=waiting)
    else:
        asked = {"kind": kind_name(str(kind)), "name": str(name), "namespace": namespace or "default"}
        answer = api.post("/api/delete", b"", wait=waiting, **asked)
    _finish(answer, output, reports=[])


@click.command(epilog="Example: meshctl get virtualservice reviews -o yaml")
@click.argument("kind", required=False)
@click.argument("name", required=False)
@_namespace
@click.option("-o", "output", type=click.Choice(["table", "json", "yaml"]), default="table", help="How to print it.")
@with_pilot
def get_command(kind: str | None, name: str | None, namespace: str | None, output: str, api: PilotApi) -> None:
    """Show objects in force, wherever they came from."""
    full = "" if output == "table" else "1"
    query = {"kind": kind_name(kind) if kind else "", "name": name or "", "namespace": namespace or "", "full": full}
    found = api.get("/api/objects", **query)
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    elif output == "yaml":
        click.echo(_as_yaml(found), nl=False)
    else:
        tables.show(("NAMESPACE", "KIND", "NAME", "STATUS", "FROM"), [_row(obj) for obj in found])
        for note in (note for obj in found for note in _notes(obj)):
            click.echo(note, err=True)
    if name and not found:
        raise click.exceptions.Exit(1)


def kind_name(text: str) -> str:
    """The kind as it is written in YAML, from any spelling: virtualservices, VirtualService, vs."""
    from pilot.resources.kinds import KINDS

    if text.lower() in _SHORT:
        return _SHORT[text.lower()]
    names = {kind.name.lower(): kind.name for kind in KINDS}
    for spelling in (text.lower(), text.lower().removesuffix("s"), text.lower().removesuffix("es")):
        if spelling in names:
            return names[spelling]
    if text.lower().endswith("ies") and (single := text.lower()[:-3] + "y") in names:
        return names[single]
    from pilot.resources.decode import nearest

    raise MeshError(f"unknown kind {text}; {nearest(text, names.values())}")


def read_texts(paths: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each file; a folder gives its YAML and JSON files in order. Raises MeshError."""
    from pilot.sources.folder import SUFFIXES, config_files

    for path in paths:
        if path == "-":
            yield "<stdin>", sys.stdin.buffer.read()
            continue
        try:
            files = list(config_files(Path(path)))
            if not files:
                raise MeshError(f"{path}: no file in it ends in {', '.join(SUFFIXES)}; name another folder or a file")
            for file in files:
                yield str(file), file.read_bytes()
        except OSError as exc:
            raise MeshError(f"{exc.filename or path}: {exc.strerror}; name a readable file or folder") from exc


def _checked(texts: Iterator[tuple[str, bytes]]) -> bytes:
    """All texts as one body. Faults are told here, where the files' names and lines are known."""
    from pilot.resources.registry import load

    bodies, errors = [], []
    for name, text in texts:
        errors += load(text, name).errors
        bodies.append(text.strip(b"\n"))
    if errors:
        raise MeshError("nothing was changed:\n" + "\n".join(map(str, errors)))
    return b"\n---\n".join(bodies) + b"\n"


def _finish(answer: dict[str, Any], output: str, reports: list[str]) -> None:
    if output == "json":
        click.echo(json.dumps({**answer, "reports": reports}, indent=2))
    else:
        for each in answer["objects"]:
            place = f"{each['namespace']}/" if each["namespace"] else ""
            click.echo(f"{each['kind']}/{place}{each['name']} {each['result']}")
        for note in dict.fromkeys([*answer["notices"], *reports]):
            click.echo(note, err=True)
    late = [f"{proxy} has not acknowledged it yet" for proxy in answer.get("waiting", [])]
    refused = [
        f"{each['proxy']} refused {each['kind']} {each['name']}: {each['reason']}" for each in answer.get("nacked", [])
    ]
    for line in late + refused:
        click.echo(line, err=True)
    if late or refused:
        raise click.exceptions.Exit(1)


def _reports(api: PilotApi, objects: list[dict[str, str]]) -> list[str]:
    """What the translation says of these objects: a route to a subset that is not there, and the like."""
    reports: list[str] = []
    for each in objects:
        where = {"kind": each["kind"], "namespace": each["namespace"], "name": each["name"]}
        for found in api.get("/api/objects", **where):
            reports += found["status"]["reports"]
    return reports


def _row(obj: dict[str, Any]) -> tuple[str, ...]:
    status = "invalid" if not obj["status"]["valid"] else "noted" if list(_notes(obj)) else "ok"
    return obj["namespace"] or "-", obj["kind"], obj["name"], status, f"{obj['file']}:{obj['line']}"


def _notes(obj: dict[str, Any]) -> Iterator[str]:
    for group in ("errors", "notices", "reports"):
        yield from obj["status"][group]


def _as_yaml(found: list[dict[str, Any]]) -> str:
    return "---\n".join(_as_written(obj) or json.dumps(_as_served(obj), indent=2) + "\n" for obj in found)


def _as_written(obj: dict[str, Any]) -> str:
    """The document as it stands in the object's file, comments and all, when that file is here and still holds it."""
    from pilot.resources.yaml import documents

    try:
        lines = Path(obj["file"]).read_text(encoding="utf-8").splitlines()[obj["line"] - 1 :]
    except (OSError, UnicodeDecodeError):
        return ""
    text = "".join(f"{line}\n" for line in takewhile(lambda line: not line.startswith("---"), lines))
    found, errors = documents(text, obj["file"])
    if errors or len(found) != 1 or not isinstance(value := found[0].value, dict):
        return ""
    metadata = value.get("metadata")
    same = value.get("kind") == obj["kind"] and isinstance(metadata, dict) and metadata.get("name") == obj["name"]
    return text if same else ""


def _as_served(obj: dict[str, Any]) -> dict[str, Any]:
    """The object as the pilot understood it, without what was not given. Durations are seconds."""
    metadata = _given({"name": obj["name"], "namespace": obj["namespace"], "labels": obj["labels"]})
    head = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}
    return {**head, "spec": _given(obj["spec"])}


def _given(value: Any) -> Any:
    if isinstance(value, dict):
        pruned = {key: _given(member) for key, member in value.items()}
        return {key: member for key, member in pruned.items() if member not in (None, "", [], {})}
    return [_given(member) for member in value] if isinstance(value, list) else value
