"""Our side: a standalone gateway, or a pilot and one or two sidecars, started by their commands as a user does."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.bench import certificates, programs
from tests.bench.load import Target
from tests.bench.process import Program, free_port
from tests.bench.subject import Subject

_NETWORKING = "networking.istio.io/v1"


def gateway(folder: Path, app_port: int, *, http2: bool = False, grpc: bool = False) -> Subject:
    """`mesh-agent gateway -f` in plaintext before the app: policy, routing, timeout, retries, metrics, access log."""
    config = folder / "gateway.yaml"
    config.write_text(_documents(_gateway_objects(app_port, "HTTP2" if http2 else "HTTP")))
    log = folder / "ours-gateway.access.log"
    argv = [programs.ours("mesh-agent"), "gateway", "-f", str(config), "--bind", "127.0.0.1", "--port-map", "80=0"]
    program = Program("ours-gateway", [*argv, "--set", f"access_log_file={log}"], folder)
    port = int(program.ready_line()["listen"].split(",")[0].rpartition(":")[2])
    program.accepts(port)
    return Subject("Trioweave", Target(port, "app.bench.test", http2=http2, grpc=grpc), (program,), (program,))


def sidecars(folder: Path, app_port: int) -> Subject:
    """client's sidecar -> mTLS (STRICT) -> server's sidecar -> app; both sidecars are measured, the pilot is not."""
    with contextlib.ExitStack() as undo:
        mesh = undo.enter_context(LocalPilot(folder, mesh_objects()))
        server = mesh.sidecar("app", app_port, service_account="server", access_log=True)
        undo.callback(server.stop)
        inbound = int(server.ready_line()["inbound"].rpartition(":")[2])
        client = mesh.sidecar("client", free_port(), service_account="client", access_log=True)
        undo.callback(client.stop)
        proxy = client.ready_line()["http_proxy"]
        undo.pop_all()
    port = urllib.parse.urlsplit(proxy).port
    assert port is not None
    target = Target(port, "app:8080", proxy=True)
    leaves = folder / "ours-leaves"
    leaves.mkdir(exist_ok=True)
    trusted = certificates.issue(leaves, *((mesh.state / f"root-{part}.pem").read_bytes() for part in ("cert", "key")))
    running = (mesh.program, server, client)
    return Subject("Trioweave", target, (server, client), running, inbound=inbound, certificates=trusted)


def relay(folder: Path, app_port: int, sink_port: int) -> Subject:
    """A sidecar's loopback listeners of two TCP ports outside the mesh: opaque bytes in plaintext, one proxy."""
    with contextlib.ExitStack() as undo:
        mesh = undo.enter_context(LocalPilot(folder, _relay_objects(app_port, sink_port), name="relay-pilot"))
        client = mesh.sidecar("client", free_port(), access_log=True, name="relay")
        undo.callback(client.stop)
        admin = client.ready_line()["admin"]
        with urllib.request.urlopen(f"{admin}/listeners", timeout=5) as page:
            listeners = dict(line.rsplit("::", 1) for line in page.read().decode().splitlines())
        undo.pop_all()
    app, sink = (int(listeners[f"tcp_app.upstream.test:{port}"].rpartition(":")[2]) for port in (app_port, sink_port))
    return Subject("Trioweave", Target(app, "app"), (client,), (mesh.program, client), sink)


class LocalPilot:
    """A running pilot over a folder of YAML; `sidecar` starts agents that join it. Ends the pilot on exit."""

    def __init__(self, folder: Path, objects: list[dict[str, Any]], *, name: str = "pilot") -> None:
        self.folder = folder
        self.config = folder / f"{name}-config"
        self.config.mkdir(exist_ok=True)
        self.mesh_file = self.config / "mesh.yaml"
        self.mesh_file.write_text(_documents(objects))
        self.state = folder / f"{name}-state"
        argv = [programs.ours("mesh-pilot"), "--config-dir", str(self.config), "--listen", "127.0.0.1:0"]
        self.program = Program(name, [*argv, "--state-dir", str(self.state)], folder)
        try:
            self.ready = self.program.ready_line()
        except BaseException:
            self.program.stop()
            raise

    def __enter__(self) -> LocalPilot:
        return self

    def __exit__(self, *exc: object) -> None:
        self.program.stop()

    def sidecar(
        self, service: str, app_port: int, *, service_account: str = "default", access_log: bool = False, name: str = ""
    ) -> Program:
        """A starting sidecar; wait for its ready line."""
        name = name or f"sidecar-{service}"
        argv = [programs.ours("mesh-agent"), "sidecar", "--pilot", self.ready["feed"], "--namespace", "default"]
        argv += ["--service", service, "--app-port", str(app_port), "--service-account", service_account]
        argv += ["--label", f"app={service}"]
        argv += ["--token-file", str(self.state / "token"), "--ca", str(self.state / "root-cert.pem")]
        if access_log:
            argv += ["--set", f"access_log_file={self.folder / name}.access.log"]
        return Program(name, argv, self.folder)


def mesh_objects() -> list[dict[str, Any]]:
    """One service `app` on 8080 under STRICT mTLS."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "app", "namespace": "default"},
            "spec": {"selector": {"app": "app"}, "ports": [{"name": "http", "port": 8080}]},
        },
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "default", "namespace": "istio-system"},
            "spec": {"mtls": {"mode": "STRICT"}},
        },
        {
            "apiVersion": _NETWORKING,
            "kind": "VirtualService",
            "metadata": {"name": "app", "namespace": "default"},
            "spec": {"hosts": ["app"], "http": [{"timeout": "15s", "route": [{"destination": {"host": "app"}}]}]},
        },
        policy({"app": "app"}),
    ]


def policy(labels: dict[str, str]) -> dict[str, Any]:
    """Deny a path prefix, and a header with one value; the load asks for neither."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "app", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": labels},
            "action": "DENY",
            "rules": [
                {"to": [{"operation": {"paths": ["/admin/*"]}}]},
                {"when": [{"key": "request.headers[x-blocked]", "values": ["yes"]}]},
            ],
        },
    }


def _gateway_objects(app_port: int, protocol: str) -> list[dict[str, Any]]:
    destination = {"host": "app.upstream.test", "port": {"number": app_port}}
    return [
        {
            "apiVersion": _NETWORKING,
            "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "default"},
            "spec": {
                "selector": {"istio": "ingressgateway"},
                "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
            },
        },
        {
            "apiVersion": _NETWORKING,
            "kind": "ServiceEntry",
            "metadata": {"name": "app", "namespace": "default"},
            "spec": {
                "hosts": ["app.upstream.test"],
                "location": "MESH_EXTERNAL",
                "resolution": "STATIC",
                "ports": [{"number": app_port, "name": "app", "protocol": protocol}],
                "endpoints": [{"address": "127.0.0.1"}],
            },
        },
        {
            "apiVersion": _NETWORKING,
            "kind": "VirtualService",
            "metadata": {"name": "app", "namespace": "default"},
            "spec": {
                "hosts": ["app.bench.test"],
                "gateways": ["edge"],
                "http": [
                    {"match": [{"uri": {"prefix": "/"}}], "timeout": "15s", "route": [{"destination": destination}]}
                ],
            },
        },
        policy({"istio": "ingressgateway"}),
    ]


def _relay_objects(*ports: int) -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": _NETWORKING,
            "kind": "ServiceEntry",
            "metadata": {"name": "app", "namespace": "default"},
            "spec": {
                "hosts": ["app.upstream.test"],
                "location": "MESH_EXTERNAL",
                "resolution": "STATIC",
                "ports": [{"number": port, "name": f"tcp-{port}", "protocol": "TCP"} for port in ports],
                "endpoints": [{"address": "127.0.0.1"}],
            },
        }
    ]


def _documents(objects: list[dict[str, Any]]) -> str:
    return "\n---\n".join(json.dumps(each) for each in objects) + "\n"
