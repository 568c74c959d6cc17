"""The nursery tree: sources -> ledger (world) -> fleet (translate, push) -> feed; authority and admin beside it.

`run` serves a mesh over the network. `run_in_memory` is the same pilot for one process: no port, no authority, the
feed over memory channels.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio
from msgspec import Struct

from mesh import __version__
from mesh.errors import MeshError
from mesh.feed.log import Log
from mesh.feed.message import Report, SignRequest, SignResponse
from mesh.feed.node import Node
from mesh.net.http import serve_http
from mesh.telemetry.metrics import Registry
from pilot.admin import Admin
from pilot.applied import AppliedFiles
from pilot.ca import authority as authorities
from pilot.ca import signing, tokens
from pilot.ca.authority import Authority
from pilot.ca.serving import ServingCertificate
from pilot.ledger import Ledger
from pilot.options import Address, Options
from pilot.proxy_status import health_of
from pilot.push.debounce import Debounce
from pilot.push.fleet import Fleet
from pilot.push.memory import MemoryFeed
from pilot.push.registrations import Registrations, RegistrationsError
from pilot.push.server import FEED_PATH, FeedServer
from pilot.push.session import ProxySession
from pilot.push.stats import PushStats
from pilot.push.translations import Translated, Translations
from pilot.resources.report import Notice
from pilot.sources.files import FileSource
from pilot.sources.source import Change
from pilot.translate.proxy import Proxy

_ANY = ("0.0.0.0", "::", "")


class Serving(Struct, frozen=True):
    """Where a running pilot is reached."""

    feed: str
    dashboard: str
    metrics: str
    plaintext_feed: str = ""


async def run(
    options: Options,
    *,
    log: Log,
    wall: Callable[[], float],
    registry: Registry | None = None,
    task_status: trio.TaskStatus[Serving] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; started when the configuration has been read and every port is bound.

    Raises MeshError for what the operator must mend: a port in use, a folder that is not there, a broken authority.
    """
    registry = registry or Registry()
    _check(options)
    authority = authorities.load_or_create(options.state_dir, trust_domain=options.mesh.trust_domain, now=wall())
    token = tokens.load_or_create(options.state_dir)
    applied = AppliedFiles(options.state_dir / "applied")
    parts = _Parts(options, log, wall, registry, partial(_sign, authority, wall), make_proxy=Proxy)
    parts.stats.watch_root_expiry(authority.issuer.not_after)
    parts.load_applied(applied)
    parts.restore()
    admin = Admin(parts.ledger, parts.fleet, applied, token, registry, ready=lambda: parts.synced.is_set())
    certificate = ServingCertificate(authority, _names(options), wall=wall, log=log)
    async with _ports(options) as ports, trio.open_nursery() as nursery:
        await nursery.start(parts.run)
        nursery.start_soon(certificate.keep)
        nursery.start_soon(serve_http, ports["dashboard"], admin.serve_api)
        nursery.start_soon(serve_http, ports["metrics"], admin.serve_monitoring)
        secure = FeedServer(parts.fleet, token, lambda: certificate.context)
        nursery.start_soon(secure.serve, ports["listen"])
        if "plaintext_feed" in ports:
            nursery.start_soon(FeedServer(parts.fleet, token, lambda: None).serve, ports["plaintext_feed"])
        task_status.started(_serving(ports))


async def run_in_memory(
    options: Options,
    *,
    log: Log,
    wall: Callable[[], float],
    registry: Registry | None = None,
    make_proxy: Callable[[Node], Proxy] = Proxy,
    task_status: trio.TaskStatus[MemoryFeed] = trio.TASK_STATUS_IGNORED,
) -> None:
    """A pilot for agents of this process, until cancelled; started with the feed to connect them to.

    Of the options, folders, mesh settings and durations count. Nothing is kept on disk. What the translation has to
    say goes to the log: there is no port to ask at.
    """
    parts = _Parts(options, log, wall, registry or Registry(), _no_authority, make_proxy=make_proxy, keep=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(parts.run)
        task_status.started(MemoryFeed(parts.fleet, nursery))


class _Parts:
    """What both kinds of pilot are made of."""

    def __init__(
        self,
        options: Options,
        log: Log,
        wall: Callable[[], float],
        registry: Registry,
        sign: Callable[[Node, SignRequest], SignResponse],
        *,
        make_proxy: Callable[[Node], Proxy],
        keep: bool = True,
    ) -> None:
        self.log = log
        self.stats = PushStats(registry, version=__version__)
        self.ledger = Ledger(options.mesh, make_proxy=make_proxy)
        self.synced = trio.Event()
        self.registrations = Registrations(
            options.state_dir / "workloads.json" if keep else None,
            grace=options.reset_grace,
            expected_grace=options.expected_grace,
        )
        self.registrations.on_save_error = lambda exc: self.log.error("registrations not saved", reason=str(exc))
        self._told: set[str] = set()
        self.fleet = Fleet(
            Translations(self.ledger.scope, self.ledger.translate if keep else self._translate_aloud),
            self.registrations,
            sign,
            stats=self.stats,
            log=log,
            wall=wall,
            debounce=Debounce(options.quiet, options.longest),
        )
        self.ledger.changed = self.fleet.changed
        self.fleet.on_workload = self.ledger.workload
        self.fleet.on_report = self._reported
        self._source = FileSource(*options.config_dirs, poll=options.poll)
        self.ledger.notices["mesh"] = tuple(
            Notice("not_served", "accepted, not served yet", path=field, kind="MeshConfig")
            for field in options.mesh.not_served
        )

    def load_applied(self, applied: AppliedFiles) -> None:
        """Take in what earlier runs were told by `meshctl apply`."""
        try:
            loaded = applied.load()
        except OSError as exc:
            raise MeshError(f"{applied.folder} cannot be read: {exc}; make it readable") from exc
        self.ledger.errors["applied"] = tuple(loaded.errors)
        self.ledger.notices["applied"] = (*loaded.notices, *map(Notice.of, loaded.blemishes))
        self.ledger.update("applied", [(obj.key, obj) for obj in loaded.objects])

    def restore(self) -> None:
        """Expect the agents of the last run."""
        try:
            nodes = self.registrations.restore(trio.current_time())
        except RegistrationsError as exc:
            self.log.warning("registrations of the last run are lost", reason=str(exc))
            return
        for node in nodes:
            self.ledger.expect(node)
        if nodes:
            self.log.info("expecting the agents of the last run", agents=len(nodes))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the source and push; started when the source has been read once."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            await self.synced.wait()
            nursery.start_soon(self.fleet.run)
            task_status.started()

    async def _follow(self) -> None:
        async for change in self._source.changes():
            self._take(change)
            self.synced.set()

    def _take(self, change: Change) -> None:
        ledger = self.ledger
        known = {str(error) for error in ledger.errors.get("files", ())}
        for error in change.errors:
            if str(error) not in known:
                self.log.error("configuration fault; the last good version stays", fault=str(error))
        for key, obj in change.items():
            event = "delete" if obj is None else "update" if ledger.holds("files", key) else "add"
            self.stats.config_event(key[0], event)
        ledger.errors["files"], ledger.notices["files"] = change.errors, change.notices
        ledger.update("files", change.items())

    def _translate_aloud(self, node: Node) -> Translated:
        translated = self.ledger.translate(node)
        said = {str(report): None for report in translated.reports}
        for report in said:
            if report not in self._told:
                self.log.warning("not served as written", fault=report)
        self._told = set(said)
        return translated

    def _reported(self, session: ProxySession, report: Report) -> None:
        # an older session's last words must not outlive the agent's new one
        if report.health and self.fleet.is_current(session):
            self.ledger.health(session.node, healthy=health_of(self.fleet.of(session.node.id)) == "healthy")


def _sign(authority: Authority, wall: Callable[[], float], node: Node, request: SignRequest) -> SignResponse:
    return signing.sign(authority, request, namespace=node.namespace, service_account=node.service_account, now=wall())


def _no_authority(node: Node, request: SignRequest) -> SignResponse:
    return SignResponse(request.id, error="a standalone gateway has no certificate authority; run it with --pilot URL")


def _check(options: Options) -> None:
    for folder in options.config_dirs:
        if not folder.exists():
            raise MeshError(f"{folder} is not there; make the folder, or name another with --config-dir")
    plain = options.plaintext_feed
    if plain is not None and not _is_loopback(plain.host):
        raise MeshError(f"the plaintext feed may not listen on {plain}; use a loopback address, or wss on --listen")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(options: Options) -> tuple[str, ...]:
    own = (options.listen.host,) if options.listen.host not in _ANY else (socket.gethostname(),)
    return tuple(dict.fromkeys(("localhost", "127.0.0.1", "::1", *own, *options.server_names)))


@asynccontextmanager
async def _ports(options: Options) -> AsyncIterator[dict[str, trio.SocketListener]]:
    """Every port, bound, or none of them."""
    wanted = {"listen": options.listen, "dashboard": options.dashboard, "metrics": options.metrics}
    if options.plaintext_feed is not None:
        wanted["plaintext_feed"] = options.plaintext_feed
    ports: dict[str, trio.SocketListener] = {}
    try:
        for flag, address in wanted.items():
            ports[flag] = await _bind(flag, address)
        yield ports
    finally:
        for listener in ports.values():
            listener.socket.close()


async def _bind(flag: str, address: Address) -> trio.SocketListener:
    option = "--" + flag.replace("_", "-")
    try:
        first, *others = await trio.open_tcp_listeners(address.port, host=address.host or None)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            remedy = f"stop the program that holds it, or choose another with {option} HOST:PORT (port 0: any free one)"
            raise MeshError(f"{address} is in use; {remedy}") from exc
        raise MeshError(f"cannot listen on {address}: {exc}; choose another with {option} HOST:PORT") from exc
    for other in others:  # a name of several addresses: one port is one address
        await other.aclose()
    return first


def _serving(ports: dict[str, trio.SocketListener]) -> Serving:
    where = {flag: _reachable(listener) for flag, listener in ports.items()}
    plain = where.get("plaintext_feed")
    return Serving(
        feed=f"wss://{where['listen']}{FEED_PATH}",
        dashboard=f"http://{where['dashboard']}",
        metrics=f"http://{where['metrics']}/metrics",
        plaintext_feed=f"ws://{plain}{FEED_PATH}" if plain else "",
    )


def _reachable(listener: trio.SocketListener) -> Address:
    host, port, *_ = listener.socket.getsockname()
    return Address("127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host, port)
