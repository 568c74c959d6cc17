"""`meshctl route`: where would this request go, and who says so?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from mesh.config import Origin
from mesh.ctl.dry_run import Answer, Request, ask, build_world
from mesh.errors import MeshError

if TYPE_CHECKING:
    from pilot.store import MeshSettings

_EXAMPLE = "Example: meshctl route -f mesh/ --url http://reviews:9080/ -H 'end-user: jason' --from default/web"


@click.command(epilog=_EXAMPLE)
@click.option("-f", "paths", metavar="PATH", multiple=True, required=True, help="File or folder of YAML; may repeat.")
@click.option("--url", default="", help="The URL as the client writes it.")
@click.option("--method", default="GET", show_default=True, help="The request's method.")
@click.option("-H", "headers", metavar="'K: V'", multiple=True, help="A header of the request; may repeat.")
@click.option("--from", "client", metavar="NS/NAME", default="", help="The calling workload (default: default/*).")
@click.option("--gateway", metavar="NS/NAME", default="", help="The Gateway by which the request comes in.")
@click.option("--request", "written", metavar="JSON", default="", help="The whole request as a JSON object instead.")
@click.option("--mesh-config", metavar="FILE|JSON", default="", help="MeshConfig to ask under.")
@click.option("-o", "output", type=click.Choice(["text", "json"]), default="text", help="How to print the answer.")
def command(
    paths: tuple[str, ...],
    url: str,
    method: str,
    headers: tuple[str, ...],
    client: str,
    gateway: str,
    written: str,
    mesh_config: str,
    output: str,
) -> None:
    """Where would this request go, and who says so?

    Nothing is sent: the files are translated as the pilot does it and the agent's own route table is asked. A
    Deployment counts as one ready workload. Exit status 1: a proxy would refuse the request.
    """
    from mesh.ctl.files import load
    from pilot.store import MeshSettings

    request = parse_request(written) if written else from_options(url, method, headers, client, gateway)
    settings = parse_mesh_config(mesh_config) if mesh_config else MeshSettings()
    loaded = load(paths)
    if loaded.errors:
        for error in loaded.errors:
            click.echo(str(error), err=True)
        click.echo("objects with errors are left out of the answer", err=True)
    answer = ask(build_world(loaded.objects, settings), request)
    if output == "json":
        click.echo(json.dumps(answer.as_json()))
    else:
        click.echo("\n".join(describe(request, answer)))
    if answer.refused:
        raise SystemExit(1)


def parse_request(written: str) -> Request:
    """A request object from JSON. Raises MeshError."""
    try:
        return msgspec.json.decode(written, type=Request)
    except msgspec.DecodeError as exc:
        raise MeshError(f'--request: {exc}; write for example {{"url": "http://reviews:9080/"}}') from exc


def from_options(url: str, method: str, headers: tuple[str, ...], client: str, gateway: str) -> Request:
    """A request from the single options. Raises click.UsageError without a URL or with a header that is none."""
    if not url:
        raise click.UsageError("give --url (or --request)")
    fields: dict[str, str | list[str]] = {}
    host = ""
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f"-H {header!r} is not a header; write 'name: value'")
        if name.strip().lower() == "host":
            host = value.strip()
            continue
        before = fields.get(name.strip(), [])
        fields[name.strip()] = [*(before if isinstance(before, list) else [before]), value.strip()]
    return Request(url=url, method=method, headers=fields, from_=client, gateway=gateway, host=host)


def parse_mesh_config(written: str) -> MeshSettings:
    """Settings from JSON text or from a YAML or JSON file. Raises MeshError."""
    from pilot.resources.yaml import documents
    from pilot.store import decode_mesh_config

    if written.lstrip().startswith("{"):
        text, name = written, "--mesh-config"
    else:
        name = written
        try:
            text = Path(written).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise MeshError(f"--mesh-config {written}: {exc}; give a file or JSON") from exc
    found, errors = documents(text, name)
    if errors:
        raise errors[0]
    value: Any = found[0].value if found else {}
    if not isinstance(value, dict):
        raise MeshError(f"{name}: a MeshConfig is a mapping; write for example outboundTrafficPolicy: ...")
    return decode_mesh_config(value)


def describe(request: Request, answer: Answer) -> Iterator[str]:
    """The answer as a small tree; what decided ends in file and line."""
    yield f"{request.method} {request.url}"
    lines = list(_facts(answer))
    for position, (label, text) in enumerate(lines):
        last = position == len(lines) - 1
        yield f"{'└─' if last else '├─'} {label:<10} {text}"


def _facts(answer: Answer) -> Iterator[tuple[str, str]]:
    yield "answer", _outcome(answer)
    if answer.weights and len(answer.weights) > 1:
        for name, share in answer.weights.items():
            yield "weight", f"{share:g} %  {name}"
    if answer.backend is not None:
        yield "backend", _backend(answer)
    if answer.upstream is not None:
        yield "sent as", f"{answer.upstream.protocol} {answer.upstream.host} {answer.upstream.path}"
    if answer.timeout:
        yield "timeout", f"{answer.timeout:g} s"
    if answer.retries is not None:
        yield "retries", f"{answer.retries.attempts} on {', '.join(answer.retries.retry_on)}"
    if answer.fault is not None:
        yield from _fault(answer)
    for considered in answer.explanation.considered if answer.explanation is not None else ():
        yield "not", f"{considered.route or 'rule'}: {considered.why_not}  {_place(considered.origin)}"
    for report in answer.reports:
        yield "beware", str(report)
    for origin in answer.decided_by:
        yield "decided by", _place(origin)


def _outcome(answer: Answer) -> str:
    if answer.redirect is not None:
        return f"{answer.status} to {answer.redirect.location}"
    if answer.blackhole:
        return f"{answer.status or 'closed'}: no such service, and the mesh is REGISTRY_ONLY"
    if answer.passthrough:
        return "goes outside the mesh as it is (PassthroughCluster)"
    if answer.error or answer.flag:
        parts = [str(answer.status or "connection closed"), answer.flag, answer.details or answer.error or ""]
        return " ".join(part for part in parts if part)
    if answer.backend is None:
        return f"{answer.status} by the proxy itself"
    return "goes to the backend"


def _backend(answer: Answer) -> str:
    backend = answer.backend
    if backend is None:
        return ""
    text = f"{backend.host}:{backend.port}"
    if backend.subset:
        text += f" subset {backend.subset}"
    if backend.workload:
        text += f", for instance {backend.workload}"
    if answer.mtls is not None:
        text += ", mTLS" if answer.mtls else ", plaintext"
    return text


def _fault(answer: Answer) -> Iterator[tuple[str, str]]:
    fault = answer.fault
    if fault is not None and fault.delay is not None:
        yield "fault", f"delay of {fault.delay.seconds:g} s on {fault.delay.percent:g} %"
    if fault is not None and fault.abort is not None:
        status = fault.abort.status or f"grpc-status {fault.abort.grpc_status}"
        yield "fault", f"abort with {status} on {fault.abort.percent:g} %"


def _place(origin: Origin) -> str:
    return f"{origin.kind} {origin.namespace}/{origin.name} {origin.field}  {origin.file}:{origin.line}"
