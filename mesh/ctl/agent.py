"""The command `mesh-agent`: flags to a Bootstrap, one `ready` line, signals to a drain, the app's exit status."""

from __future__ import annotations

import argparse
import gc
import math
import os
import random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mesh import __version__
from mesh.build import build
from mesh.ctl.groups import unwrapped
from mesh.errors import MeshError
from mesh.feed.node import Node, is_health_check
from mesh.net.authority import parse_address

if TYPE_CHECKING:
    import trio

    from agent.agent import Agent
    from agent.bootstrap import Bootstrap, Ready, Settings
    from agent.doors import Doors

_EXAMPLE = """examples:
  mesh-agent sidecar --pilot wss://127.0.0.1:15012/feed --service reviews --app-port 0 \\
      --token-file state/token --ca state/root-cert.pem -- python reviews.py
  mesh-agent gateway -f gateway.yaml --port-map 80=8080
"""
_APP_PORTS = range(20_000, 32_000)
_APP_GRACE = 5.0  # seconds between SIGTERM and SIGKILL of the app
_READY_WAIT = 300.0  # seconds for the pilot and a certificate; a supervisor's restart is the remedy after that
_MOST_WORKERS = 256

Announce: TypeAlias = Callable[["Ready"], Awaitable[None]]
"""Tells whoever started this program that it serves."""


class Served(Protocol):
    """An agent, or several that are one."""

    async def run(self, *, task_status: trio.TaskStatus[Ready | None]) -> None: ...

    def leave(self) -> None: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sidecar or a gateway. 0 after SIGTERM or SIGINT, the app's status when it ends, 2 when it cannot start."""
    arguments = _parser().parse_args(_split(sys.argv[1:] if argv is None else list(argv)))
    try:
        return _run(arguments)
    except MeshError as exc:
        print(f"mesh-agent: {exc}", file=sys.stderr)
        return 2


def _split(argv: list[str]) -> list[str]:
    """Give argparse the app's command as one option, so that its own flags are not read as ours."""
    if "--" not in argv:
        return argv
    at = argv.index("--")
    return [*argv[:at], *(f"--command-word={word}" for word in argv[at + 1 :])]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mesh-agent",
        description="The proxy: a sidecar beside one service, or a gateway at the edge.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mesh-agent {__version__} ({build()})")
    roles = parser.add_subparsers(dest="role", required=True, metavar="sidecar|gateway")
    sidecar = _role(roles, "sidecar", "beside one service: takes its traffic in and out")
    sidecar.add_argument("--service", required=True, metavar="NAME", help="name of the service")
    sidecar.add_argument("--app-port", required=True, type=int, metavar="P", help="the app's port; 0 picks one (PORT)")
    sidecar.add_argument("--version", default="", dest="app_version", metavar="V", help="label version")
    sidecar.add_argument(
        "--health-check",
        default="",
        metavar="tcp|/PATH|grpc[:SERVICE]",
        help="check the app by connecting, by GET, or by grpc.health.v1; callers elsewhere leave it out while it fails"
        " (default: no check)",
    )
    sidecar.add_argument("--command-word", action="append", default=[], help=argparse.SUPPRESS)
    gateway = _role(roles, "gateway", "at the edge: serves Gateways, from a pilot or from files")
    gateway.add_argument(
        "-f", dest="files", action="append", default=[], metavar="PATH", help="YAML file or folder; standalone"
    )
    gateway.add_argument("--command-word", action="append", default=[], help=argparse.SUPPRESS)
    gateway.add_argument("--bind", default="0.0.0.0", metavar="HOST", help="address of the Gateways' ports")
    gateway.add_argument(
        "--port-map", action="append", default=[], metavar="N=M", help="bind M (0: free) where YAML says N"
    )
    return parser


def _role(roles: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str) -> argparse.ArgumentParser:
    role = roles.add_parser(
        name, help=text, description=text, epilog=_settings_help(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = role.add_argument
    add("--pilot", default="", metavar="URL", help="the pilot's feed, wss://HOST:PORT/feed")
    add(
        "--token-file",
        default=os.environ.get("MESH_TOKEN_FILE", ""),
        metavar="F",
        help="bootstrap token (MESH_TOKEN_FILE)",
    )
    add(
        "--ca",
        default=os.environ.get("MESH_CA_FILE", ""),
        metavar="F",
        help="the mesh's root certificate (MESH_CA_FILE)",
    )
    add("--namespace", default="default", metavar="NS")
    add("--service-account", default="", metavar="SA", help="default: the service's name")
    add("--label", action="append", default=[], metavar="K=V")
    add("--admin", default="", metavar="HOST:PORT", help="admin port (default 127.0.0.1 and a free port)")
    add("--workers", default="1", metavar="N|auto", help="worker processes (auto: one for each usable core)")
    add("--state", default="", metavar="FILE", help="keep the last good snapshot here")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="limits and hardening, listed below")
    add("--log-level", default="info", metavar="LEVEL")
    add("--log-format", choices=("text", "json", "console"), default="text")
    return role


def _settings_help() -> str:
    import msgspec

    from agent.bootstrap import Settings

    lines = [f"  {field.name}={field.default}" for field in msgspec.structs.fields(Settings)]
    return _EXAMPLE + "\nsettings for --set, with their defaults (seconds, bytes):\n" + "\n".join(lines)


def _pairs(flag: str, texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise MeshError(f"{flag} {text!r} is not KEY=VALUE; write for example {flag} app=reviews")
        pairs[key] = value
    return pairs


def _settings(arguments: argparse.Namespace) -> Settings:
    from agent.bootstrap import Settings

    pairs = _pairs("--set", arguments.set)
    if "MESH_CODEC" in os.environ:
        pairs.setdefault("codec", os.environ["MESH_CODEC"])
    return Settings.parse(pairs)


def _port_map(texts: list[str]) -> dict[int, int]:
    ports = {}
    for key, value in _pairs("--port-map", texts).items():
        if not (key.isdigit() and value.isdigit() and int(key) <= 65535 and int(value) <= 65535):
            raise MeshError(f"--port-map {key}={value} is not N=M with ports; write for example --port-map 80=8080")
        ports[int(key)] = int(value)
    return ports


def _workers(text: str) -> int:
    if text == "auto":
        from mesh.workers.cores import usable_cores

        return min(usable_cores(), _MOST_WORKERS)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_WORKERS):
        raise MeshError(f"--workers {text!r} is no number of workers; write 1 to {_MOST_WORKERS}, or auto")
    return int(text)


def _health_check(text: str) -> str:
    if is_health_check(text):
        return text
    raise MeshError(f"--health-check {text!r} is no way to check; write tcp, grpc, or a path such as /health")


def _bootstrap(arguments: argparse.Namespace) -> Bootstrap:
    from agent.bootstrap import Bootstrap

    sidecar = arguments.role == "sidecar"
    service = arguments.service if sidecar else ""
    labels = _pairs("--label", arguments.label)
    if sidecar:
        labels = {"app": service, **({"version": arguments.app_version} if arguments.app_version else {}), **labels}
    elif not labels:
        labels = {"istio": "ingressgateway", "app": "istio-ingressgateway"}
    workload = "-".join(filter(None, (service or "gateway", labels.get("version"))))
    app_port = _app_port(arguments.app_port) if sidecar else 0
    try:
        admin = parse_address(arguments.admin) if arguments.admin else ("127.0.0.1", 0)
    except ValueError as exc:
        raise MeshError(f"--admin: {exc}") from exc
    settings = _settings(arguments)
    node = Node(
        id=f"{arguments.role}~{workload}-{os.urandom(4).hex()}.{arguments.namespace}",
        role=arguments.role,
        namespace=arguments.namespace,
        service=service,
        service_account=arguments.service_account or service or "default",
        workload=workload,
        labels=labels,
        agent_version=__version__,
        health_check=_health_check(arguments.health_check) if sidecar and settings.health_check_interval else "",
        health_check_interval=settings.health_check_interval or 10.0,
    )
    return Bootstrap(
        node,
        settings,
        pilot_url=arguments.pilot,
        token_file=arguments.token_file,
        ca_file=arguments.ca,
        admin_address=admin[0],
        admin_port=admin[1],
        bind="" if sidecar else arguments.bind,
        port_map={} if sidecar else _port_map(arguments.port_map),
        state_path=arguments.state,
        command=tuple(arguments.command_word) if sidecar else (),
        app_port=app_port,
        workers=_workers(arguments.workers),
    )


def _app_port(given: int) -> int:
    if not 0 <= given <= 65535:
        raise MeshError(f"--app-port {given} is no port; write 1 to 65535, or 0 for a free one")
    return given or _free_port()


def _free_port() -> int:
    """A loopback port for the app, below those that the kernel gives to whoever asks for any: the app binds it a
    moment later, and nothing must come in between."""
    for port in random.SystemRandom().sample(_APP_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise MeshError("found no free port for the app; choose one with --app-port")


def _run(arguments: argparse.Namespace) -> int:
    bootstrap = _bootstrap(arguments)
    if arguments.role == "gateway" and arguments.command_word:
        raise MeshError("a gateway starts no app; leave -- CMD away, or run it beside a sidecar")
    standalone = arguments.role == "gateway" and arguments.files
    if standalone and bootstrap.pilot_url:
        raise MeshError("-f and --pilot exclude each other; a gateway is told by files or by a pilot")
    if not standalone and not bootstrap.pilot_url:
        example = "--pilot wss://127.0.0.1:15012/feed"
        raise MeshError(
            f"there is nobody to be configured by; give {example}"
            + ("" if arguments.role == "sidecar" else " or -f FILE")
        )
    if not standalone:
        _check_secrets(bootstrap)
    import trio

    from mesh.telemetry import log

    log.setup(level=arguments.log_level, encoding=arguments.log_format)
    files = tuple(arguments.files) if standalone else ()
    run: Callable[[], int]
    if bootstrap.workers > 1:
        from mesh.ctl.workers import check_platform, serve_workers

        check_platform()
        run = partial(trio.run, serve_workers, bootstrap, files, arguments.log_level, arguments.log_format)
    elif standalone:
        from mesh.ctl.standalone import serve_standalone

        run = partial(trio.run, serve_standalone, bootstrap, files)
    else:
        run = partial(trio.run, serve_with_pilot, bootstrap)
    return unwrapped(run)


def _check_secrets(bootstrap: Bootstrap) -> None:
    """A file that is not there yet may come; one that was never named will not."""
    if not bootstrap.token_file:
        raise MeshError("there is no bootstrap token; give --token-file FILE (or MESH_TOKEN_FILE) of the pilot's state")
    if not bootstrap.ca_file and bootstrap.pilot_url.startswith("wss:"):
        raise MeshError("there is no trust bundle; give --ca FILE or MESH_CA_FILE, the pilot's root-cert.pem")


async def serve_with_pilot(bootstrap: Bootstrap, doors: Doors | None = None, announce: Announce | None = None) -> int:
    """Serve as the pilot says until a signal; returns the exit status. Raises MeshError at start."""
    import time
    from pathlib import Path

    from agent.agent import Agent
    from agent.websocket import WebSocketWay

    wall = time.time  # noqa: TID251 - the program's own clock, handed down from here
    way = WebSocketWay(
        bootstrap.pilot_url,
        wall=wall,
        token_file=Path(bootstrap.token_file) if bootstrap.token_file else None,
        ca_file=Path(bootstrap.ca_file) if bootstrap.ca_file else None,
        certificate=lambda: agent.feed_certificate(),
    )
    agent = Agent(bootstrap, way.connect, wall=wall, rng=random.Random(), needs_identity=True, doors=doors)
    return await serve_agent(agent, bootstrap, announce)


async def serve_agent(agent: Agent, bootstrap: Bootstrap, announce: Announce | None = None) -> int:
    """Run an agent to its end: ready line, app, signals. Returns the exit status. Raises MeshError at start."""
    return await serve_until_signal(agent, bootstrap, announce or print_ready(bootstrap), partial(_not_ready, agent))


async def serve_until_signal(
    served: Served, bootstrap: Bootstrap, announce: Announce, why_not_ready: Callable[[], str] | None = None
) -> int:
    """As serve_agent. Without `why_not_ready`, `served` sees by itself to an end of the wait for it to be ready."""
    import trio

    status = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_leave_on_signal, served)

        async def live(task_status: trio.TaskStatus[Ready | None]) -> None:
            await served.run(task_status=task_status)
            nursery.cancel_scope.cancel()

        with trio.move_on_after(_READY_WAIT if why_not_ready else math.inf) as waiting:
            ready: Ready | None = await nursery.start(live)
        if waiting.cancelled_caught and why_not_ready:
            raise MeshError(why_not_ready())
        if ready is None:  # told to leave before it served
            return status
        _calm_collector()
        await announce(ready)
        if bootstrap.command:
            status = await _run_app(bootstrap, ready)
            served.leave()
    return status


def print_ready(bootstrap: Bootstrap) -> Announce:
    """Tells it on stdout, as the command does."""

    async def announce(ready: Ready) -> None:
        print(_ready_line(ready, bootstrap), flush=True)

    return announce


def _not_ready(agent: Agent) -> str:
    feed = agent.feed()
    reason = feed.get("last_error") or "no session with the pilot yet"
    if feed.get("connected"):
        reason = "the pilot is there, but no configuration or no certificate came; see its log"
    return f"not ready within {_READY_WAIT:.0f} s: {reason}"


def _calm_collector() -> None:
    """What was loaded at start is never garbage, and a request leaves no cycles: look less often, and not there."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def _leave_on_signal(served: Served) -> None:
    import trio

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            served.leave()


def _ready_line(ready: Ready, bootstrap: Bootstrap) -> str:
    admin = f"ready admin=http://{ready.admin}"
    if bootstrap.node.role == "gateway":
        return f"{admin} listen={','.join(ready.listeners.values())}"
    inbound = next((address for name, address in ready.listeners.items() if name.startswith("inbound|")), "")
    return f"{admin} inbound={inbound} http_proxy=http://{ready.listeners.get('http_proxy', '')}"


def app_environment(bootstrap: Bootstrap, ready: Ready) -> dict[str, str]:
    """What the app is told: its port, the outbound proxy, and the loopback ports of non-HTTP services."""
    import json

    proxy = f"http://{ready.listeners.get('http_proxy', '')}"
    return {
        "PORT": str(bootstrap.app_port),
        "HTTP_PROXY": proxy,
        "http_proxy": proxy,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "MESH_UPSTREAMS": json.dumps(ready.upstreams),
    }


async def _run_app(bootstrap: Bootstrap, ready: Ready) -> int:
    import trio

    environment = {**os.environ, **app_environment(bootstrap, ready)}
    try:
        app = await trio.lowlevel.open_process(list(bootstrap.command), env=environment)
    except OSError as exc:
        raise MeshError(f"cannot start {bootstrap.command[0]}: {exc.strerror}; check the command after --") from exc
    try:
        code = await app.wait()
    except trio.Cancelled:
        await _end_app(app)
        raise
    return code if code >= 0 else 128 - code


async def _end_app(app: trio.Process) -> None:
    import trio

    app.terminate()
    with trio.move_on_after(_APP_GRACE, shield=True):
        await app.wait()
        return
    app.kill()
    with trio.CancelScope(shield=True):
        await app.wait()


if __name__ == "__main__":
    sys.exit(main())
