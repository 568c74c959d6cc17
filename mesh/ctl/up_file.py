"""The small file of `meshctl up`: read strictly, and turned into workloads and the YAML that the pilot needs.

services:
  web: {run: python web.py, port: 8080}
  api: {run: python api.py, version: v1, replicas: 2}
expose: web
config: ./mesh
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from msgspec import Struct

from mesh.ctl.local_mesh import Workload
from mesh.errors import ConfigError, MeshError
from mesh.feed.node import is_health_check

DEFAULT_FILES = ("mesh.yaml", "trioweave.yaml")
_PROTOCOLS = ("http", "http2", "grpc", "tcp")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")


class ServiceEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One service. `port` is where the app listens; without it the app is given a free one as $PORT.
    `service_port` is what its callers write, by default the app's fixed port, else 80. `health` is "tcp", "grpc",
    "grpc:SERVICE" or a path: callers leave a replica out while it cannot be connected to, does not serve, or does not
    answer 200..399 there."""

    run: str
    port: int = 0
    service_port: int = 0
    protocol: str = "http"
    version: str = ""
    replicas: int = 1
    env: dict[str, str] = {}
    labels: dict[str, str] = {}
    cwd: str = ""
    restart: bool = True
    health: str = ""

    @property
    def called_at(self) -> int:
        """The port that callers write."""
        return self.service_port or self.port or 80


class MeshFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. `expose` names a service to reach from outside; `config` a folder of further YAML."""

    services: dict[str, ServiceEntry]
    expose: str = ""
    expose_port: int = 0
    config: str = ""


def find_file(given: str | None, folder: Path) -> Path:
    """The file to use. Raises MeshError when it is not there."""
    candidates = [folder / given] if given else [folder / name for name in DEFAULT_FILES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if given:
        raise MeshError(f"{given}: no such file")
    names = " nor ".join(DEFAULT_FILES)
    raise MeshError(f"neither {names} is here; write one such as\n  services:\n    web: {{run: python web.py}}")


def read(file: Path) -> tuple[MeshFile | None, list[ConfigError]]:
    """The file's content, or everything that is wrong with it."""
    from pilot.resources.decode import decode
    from pilot.resources.report import Report
    from pilot.resources.yaml import documents, format_path

    found, errors = documents(file.read_bytes(), str(file))
    if errors:
        return None, errors
    if len(found) != 1:
        return None, [
            ConfigError(f"{len(found)} documents", remedy="write one with `services:`", file=str(file), line=1)
        ]
    document, report = found[0], Report()
    mesh_file: MeshFile = decode(MeshFile, document.value, (), report)
    if not report.faults:
        for path, what, remedy in _faults(mesh_file, file.parent):
            report(path, what, remedy)
    for fault in report.faults:
        line, column = document.position(fault.path)
        place = format_path(fault.path)
        errors.append(
            ConfigError(fault.what, remedy=fault.remedy, path=place, file=str(file), line=line, column=column)
        )
    return (None if errors else mesh_file), errors


def _faults(mesh_file: MeshFile, folder: Path) -> list[tuple[tuple[str, ...], str, str]]:
    faults: list[tuple[tuple[str, ...], str, str]] = []
    if not mesh_file.services:
        faults.append((("services",), "no service", "add one: web: {run: python web.py}"))
    for name, entry in mesh_file.services.items():
        faults += [
            (("services", name, *path), what, remedy) for path, what, remedy in _service_faults(name, entry, folder)
        ]
    if mesh_file.expose and mesh_file.expose not in mesh_file.services:
        names = ", ".join(mesh_file.services)
        faults.append((("expose",), f"there is no service {mesh_file.expose}", f"name one of {names}"))
    if mesh_file.config and not (folder / mesh_file.config).is_dir():
        faults.append((("config",), f"{mesh_file.config} is not a folder", "name a folder of YAML files"))
    return faults


def _service_faults(name: str, entry: ServiceEntry, folder: Path) -> list[tuple[tuple[str, ...], str, str]]:
    faults: list[tuple[tuple[str, ...], str, str]] = []
    if not _NAME.match(name):
        faults.append(((), f'"{name}" is no service name', "use lower-case letters, digits and dashes"))
    try:
        words = shlex.split(entry.run)
    except ValueError as exc:
        faults.append((("run",), f"cannot be split into words: {exc}", "close the quotation"))
    else:
        if not words:
            faults.append((("run",), "no command", "write the command line that starts the app"))
    faults += [
        ((field,), f"{number} is no port", "write a number from 1 to 65535")
        for field, number in (("port", entry.port), ("service_port", entry.service_port))
        if not 0 <= number <= 65535
    ]
    if entry.protocol not in _PROTOCOLS:
        faults.append((("protocol",), f'unknown protocol "{entry.protocol}"', f"write {', '.join(_PROTOCOLS)}"))
    if not is_health_check(entry.health):
        remedy = "write tcp, grpc, or a path such as /health"
        faults.append((("health",), f'"{entry.health}" is no way to check', remedy))
    if not 1 <= entry.replicas <= 50:
        faults.append((("replicas",), f"{entry.replicas} replicas", "write a number from 1 to 50"))
    elif entry.replicas > 1 and entry.port:
        remedy = "leave `port` out and let the app listen on $PORT; callers use `service_port`"
        faults.append((("port",), f"{entry.replicas} replicas cannot share port {entry.port}", remedy))
    if entry.cwd and not (folder / entry.cwd).is_dir():
        faults.append((("cwd",), f"{entry.cwd} is not a folder", "name the folder to start the command in"))
    return faults


def workloads(mesh_file: MeshFile, folder: Path) -> list[Workload]:
    """What to start: one workload for each replica."""
    return [
        Workload(
            name=name if entry.replicas == 1 else f"{name}-{number}",
            service=name,
            argv=tuple(shlex.split(entry.run)),
            version=entry.version,
            labels={"app": name, **({"version": entry.version} if entry.version else {}), **entry.labels},
            env=entry.env,
            cwd=(folder / entry.cwd).resolve(),
            app_port=entry.port,
            restart=entry.restart,
            health=entry.health,
        )
        for name, entry in mesh_file.services.items()
        for number in range(1, entry.replicas + 1)
    ]


def objects(mesh_file: MeshFile) -> str:
    """The Services, and the Gateway of `expose`, as documents for the pilot (JSON is YAML)."""
    found = [_service(name, entry) for name, entry in mesh_file.services.items()]
    if mesh_file.expose:
        found += _exposure(mesh_file.expose, mesh_file.services[mesh_file.expose].called_at)
    return "".join(f"---\n{json.dumps(obj, indent=1)}\n" for obj in found)


def _service(name: str, entry: ServiceEntry) -> dict[str, object]:
    port: dict[str, object] = {"name": entry.protocol, "port": entry.called_at}
    if entry.port:
        port["targetPort"] = entry.port
    spec = {"selector": {"app": name}, "ports": [port]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def _exposure(service: str, port: int) -> list[dict[str, object]]:
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    gateway = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
    route = {"route": [{"destination": {"host": service, "port": {"number": port}}}]}
    virtual_service = {"hosts": ["*"], "gateways": ["expose"], "http": [route]}
    return [
        {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": "expose"}, "spec": spec}
        for kind, spec in (("Gateway", gateway), ("VirtualService", virtual_service))
    ]
