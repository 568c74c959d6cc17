"""The agent's identity: its first certificate, and a new one at half of each one's life.

The key never leaves the agent and is made in a child process, so that the agent need not load a cryptography library
for good. Certificates come from the pilot over the feed; between them the agent serves on with what it has.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio
from msgspec import Struct, field

from agent.websocket import Certificate
from mesh.backoff import delays
from mesh.errors import MeshError
from mesh.feed.log import Log
from mesh.feed.message import SignResponse
from mesh.feed.transport import FeedClosed
from mesh.identity import keymaker
from mesh.identity.contexts import ContextError, mesh_client_context, mesh_server_context
from mesh.identity.keymaker import KeyAndCsr
from mesh.identity.spiffe import SpiffeError, SpiffeId, parse
from mesh.telemetry.metrics import Registry

_RENEW_AT: Final = 0.5  # Istio SECRET_GRACE_PERIOD_RATIO
_JITTER: Final = 0.01  # Istio SECRET_GRACE_PERIOD_RATIO_JITTER
_SIGN_WAIT: Final = 10.0  # Istio's budget for one request
_KEY_WAIT: Final = 30.0
_RETRY_BASE: Final = 0.05  # Istio starts at 50 ms
_RETRY_CAP: Final = 30.0
_LEAST: Final = 1.0  # between two certificates, whatever the clocks say
_CLIENT_ALPN: Final = ("istio",)  # to a peer of the mesh whose protocol does not matter
_SLEEP: Final = 60.0  # the wall clock may jump: look at it at least this often


class Identity(Struct, frozen=True):
    """A workload's certificate in its ready form. Times are seconds since the epoch."""

    spiffe_id: SpiffeId
    server_context: ssl.SSLContext
    client_context: ssl.SSLContext
    certificate: Certificate
    roots_pem: bytes
    not_before: float
    _made: dict[tuple[bool, tuple[str, ...]], ssl.SSLContext] = field(default_factory=dict)

    @property
    def not_after(self) -> float:
        """End of the certificate."""
        return self.certificate.not_after

    def server_context_for(self, alpn: tuple[str, ...]) -> ssl.SSLContext:
        """`server_context` with another list of ALPN names, made at its first use."""
        return self._context(mesh_server_context, alpn, server=True)

    def client_context_for(self, alpn: tuple[str, ...]) -> ssl.SSLContext:
        """`client_context` with another list of ALPN names, made at its first use."""
        return self._context(mesh_client_context, alpn, server=False)

    def _context(
        self,
        make: Callable[[bytes, bytes, bytes, tuple[str, ...]], ssl.SSLContext],
        alpn: tuple[str, ...],
        *,
        server: bool,
    ) -> ssl.SSLContext:
        made = self._made.get((server, alpn))
        if made is None:
            chain, key = self.certificate.chain_pem, self.certificate.key_pem
            made = self._made[server, alpn] = make(chain, key, self.roots_pem, alpn)
        return made


class Signer(Protocol):
    """Where certificates come from: the feed."""

    async def sign(self, csr_pem: bytes, ttl: float) -> SignResponse:
        """Have a request signed. Raises FeedClosed."""


class IdentityError(MeshError):
    """No certificate this time; it will be tried again."""


class IdentityKeeper:
    """Keeps one agent's certificate fresh."""

    def __init__(
        self,
        signer: Signer,
        on_identity: Callable[[Identity], None],
        *,
        log: Log,
        rng: random.Random,
        wall: Callable[[], float],
        registry: Registry | None = None,
        ttl: float = 0.0,
        server_alpn: tuple[str, ...] = (),
        make_key: Callable[[], Awaitable[KeyAndCsr]] | None = None,
    ) -> None:
        self.current: Identity | None = None
        self.last_error = ""
        self._signer = signer
        self._on_identity = on_identity
        self._log = log
        self._rng = rng
        self._wall = wall
        self._ttl = ttl
        self._server_alpn = server_alpn
        self._make_key = make_key or make_key_in_child
        registry = registry or Registry()
        self._events = registry.counter("trioweave_agent_certificate_events_total", "Certificates asked for, by event.")
        expiry = registry.gauge(
            "trioweave_agent_certificate_expiry_seconds", "Seconds to the certificate's end.", merge="min"
        )
        expiry.child().watch(lambda: self.current.not_after - self._wall() if self.current else 0.0)

    def certificate(self) -> Certificate | None:
        """The current certificate, for the way to the pilot."""
        return self.current.certificate if self.current else None

    async def run(self, *, task_status: trio.TaskStatus[Identity] = trio.TASK_STATUS_IGNORED) -> None:
        """Get a certificate (started with it), then renew until cancelled."""
        started = False
        while True:
            identity = await self._obtain()
            self.current = identity
            self._on_identity(identity)
            self._count("renewed" if started else "first")
            self._log.info("certificate issued", identity=identity.spiffe_id.uri, seconds=round(self._left(identity)))
            if not started:
                task_status.started(identity)
                started = True
            # Certificates are back-dated for peers whose clock is behind; of a short life that would be the most of it.
            now = self._wall()
            renewal = renewal_time(max(identity.not_before, now), identity.not_after, self._rng)
            await self._wait_until(max(renewal, now + _LEAST))

    def _left(self, identity: Identity) -> float:
        return identity.not_after - self._wall()

    async def _wait_until(self, when: float) -> None:
        while (left := when - self._wall()) > 0:  # noqa: ASYNC110 - nobody sets an event when a wall clock moves
            await trio.sleep(min(left, _SLEEP))

    async def _obtain(self) -> Identity:
        pauses = delays(self._rng, base=_RETRY_BASE, cap=_RETRY_CAP)
        while True:
            try:
                return await self._try()
            except IdentityError as exc:
                self.last_error = str(exc)
                self._count("failed")
                left = round(self._left(self.current)) if self.current else 0
                self._log.warning("no certificate; will try again", reason=str(exc), current_expires_in=left)
            await trio.sleep(next(pauses))

    async def _try(self) -> Identity:
        made = await self._made()
        return self._identity(made, await self._signed(made))

    async def _made(self) -> KeyAndCsr:
        with trio.move_on_after(_KEY_WAIT):
            return await self._make_key()
        raise IdentityError(f"the key maker took over {_KEY_WAIT:.0f} s; look at the load of this machine")

    async def _signed(self, made: KeyAndCsr) -> SignResponse:
        with trio.move_on_after(_SIGN_WAIT):
            try:
                response = await self._signer.sign(made.csr_pem, self._ttl)
            except FeedClosed as exc:
                raise IdentityError(f"the pilot could not be asked: {exc.reason}") from exc
            if response.error:
                raise IdentityError(f"the pilot refuses to sign: {response.error}")
            return response
        raise IdentityError(f"no certificate from the pilot within {_SIGN_WAIT:.0f} s; see the state of the feed")

    def _identity(self, made: KeyAndCsr, response: SignResponse) -> Identity:
        chain, roots = response.chain_pem.encode(), response.roots_pem.encode()
        try:
            return Identity(
                spiffe_id=parse(response.spiffe_id),
                server_context=mesh_server_context(chain, made.key_pem, roots, self._server_alpn),
                client_context=mesh_client_context(chain, made.key_pem, roots, _CLIENT_ALPN),
                certificate=Certificate(chain, made.key_pem, response.not_after),
                roots_pem=roots,
                not_before=response.not_before,
            )
        except (ContextError, SpiffeError) as exc:
            raise IdentityError(f"the pilot's certificate cannot be used: {exc}") from exc

    def _count(self, event: str) -> None:
        self._events.child((("event", event),)).inc()


def renewal_time(not_before: float, not_after: float, rng: random.Random) -> float:
    """When to renew: half of the life, a little earlier or later so that a crowd of agents spreads out."""
    ratio = _RENEW_AT + rng.uniform(-_JITTER, _JITTER)
    return not_after - (not_after - not_before) * ratio


async def make_key_in_child() -> KeyAndCsr:
    """A new key and request from a child process. Raises IdentityError."""
    try:
        done = await trio.run_process(
            keymaker.command(), env=keymaker.environment(), capture_stdout=True, capture_stderr=True, check=False
        )
        return keymaker.read(done.stdout)
    except (OSError, MeshError) as exc:
        raise IdentityError(f"no key: {exc}") from exc
