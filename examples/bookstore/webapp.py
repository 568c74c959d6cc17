"""A small web server and client for the bookstore's services, on the standard library alone.

The services know nothing of a mesh: they listen on 127.0.0.1:$PORT and call their neighbours by name
with urllib, which honours $http_proxy as every ordinary program does. Each service also has `/health`,
and `POST /break` and `POST /heal`, which switch an outage of the service on and off.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

# What a service copies from the request that it serves to the requests that it makes for it, so that
# hops can be joined into one trace and rules about the user or the browser hold on every hop.
FORWARDED = (
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "end-user",
    "user-agent",
    "cookie",
    "authorization",
)


class Request(NamedTuple):
    """One request as a service sees it. `arguments` are the path's parts behind the route's."""

    method: str
    path: str
    arguments: tuple[str, ...]
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    form: Mapping[str, str]

    def forwarded(self) -> dict[str, str]:
        """The headers to copy to requests made on behalf of this one."""
        return {name: value for name in FORWARDED if (value := self.headers.get(name)) is not None}


class Reply(NamedTuple):
    """One response; `extra` are further header lines."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    extra: tuple[tuple[str, str], ...] = ()


class Answer(NamedTuple):
    """What a neighbour said: its JSON when `status` is 200, else the reason in `error`. Status 0: no answer."""

    status: int
    data: object
    error: str


Service = Callable[[Request], Reply]


def to_json(data: object, status: int = 200) -> Reply:
    """A JSON reply."""
    return Reply(json.dumps(data).encode() + b"\n", status)


def ask(url: str, headers: Mapping[str, str], timeout: float) -> Answer:
    """GET a neighbour's JSON within `timeout` seconds; every failure becomes an Answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=timeout) as response:
            return Answer(200, json.loads(response.read()), "")
    except urllib.error.HTTPError as exc:
        with exc:
            detail = exc.read(200).decode("utf-8", "replace").strip()
        return Answer(exc.code, None, detail or str(exc.reason))
    except (OSError, ValueError) as exc:
        reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
        return Answer(0, None, f"no answer: {reason}")


def neighbour(name: str) -> str:
    """Base URL of another service: http://NAME:9080, or what $NAME_URL says."""
    return os.environ.get(f"{name.upper()}_URL", f"http://{name}:9080")


class Site:
    """The routes of one service, by method and leading path, and whether it is broken on purpose."""

    def __init__(self, name: str, version: str, routes: Mapping[tuple[str, str], Service]) -> None:
        self.name = name
        self.version = version
        self.broken = 0
        self._routes = dict(routes)
        self._routes[("GET", "/health")] = lambda _: to_json({"status": f"{name} {version} is healthy"})
        self._routes[("POST", "/break")] = self._break
        self._routes[("POST", "/heal")] = self._heal

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Route one request: the whole path first, then ever shorter leading parts; "/" stands for itself only."""
        path = urllib.parse.unquote(urllib.parse.urlsplit(target).path)
        parts = [part for part in path.split("/") if part]
        for cut in range(len(parts), min(len(parts), 1) - 1, -1):
            leading = "/" + "/".join(parts[:cut])
            service = self._routes.get((method, leading))
            if service is None:
                continue
            if self.broken and leading not in ("/health", "/break", "/heal"):
                return to_json({"error": f"{self.name} {self.version} is broken on purpose"}, self.broken)
            return service(_request(method, path, tuple(parts[cut:]), headers, body))
        return to_json({"error": f"{self.name} has no {method} {path}"}, 404)

    def _break(self, request: Request) -> Reply:
        status = request.form.get("status") or "500"
        if not (status.isdigit() and 400 <= int(status) <= 599):
            return to_json({"error": f"status {status!r} is not an error status; write 400 to 599"}, 400)
        self.broken = int(status)
        return to_json({"status": f"{self.name} {self.version} answers {self.broken} from now on"})

    def _heal(self, _: Request) -> Reply:
        self.broken = 0
        return to_json({"status": f"{self.name} {self.version} is well again"})


def _request(method: str, path: str, arguments: tuple[str, ...], headers: Mapping[str, str], body: bytes) -> Request:
    pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
    cookies = {name: urllib.parse.unquote(value) for name, _, value in pairs if name}
    form = dict(urllib.parse.parse_qsl(body.decode("utf-8", "replace")))
    return Request(method, path, arguments, headers, cookies, form)


def _connection_class(site: Site) -> type[BaseHTTPRequestHandler]:
    class Connection(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = f"{site.name}/{site.version}"
        sys_version = ""
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._serve()

        def do_HEAD(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            if "transfer-encoding" in self.headers:
                self.close_connection = True
                self._send(to_json({"error": "send a content-length"}, 411))
                return
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            method = "GET" if self.command == "HEAD" else self.command
            self._send(site.answer(method, self.path, headers, body))

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            self.send_header("content-type", reply.content_type)
            self.send_header("content-length", str(len(reply.body)))
            for name, value in reply.extra:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            if os.environ.get("BOOKSTORE_LOG"):
                print(f"{site.name} {site.version}: {format % args}", file=sys.stderr, flush=True)

    return Connection


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        # A peer that hangs up half-way is no fault of the service; anything else deserves its traceback.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _leave(*_: object) -> None:
    raise SystemExit(0)


def run(site: Site) -> None:
    """Serve on 127.0.0.1:$PORT until SIGTERM or SIGINT. PORT 0, the default, takes a free port."""
    port = int(os.environ.get("PORT", "0"))
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    with _Server(("127.0.0.1", port), _connection_class(site)) as server:
        print(f"{site.name} {site.version} listening on {server.server_address[1]}", file=sys.stderr, flush=True)
        server.serve_forever()
