"""Both roles of a feed session as state tables: no I/O, no clock.

`PilotSession` knows what the agent holds and makes the next delta towards what it should hold. `AgentSession`
holds the resources and applies a push, one resource at a time. Theory: messages arrive in order, so the pilot
books a push as held when it is sent and takes back what a Nack names. At most one push of each lane is
outstanding, at most one version of each resource is in flight; whatever changes meanwhile is merged into the
next push (latest wins). A rejected version is remembered and not sent again until the resource changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, TypeAlias

from msgspec import Raw, Struct

from mesh import config
from mesh.config import Resource, ResourceKind, Snapshot
from mesh.errors import ConfigError
from mesh.feed.message import Ack, EndpointsPush, Nack, Push, Rejected, Removal, Upsert

Key: TypeAlias = tuple[ResourceKind, str]
KINDS: tuple[ResourceKind, ...] = ("secret", "cluster", "endpoints", "route", "listener")
Lane = Literal["config", "endpoints"]

_REMOVED = ""  # stands for the hash of a refused removal; the next offer tries it again


class Encoded(Struct, frozen=True):
    """One resource as it travels: its content hash and its JSON. Shared by all sessions that send it."""

    hash: str
    data: bytes


Bundle: TypeAlias = Mapping[Key, Encoded]
"""All that one proxy should hold, make-before-break order."""


Memo: TypeAlias = dict[int, tuple[Resource, Encoded]]
"""Encodings by the identity of the resource, which the memo keeps alive."""


def encode_snapshot(snapshot: Snapshot, memo: Memo) -> dict[Key, Encoded]:
    """Encode every resource once: the very same object is found in `memo` the next time."""
    bundle: dict[Key, Encoded] = {}
    for kind, name, resource in snapshot.items():
        found = memo.get(id(resource))
        if found is None:
            data = config.encode(resource)
            found = memo[id(resource)] = (resource, Encoded(config.content_hash(data), data))
        bundle[kind, name] = found[1]
    return bundle


class SyncState(Struct, frozen=True):
    """One kind's state as proxy-status shows it: `error` is the last rejection's text."""

    state: Literal["SYNCED", "STALE", "NOT SENT", "ERROR"]
    error: str = ""


class _Flight(Struct):
    lane: Lane
    changes: dict[Key, tuple[str | None, str | None]]
    """Key to (hash before, hash sent); None is absence."""


class PilotSession:
    """The pilot's book of one agent."""

    def __init__(self, known: Mapping[ResourceKind, Mapping[str, str]] | None = None) -> None:
        self._held: dict[Key, str] = {
            (kind, name): h for kind, names in (known or {}).items() for name, h in names.items()
        }
        self._wanted: Bundle = {}
        self._refused: dict[Key, tuple[str, str]] = {}
        self._flights: dict[int, _Flight] = {}
        self._nonce = 0
        self._offered = False
        self.resumed = bool(self._held)
        self.expired_nonces = 0
        self.last_ack: int = 0

    def offer(self, bundle: Bundle) -> None:
        """The agent should hold exactly this."""
        self._wanted = bundle
        self._offered = True
        self._refused = {
            key: (h, why) for key, (h, why) in self._refused.items() if key in bundle and bundle[key].hash == h
        }

    def offer_endpoints(self, bundle: Bundle) -> None:
        """Take only the endpoints of `bundle`, for clusters that the agent is already to hold."""
        changed = {
            key: encoded
            for key, encoded in bundle.items()
            if key[0] == "endpoints" and ("cluster", key[1]) in self._wanted and self._wanted.get(key) != encoded
        }
        if changed:
            self.offer({**self._wanted, **changed})

    def next_push(self) -> Push | EndpointsPush | None:
        """The next message to send now, if any; books it as outstanding.

        The first push is always made, even an empty one: its Ack tells that the agent is in step.
        """
        if not self._offered:
            return None
        busy = {flight.lane for flight in self._flights.values()}
        if "config" not in busy:
            changes = self._changes(KINDS)
            only_endpoints = all(kind == "endpoints" for kind, _ in changes)
            if self._nonce == 0 or (changes and not only_endpoints):
                full = self._nonce == 0 and not self.resumed
                nonce = self._book("config", changes)
                return Push(nonce, self._upserts(changes), _removals(changes), full)
        if "endpoints" not in busy and self._nonce:
            changes = self._changes(("endpoints",))
            if changes:
                nonce = self._book("endpoints", changes)
                return EndpointsPush(nonce, self._upserts(changes), _removals(changes))
        return None

    def receive(self, message: Ack | Nack) -> bool:
        """Book an answer. False when its nonce is not outstanding; such an answer changes nothing."""
        flight = self._flights.pop(message.nonce, None)
        if flight is None:
            self.expired_nonces += 1
            return False
        self.last_ack = message.nonce
        if isinstance(message, Nack):
            for rejected in message.rejected:
                key: Key = (rejected.kind, rejected.name)
                if key in flight.changes:
                    self._take_back(key, flight.changes[key], rejected.reason)
        return True

    def _take_back(self, key: Key, change: tuple[str | None, str | None], reason: str) -> None:
        before, sent = change
        if before is None:
            self._held.pop(key, None)
        else:
            self._held[key] = before
        wanted = self._wanted[key].hash if key in self._wanted else None
        if wanted == sent:
            self._refused[key] = (sent or _REMOVED, reason)

    @property
    def outstanding(self) -> bool:
        """True while any push waits for its answer."""
        return bool(self._flights)

    @property
    def in_step(self) -> bool:
        """True when the agent has answered for all that it should hold (rejections count as answers)."""
        return self._offered and self._nonce > 0 and not self._flights and not self._changes(KINDS)

    @property
    def rejections(self) -> list[Rejected]:
        """Resources that the agent refused and whose refused version is still wanted."""
        return [Rejected(kind, name, why) for (kind, name), (_, why) in self._refused.items()]

    @property
    def wanted(self) -> Bundle:
        """What was last offered."""
        return self._wanted

    def states(self) -> dict[ResourceKind, SyncState]:
        """Sync state of each kind."""
        waiting = {kind for kind, _ in self._changes(KINDS)}
        waiting |= {kind for flight in self._flights.values() for kind, _ in flight.changes}
        present = {kind for kind, _ in self._wanted} | {kind for kind, _ in self._held}
        errors: dict[ResourceKind, str] = {}
        for (kind, name), (_, why) in self._refused.items():
            errors.setdefault(kind, f"{name}: {why}")
        return {kind: _state(kind, waiting, present, errors) for kind in KINDS}

    def _changes(self, kinds: Iterable[ResourceKind]) -> dict[Key, tuple[str | None, str | None]]:
        """Wanted minus held, leaving out what is in flight or refused; upserts first, in bundle order."""
        chosen = set(kinds)
        flying = {key for flight in self._flights.values() for key in flight.changes}
        changes: dict[Key, tuple[str | None, str | None]] = {}
        for key, encoded in self._wanted.items():
            if key[0] not in chosen or key in flying or self._held.get(key) == encoded.hash:
                continue
            if key in self._refused and self._refused[key][0] == encoded.hash:
                continue
            changes[key] = (self._held.get(key), encoded.hash)
        for key, before in self._held.items():
            if key[0] in chosen and key not in self._wanted and key not in flying and key not in self._refused:
                changes[key] = (before, None)
        return changes

    def _book(self, lane: Lane, changes: dict[Key, tuple[str | None, str | None]]) -> int:
        self._nonce += 1
        self._flights[self._nonce] = _Flight(lane, changes)
        for key, (_, sent) in changes.items():
            if sent is None:
                self._held.pop(key, None)
            else:
                self._held[key] = sent
        return self._nonce

    def _upserts(self, changes: Mapping[Key, tuple[str | None, str | None]]) -> tuple[Upsert, ...]:
        return tuple(
            Upsert(key[0], key[1], sent, Raw(self._wanted[key].data)) for key, (_, sent) in changes.items() if sent
        )


def _removals(changes: Mapping[Key, tuple[str | None, str | None]]) -> tuple[Removal, ...]:
    return tuple(Removal(kind, name) for (kind, name), (_, sent) in changes.items() if sent is None)


def _state(
    kind: ResourceKind, waiting: set[ResourceKind], present: set[ResourceKind], errors: Mapping[ResourceKind, str]
) -> SyncState:
    if kind in errors:
        return SyncState("ERROR", errors[kind])
    if kind in waiting:
        return SyncState("STALE")
    return SyncState("SYNCED" if kind in present else "NOT SENT")


class _Held(Struct, frozen=True):
    hash: str
    raw: bytes
    resource: Resource


class Change:
    """A push applied to a copy: what would be held, and what could not be decoded. `AgentSession.commit` keeps it."""

    def __init__(self, nonce: int, held: dict[Key, _Held], before: dict[Key, _Held], touched: set[Key]) -> None:
        self.nonce = nonce
        self.rejected: list[Rejected] = []
        self._held = held
        self._before = before
        self._touched = touched

    @property
    def snapshot(self) -> Snapshot:
        """What the agent would serve."""
        return _snapshot(self._held)

    def revert(self, rejected: Iterable[Rejected]) -> bool:
        """Put the last good version of each back. False when that changed nothing: the fault is not in this push."""
        progress = False
        for fault in rejected:
            key: Key = (fault.kind, fault.name)
            if key not in self._touched:
                continue
            progress = True
            self._touched.discard(key)
            self.rejected.append(fault)
            if key in self._before:
                self._held[key] = self._before[key]
            else:
                self._held.pop(key, None)
        return progress

    def revert_all(self, reason: str) -> None:
        """Refuse the whole push."""
        self.revert([Rejected(kind, name, reason) for kind, name in self._touched])

    def answer(self) -> Ack | Nack:
        """What to tell the pilot."""
        return Nack(self.nonce, tuple(self.rejected)) if self.rejected else Ack(self.nonce)


class AgentSession:
    """The agent's resources, across sessions: reconnecting keeps them and says their hashes."""

    def __init__(self) -> None:
        self._held: dict[Key, _Held] = {}

    def known(self) -> dict[ResourceKind, dict[str, str]]:
        """Hashes for Hello."""
        known: dict[ResourceKind, dict[str, str]] = {}
        for (kind, name), held in self._held.items():
            known.setdefault(kind, {})[name] = held.hash
        return known

    @property
    def snapshot(self) -> Snapshot:
        """What is in use."""
        return _snapshot(self._held)

    def apply(self, push: Push | EndpointsPush) -> Change:
        """Decode and check each resource of a push alone; nothing is in use before `commit`."""
        held = {} if isinstance(push, Push) and push.full else dict(self._held)
        touched: set[Key] = set(self._held) if isinstance(push, Push) and push.full else set()
        bad: list[Rejected] = []
        for upsert in push.upserts:
            key: Key = (upsert.kind, upsert.name)
            touched.add(key)
            try:
                held[key] = _Held(upsert.hash, bytes(upsert.resource), _decode(upsert))
            except ConfigError as exc:
                bad.append(Rejected(upsert.kind, upsert.name, exc.what))
        for removal in push.removals:
            touched.add((removal.kind, removal.name))
            held.pop((removal.kind, removal.name), None)
        change = Change(push.nonce, held, self._held, touched)
        change.revert(bad)
        return change

    def commit(self, change: Change) -> None:
        """Put a change in use."""
        self._held = change._held

    def as_push(self) -> Push:
        """Everything held as one full push: the form in which the last good snapshot lies on disk."""
        order = sorted(self._held.items(), key=lambda item: KINDS.index(item[0][0]))
        return Push(0, tuple(Upsert(key[0], key[1], held.hash, Raw(held.raw)) for key, held in order), (), True)


def _decode(upsert: Upsert) -> Resource:
    raw = bytes(upsert.resource)
    if config.content_hash(raw) != upsert.hash:
        raise ConfigError("the content does not have the announced hash")
    resource = config.decode_resource(upsert.kind, raw)
    name = resource.cluster if isinstance(resource, config.ClusterEndpoints) else resource.name
    if name != upsert.name:
        raise ConfigError(f"the resource calls itself {name}")
    return resource


def _of(held: Mapping[Key, _Held], kind: ResourceKind) -> Iterator[tuple[str, Resource]]:
    return ((name, item.resource) for (each, name), item in held.items() if each == kind)


def _snapshot(held: Mapping[Key, _Held]) -> Snapshot:
    return Snapshot(
        listeners={n: r for n, r in _of(held, "listener") if isinstance(r, config.Listener)},
        routes={n: r for n, r in _of(held, "route") if isinstance(r, config.RouteConfig)},
        clusters={n: r for n, r in _of(held, "cluster") if isinstance(r, config.Cluster)},
        endpoints={n: r for n, r in _of(held, "endpoints") if isinstance(r, config.ClusterEndpoints)},
        secrets={n: r for n, r in _of(held, "secret") if isinstance(r, config.Secret)},
    )
