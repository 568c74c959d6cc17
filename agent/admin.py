"""The operator's door: a small HTTP port on loopback, with Envoy's paths where Envoy has them.

Reading is GET, changing anything is POST. Requests that a web page could have caused (a Host or an Origin that is
not loopback) are refused. What is shown comes from the agent through `AgentView`; this file only draws it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec
import trio

from agent.cluster_status import cluster_lines, cluster_status
from agent.dataplane import ClientSide, Downstream
from agent.route.regex import compile_full
from agent.task_tree import exchanges_report, tree_report
from agent.upstream.cluster import Cluster
from mesh import config
from mesh.build import build
from mesh.errors import MeshError
from mesh.feed.node import Node
from mesh.net.http import Request, Response
from mesh.net.loopback import foreign
from mesh.telemetry import log
from mesh.telemetry.families import dump
from mesh.telemetry.metrics import CONTENT_TYPE, Registry
from mesh.telemetry.stats_page import stats_format, stats_page
from mesh.telemetry.tasks import Report, exchange_line, tree_lines

_MOST: Final = 1000  # tasks, and exchanges, that /tasks shows where nobody asks for more
State: TypeAlias = Literal["LIVE", "PRE_INITIALIZING", "INITIALIZING", "DRAINING"]


class Certificate(Protocol):
    """One certificate in use; times are seconds since the epoch."""

    @property
    def serial(self) -> str: ...
    @property
    def uris(self) -> tuple[str, ...]: ...
    @property
    def not_before(self) -> float: ...
    @property
    def not_after(self) -> float: ...
    @property
    def is_authority(self) -> bool: ...
    @property
    def secret(self) -> str: ...


class AgentView(Protocol):
    """What the admin port asks of the agent. Everything is read at once and without waiting."""

    @property
    def state(self) -> State: ...
    @property
    def node(self) -> Node: ...
    @property
    def snapshot(self) -> config.Snapshot | None: ...
    @property
    def registry(self) -> Registry: ...

    def bootstrap(self) -> Mapping[str, Any]:
        """Settings that the agent started with, without secrets."""

    def clusters(self) -> Iterable[Cluster]:
        """The living clusters."""

    def listeners(self) -> Mapping[str, str]:
        """Listener name to the address it is bound to, `127.0.0.1:41234`."""

    def feed(self) -> Mapping[str, Any]:
        """The subscription: pilot, connected or not, versions acked and refused."""

    def certificates(self) -> Sequence[Certificate]: ...

    def connections(self) -> Iterable[Downstream]:
        """The clients' connections."""

    def exchanges(self) -> Iterable[ClientSide]:
        """The client's sides of exchanges, idle ones too."""

    def wall(self) -> float:
        """Seconds since the epoch."""

    def uptime(self) -> float:
        """Seconds since start."""

    def explain(self, method: str, url: str, headers: Sequence[tuple[str, str]]) -> Any:
        """Where would this request go, and why; something msgspec encodes. Raises MeshError for a bad request."""

    def drain(self) -> None:
        """Begin to drain; returns at once."""

    def quit(self) -> None:
        """Drain and end the process."""


class _Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Admin:
    """Routes requests to the pages below; `handle` is what `mesh.net.http.serve_http` takes."""

    def __init__(self, agent: AgentView) -> None:
        self._agent = agent
        self._pages: dict[str, tuple[str, str, Callable[[Request], Response]]] = {
            "/certs": ("GET", "certificates in use, with their expiry", self._certs),
            "/clusters": ("GET", "clusters and endpoints with counters; ?format=json", self._clusters),
            "/config_dump": (
                "GET",
                "everything the proxy was told; ?resource=SECTION&name_regex=RE",
                self._config_dump,
            ),
            "/drain": ("POST", "stop accepting, let what is under way end", self._drain),
            "/drain_listeners": ("POST", "the same as /drain", self._drain),
            "/explain": ("GET", "where would a request go; ?url=URL&method=GET&header=NAME:VALUE", self._explain),
            "/help": ("GET", "this list", self._help),
            "/listeners": ("GET", "listeners and their addresses; ?format=json", self._listeners),
            "/logging": ("POST", "levels; ?level=LEVEL or ?COMPONENT=LEVEL or ?paths=A:LEVEL,B:LEVEL", self._logging),
            "/quitquitquit": ("POST", "drain and exit", self._quit),
            "/ready": ("GET", "LIVE with 200, or the state with 503", self._ready),
            "/server_info": ("GET", "version, build, state, uptime, node", self._server_info),
            "/stats": ("GET", "statistics; ?filter=RE&usedonly&format=text|json|prometheus", self._stats),
            "/stats/prometheus": ("GET", "statistics for Prometheus", self._prometheus),
            "/tasks": (
                "GET",
                "tasks and exchanges under way; ?view=tree|exchanges&min_age=SECONDS&limit=N&format=text|json",
                self._tasks,
            ),
        }

    async def handle(self, request: Request) -> Response:
        """Answer one request; sync work only, so no page sees half a configuration."""
        try:
            return self._answer(request)
        except _Refusal as refusal:
            return _text(f"{refusal}\n", refusal.status)
        except MeshError as exc:
            return _text(f"{exc}\n", 400)

    def _answer(self, request: Request) -> Response:
        if why := foreign(request):
            raise _Refusal(403, why)
        path = request.path.rstrip("/") or "/help"
        page = self._pages.get(path)
        if page is None:
            raise _Refusal(404, f"there is no {request.path}; these exist:\n{self._list()}")
        method, _, answer = page
        if method == "GET" and request.method not in ("GET", "HEAD"):
            raise _Refusal(405, f"{path} is read with GET")
        if method == "POST" and request.method != "POST":
            raise _Refusal(400, f"{path} changes the proxy: send it with POST (curl -X POST …{path})")
        return answer(request)

    def _list(self) -> str:
        return "\n".join(f"  {method:4} {path}: {what}" for path, (method, what, _) in self._pages.items())

    def _help(self, request: Request) -> Response:
        return _text(f"admin commands are:\n{self._list()}\n")

    def _ready(self, request: Request) -> Response:
        state = self._agent.state
        return _text(f"{state}\n", 200 if state == "LIVE" else 503)

    def _server_info(self, request: Request) -> Response:
        node = self._agent.node
        seconds = int(self._agent.uptime())
        return _json(
            {
                "version": node.agent_version,
                "build": build(),
                "state": self._agent.state,
                "uptime_current_epoch": f"{seconds}s",
                "node": node,
            }
        )

    # Statistics

    def _prometheus(self, request: Request) -> Response:
        return Response(200, self._agent.registry.exposition(), CONTENT_TYPE)

    def _stats(self, request: Request) -> Response:
        if request.query.get("format") == "families":  # what a parent of several workers merges
            return Response(200, msgspec.msgpack.encode(dump(self._agent.registry)), "application/msgpack")
        if stats_format(request.query) == "prometheus":
            return self._prometheus(request)
        return stats_page(self._agent.registry.families(), request.query, compile_full)

    # What the proxy was told, and what became of it

    def _config_dump(self, request: Request) -> Response:
        sections = self._sections(_matcher(request.query.get("name_regex", "")))
        asked = request.query.get("resource")
        if asked is not None and asked not in sections:
            raise _Refusal(400, f"there is no section {asked}; write one of {', '.join(sections)}")
        chosen = sections if asked is None else {asked: sections[asked]}
        return _json({"configs": [{"section": section, **content} for section, content in chosen.items()]})

    def _sections(self, wanted: Callable[[str], bool]) -> dict[str, dict[str, Any]]:
        agent = self._agent
        snapshot = agent.snapshot or config.Snapshot()

        def named(resources: Mapping[str, config.Resource]) -> list[dict[str, Any]]:
            return [{"name": name, "config": resource} for name, resource in resources.items() if wanted(name)]

        return {
            "bootstrap": {"node": agent.node, "settings": agent.bootstrap()},
            "clusters": {"dynamic_active_clusters": named(snapshot.clusters)},
            "endpoints": {"dynamic_endpoint_configs": named(snapshot.endpoints)},
            "listeners": {
                "dynamic_listeners": [
                    {**listener, "address": agent.listeners().get(listener["name"])}
                    for listener in named(snapshot.listeners)
                ]
            },
            "routes": {"dynamic_route_configs": named(snapshot.routes)},
            "secrets": {"dynamic_active_secrets": [self._certificate(each) for each in agent.certificates()]},
            "feed": {"subscription": agent.feed(), "dangling": snapshot.dangling()},
        }

    def _clusters(self, request: Request) -> Response:
        clusters = list(self._agent.clusters())
        if _choice(request, "format", ("text", "json")) == "json":
            return _json({"cluster_statuses": [cluster_status(cluster) for cluster in clusters]})
        return _text("".join(line for cluster in clusters for line in cluster_lines(cluster)))

    def _listeners(self, request: Request) -> Response:
        listeners = self._agent.listeners()
        if _choice(request, "format", ("text", "json")) == "json":
            statuses = [{"name": name, "local_address": address} for name, address in listeners.items()]
            return _json({"listener_statuses": statuses})
        return _text("".join(f"{name}::{address}\n" for name, address in listeners.items()))

    def _certs(self, request: Request) -> Response:
        groups: dict[str, dict[str, list[Any]]] = {"": {"ca_cert": [], "cert_chain": []}}
        for each in self._agent.certificates():
            group = groups.setdefault(each.secret, {"ca_cert": [], "cert_chain": []})
            group["ca_cert" if each.is_authority else "cert_chain"].append(self._certificate(each))
        return _json({"certificates": list(groups.values())})

    def _certificate(self, certificate: Certificate) -> dict[str, Any]:
        left = certificate.not_after - self._agent.wall()
        return {
            **({"secret": certificate.secret} if certificate.secret else {}),
            "serial_number": certificate.serial,
            "subject_alt_names": [{"uri": uri} for uri in certificate.uris],
            "days_until_expiration": int(max(0.0, left) // 86400),
            "seconds_until_expiration": int(left),
            "valid_from": _time(certificate.not_before),
            "expiration_time": _time(certificate.not_after),
            "private_key": "[redacted]",
        }

    def _explain(self, request: Request) -> Response:
        url = request.query.get("url", "")
        if not url:
            raise _Refusal(400, "url is missing; write /explain?url=http://reviews:9080/&method=GET&header=NAME:VALUE")
        headers = []
        for line in request.query.get("header", "").splitlines():
            name, colon, value = line.partition(":")
            if not colon or not name.strip():
                raise _Refusal(400, f"{line!r} is no header; write header=NAME:VALUE (several: separated by %0A)")
            headers.append((name.strip().lower(), value.strip()))
        return _json(self._agent.explain(request.query.get("method", "GET").upper(), url, headers))

    # Changes

    def _drain(self, request: Request) -> Response:
        self._agent.drain()
        return _text("OK\n")

    def _quit(self, request: Request) -> Response:
        self._agent.quit()
        return _text("OK\n")

    def _logging(self, request: Request) -> Response:
        query = dict(request.query)
        wanted = [("", query.pop("level"))] if "level" in query else []
        for pair in filter(None, query.pop("paths", "").split(",")):
            component, _, level = pair.partition(":")
            wanted.append((component, level))
        wanted.extend(query.items())
        for _, level in wanted:
            if level.lower() not in log.LEVELS:
                raise _Refusal(400, f"{level!r} is no log level; write one of {', '.join(log.LEVELS)}")
        for component, level in wanted:
            log.set_level(level, component)
        return _text("".join(f"{component or 'all'}: {level}\n" for component, level in log.levels().items()))

    # What is going on

    def _tasks(self, request: Request) -> Response:
        form = _choice(request, "format", ("text", "json"))
        view = _choice(request, "view", ("tree", "exchanges"))
        limit = int(_number(request, "limit", _MOST))
        min_age = _number(request, "min_age", 0)
        now, sides = trio.current_time(), self._agent.exchanges()
        root = trio.lowlevel.current_root_task()
        if view == "exchanges" or root is None:
            report = exchanges_report(sides, now, limit=limit, min_age=min_age)
        else:
            report = tree_report(root, self._agent.connections(), sides, now, limit=limit, min_age=min_age)
        if form == "json":
            return _json(report)
        return _text("".join(f"{line}\n" for line in _report_lines(report)))


# Drawing


def _matcher(pattern: str) -> Callable[[str], bool]:
    if not pattern:
        return lambda name: True
    matches = compile_full(f".*(?:{pattern}).*")
    return lambda name: matches(name.encode("utf-8", "replace"))


def _choice(request: Request, key: str, choices: tuple[str, ...]) -> str:
    value = request.query.get(key, choices[0])
    if value not in choices:
        raise _Refusal(400, f"{value!r} is no {key}; write one of {', '.join(choices)}")
    return value


def _number(request: Request, key: str, default: int) -> float:
    value = request.query.get(key, "")
    if value and not re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        raise _Refusal(400, f"{value!r} is no {key}; write a number such as {key}={default}")
    return float(value or default)


def _report_lines(report: Report) -> Iterator[str]:
    for tree in report.trees:
        yield from tree_lines(tree)
    yield from map(exchange_line, report.exchanges)
    if remainder := report.remainder():
        yield f"and {remainder}; ask for them with limit=N"


def _time(seconds: float) -> str:
    return log.timestamp(seconds)


def _text(text: str, status: int = 200) -> Response:
    return Response(status, text.encode("utf-8", "replace"))


def _json(value: Any) -> Response:
    encoded = msgspec.json.encode(value, enc_hook=str)
    return Response(200, msgspec.json.format(encoded, indent=1) + b"\n", "application/json")
