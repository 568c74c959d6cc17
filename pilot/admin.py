"""The operator's and meshctl's door: JSON over HTTP on loopback. Reading is open, changing needs the bootstrap token.

Answers with an error have {"error", "remedy"}; a refused apply has {"errors": [TEXT...], "details": [{...}...]}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

from mesh import __version__, config
from mesh.config import ResourceKind
from mesh.errors import ConfigError
from mesh.feed.session import Encoded
from mesh.net.http import Request, Response
from mesh.telemetry.metrics import CONTENT_TYPE, Registry
from pilot.applied import AppliedFiles
from pilot.ca.tokens import BootstrapToken
from pilot.ledger import Ledger
from pilot.proxy_status import proxy_statuses, rejections
from pilot.push.fleet import Fleet
from pilot.push.session import ProxySession
from pilot.resources.core import Secret
from pilot.resources.object import Key, Object
from pilot.resources.registry import Loaded, load
from pilot.resources.report import Notice

Page: TypeAlias = Callable[[Request], Awaitable[Response]]

_JSON = "application/json"
_LONGEST_WAIT = 300.0
_CONFIG_KINDS: dict[str, ResourceKind] = {
    "listeners": "listener",
    "routes": "route",
    "clusters": "cluster",
    "endpoints": "endpoints",
}


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


class Admin:
    """Pages over one pilot's parts. `ready` says whether the first configuration has been read."""

    def __init__(
        self,
        ledger: Ledger,
        fleet: Fleet,
        applied: AppliedFiles,
        token: BootstrapToken,
        registry: Registry,
        *,
        ready: Callable[[], bool],
    ) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._applied = applied
        self._token = token
        self._registry = registry
        self._ready = ready
        self._monitoring: dict[tuple[str, str], Page] = {
            ("GET", "/ready"): self._get_ready,
            ("GET", "/metrics"): self._get_metrics,
            ("GET", "/version"): self._get_version,
        }
        self._pages: dict[tuple[str, str], Page] = {
            **self._monitoring,
            ("GET", "/api/objects"): self._get_objects,
            ("POST", "/api/apply"): self._post_apply,
            ("POST", "/api/delete"): self._post_delete,
            ("GET", "/api/proxies"): self._get_proxies,
            ("GET", "/api/faults"): self._get_faults,
        }

    async def serve_api(self, request: Request) -> Response:
        """The dashboard port: everything."""
        return await self._serve(request, self._pages)

    async def serve_monitoring(self, request: Request) -> Response:
        """The metrics port: readiness and metrics alone, since it may be reached from elsewhere."""
        return await self._serve(request, self._monitoring)

    async def _serve(self, request: Request, pages: dict[tuple[str, str], Page]) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        page = pages.get((method, request.path))
        if page is None and pages is self._pages and request.path.startswith("/api/proxies/"):
            page = self._get_config
        try:
            if page is not None:
                return await page(request)
            known = sorted(path for _, path in pages)
            raise Refusal(404, _error(f"{method} {request.path} is not served", f"known paths: {', '.join(known)}"))
        except Refusal as refusal:
            return _json(refusal.body, refusal.status)

    async def _get_ready(self, request: Request) -> Response:
        if not self._ready():
            raise Refusal(503, _error("the configuration has not been read yet", "try again in a moment"))
        return Response(200, b"ready\n")

    async def _get_metrics(self, request: Request) -> Response:
        return Response(200, self._registry.exposition(), CONTENT_TYPE)

    async def _get_version(self, request: Request) -> Response:
        return _json({"version": __version__})

    async def _get_objects(self, request: Request) -> Response:
        """Objects in force, narrowed by ?kind= &namespace= &name=; with their spec when asked by name or ?full=1."""
        wanted = {field: request.query[field] for field in ("kind", "namespace", "name") if field in request.query}
        full = "name" in wanted or request.query.get("full") == "1"
        chosen = [
            obj
            for obj in self._ledger.world
            if all(str(getattr(obj, field)).lower() == value.lower() for field, value in wanted.items())
        ]
        chosen.sort(key=lambda obj: obj.key)
        return _json([self._describe(obj, full=full) for obj in chosen])

    def _describe(self, obj: Object, *, full: bool) -> dict[str, Any]:
        notices = [str(n) for notices in self._ledger.notices.values() for n in notices if _about(n, obj.key)]
        errors = [str(e) for errors in self._ledger.errors.values() for e in errors if _about(e, obj.key)]
        reports = [str(r) for r in self._fleet.translations.reports() if _about(r, obj.key)]
        line = obj.mark[0]
        found: dict[str, Any] = {
            "apiVersion": obj.api_version,
            "kind": obj.kind,
            "namespace": obj.namespace,
            "name": obj.name,
            "labels": obj.meta.labels,
            "file": obj.file,
            "line": line,
            "layer": self._ledger.layer_of(obj.key),
            "status": {"valid": not errors, "errors": errors, "notices": notices, "reports": reports},
        }
        if full:
            spec = obj.spec.redacted() if isinstance(obj.spec, Secret) else obj.spec
            found["spec"] = msgspec.to_builtins(spec, enc_hook=str)
        return found

    async def _post_apply(self, request: Request) -> Response:
        """Apply the body's objects in one step, or none of them; with ?wait=SECONDS answer when agents have."""
        self._authorize(request)
        text, loaded = self._read(request)
        wait = _seconds(request)
        before = {obj.key: self._ledger.effective(obj.key) for obj in loaded.objects}
        try:
            stored = self._applied.store(text)
        except OSError as exc:
            raise Refusal(500, _error(f"cannot keep the objects: {exc}", "mend the pilot's state folder")) from exc
        version = self._ledger.update("applied", [(obj.key, obj) for obj in stored], at_once=True)
        notices = [*loaded.notices, *map(Notice.of, loaded.blemishes)]
        self._remember([obj.key for obj in stored], notices)
        results = [{**_key(obj.key), "result": _result(before[obj.key], obj)} for obj in stored]
        return _json({"objects": results, "notices": [str(n) for n in notices], **await self._outcome(version, wait)})

    async def _post_delete(self, request: Request) -> Response:
        """Delete applied objects: those of the body, or the one of ?kind= &namespace= &name=."""
        self._authorize(request)
        wait = _seconds(request)
        keys = [obj.key for obj in self._read(request)[1].objects] if request.body.strip() else [_asked_key(request)]
        for key in keys:
            if self._ledger.holds("applied", key) is None:
                raise Refusal(*self._not_deletable(key))
        try:
            for key in keys:
                self._applied.remove(key)
        except OSError as exc:
            raise Refusal(500, _error(f"cannot delete: {exc}", "mend the pilot's state folder")) from exc
        version = self._ledger.update("applied", [(key, None) for key in keys], at_once=True)
        self._remember(keys, [])
        results = [{**_key(key), "result": "deleted"} for key in keys]
        return _json({"objects": results, "notices": [], **await self._outcome(version, wait)})

    def _not_deletable(self, key: Key) -> tuple[int, object]:
        kind, namespace, name = key
        obj = self._ledger.effective(key)
        if obj is None:
            return 404, _error(f"there is no {kind}/{namespace}/{name}", "see `meshctl get` for what there is")
        return 409, _error(f"{kind}/{namespace}/{name} comes from {obj.file}:{obj.mark[0]}", "remove it from that file")

    def _authorize(self, request: Request) -> None:
        if not self._token.authorizes(request.headers.get("authorization")):
            self._fleet.stats.refused("api-token")
            self._fleet.log.warning("change refused", path=request.path, reason="missing or wrong token")
            remedy = "send `Authorization: Bearer TOKEN` with the token of the pilot's state folder"
            raise Refusal(401, _error("the token is missing or wrong", remedy))

    def _read(self, request: Request) -> tuple[str, Loaded]:
        name = request.query.get("file", "<request>")
        loaded = load(request.body, name)
        if loaded.errors:
            details = [_fault(error) for error in loaded.errors]
            raise Refusal(422, {"errors": [str(error) for error in loaded.errors], "details": details})
        if not loaded.objects:
            raise Refusal(422, _error("the body holds no object of the mesh", "send at least one, as YAML or JSON"))
        return request.body.decode("utf-8-sig"), loaded

    def _remember(self, keys: list[Key], notices: list[Notice]) -> None:
        """Replace what was noticed about these applied objects."""
        kept = [n for n in self._ledger.notices.get("applied", ()) if not any(_about(n, key) for key in keys)]
        self._ledger.notices["applied"] = (*kept, *notices)

    async def _outcome(self, version: int, wait: float | None) -> dict[str, Any]:
        outcome: dict[str, Any] = {"version": version}
        if wait is not None:
            behind = await self._fleet.wait_in_step(version, wait)
            outcome["acked"] = not behind
            outcome["waiting"] = list(dict.fromkeys(session.node.id for session in behind))
            outcome["nacked"] = rejections(self._fleet.sessions)
        return outcome

    async def _get_proxies(self, request: Request) -> Response:
        return _json(proxy_statuses(self._fleet.sessions))

    async def _get_config(self, request: Request) -> Response:
        """/api/proxies/ID/config[?kind=listeners|routes|clusters|endpoints|secrets]: what it was last told.

        Secrets only when asked for, and without their keys; the pilot never holds a workload's own.
        """
        node_id, _, page = request.path.removeprefix("/api/proxies/").rpartition("/")
        session = self._fleet.session(node_id)
        if page != "config":
            raise Refusal(404, _error(f"{request.path} is not served", "write /api/proxies/ID/config"))
        if session is None:
            ids = ", ".join(each.node.id for each in self._fleet.sessions) or "none"
            raise Refusal(404, _error(f"no proxy {node_id} is connected", f"connected are: {ids}"))
        wanted = request.query.get("kind", "")
        if wanted == "secrets":
            return _json({"secrets": _secrets(session)})
        if wanted not in ("", "all", *_CONFIG_KINDS):
            raise Refusal(400, _error(f"{wanted!r} is no kind", f"write one of {', '.join(_CONFIG_KINDS)}, secrets"))
        chosen = {name: kind for name, kind in _CONFIG_KINDS.items() if wanted in ("", "all", name)}
        return _json({name: _resources(session, kind) for name, kind in chosen.items()})

    async def _get_faults(self, request: Request) -> Response:
        ledger = self._ledger
        errors = [_fault(error) for errors in ledger.errors.values() for error in errors]
        notices = [notice for notices in ledger.notices.values() for notice in notices]
        return _json(
            {
                "errors": errors,
                "not_served": [_notice(n) for n in notices if n.level == "not_served"],
                "notices": [_notice(n) for n in notices if n.level != "not_served"],
                "reports": [msgspec.to_builtins(report) for report in self._fleet.translations.reports()],
                "rejected": rejections(self._fleet.sessions),
            }
        )


def _resources(session: ProxySession, kind: ResourceKind) -> list[msgspec.Raw]:
    return [msgspec.Raw(item.data) for item in _wanted(session, kind)]


def _wanted(session: ProxySession, kind: ResourceKind) -> list[Encoded]:
    return [item for (each, _), item in session.book.wanted.items() if each == kind]


def _secrets(session: ProxySession) -> list[dict[str, Any]]:
    node, report = session.node, session.last_report
    owner = f"{node.namespace}/{node.service_account}"
    own = {"name": "default", "identity": owner, "not_after": report.certificate_expiry if report else 0.0}
    told = (config.decode_resource("secret", item.data) for item in _wanted(session, "secret"))
    return [own, *(msgspec.to_builtins(each.redacted()) for each in told if isinstance(each, config.Secret))]


def _result(before: Object | None, after: Object) -> str:
    if before is None:
        return "created"
    return "unchanged" if before == after else "configured"


def _about(finding: Any, key: Key) -> bool:
    return (finding.kind, finding.namespace, finding.name) == key


def _key(key: Key) -> dict[str, str]:
    return dict(zip(("kind", "namespace", "name"), key, strict=True))


def _asked_key(request: Request) -> Key:
    kind, name = request.query.get("kind", ""), request.query.get("name", "")
    if not kind or not name:
        raise Refusal(400, _error("which object?", "give ?kind= &namespace= &name=, or the objects as the body"))
    return kind, request.query.get("namespace", "default"), name


def _seconds(request: Request) -> float | None:
    text = request.query.get("wait")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_WAIT:
        raise Refusal(400, _error(f"wait={text} is not served", f"write seconds from 0 to {_LONGEST_WAIT:.0f}"))
    return seconds


def _fault(error: ConfigError) -> dict[str, Any]:
    fields = ("what", "remedy", "path", "kind", "namespace", "name", "file", "line", "column")
    return {**{field: getattr(error, field) for field in fields}, "text": str(error)}


def _notice(notice: Any) -> dict[str, Any]:
    return {**msgspec.to_builtins(notice), "text": str(notice)}


def _error(error: str, remedy: str) -> dict[str, str]:
    return {"error": f"{error}; {remedy}", "remedy": remedy}


def _json(value: object, status: int = 200) -> Response:
    return Response(status, msgspec.json.encode(value, enc_hook=str) + b"\n", _JSON)
