"""Workloads that are in the mesh because their agent is, or soon will be again. The clock is passed in.

A registration is `connected`, `leaving` (its session broke; gone after a grace) or `expected` (restored from disk
at start: an agent that outlived the last pilot keeps its endpoints until it is back, or until a longer grace ends).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct, field

from mesh.errors import MeshError
from mesh.feed.node import Node
from mesh.private_file import write_private

RESET_GRACE = 1.0  # a local process that was killed should not stay an endpoint; Istio waits 10 s
EXPECTED_GRACE = 15.0  # three times the agents' longest reconnect delay


class RegistrationsError(MeshError):
    """The saved registrations cannot be read."""


class _Registration(Struct):
    node: Node
    sessions: set[str] = field(default_factory=set)
    until: float | None = None
    expected: bool = False


class Registrations:
    """All registered workloads by node id; saved at `path` (workloads.json) on every change."""

    def __init__(
        self, path: Path | None = None, *, grace: float = RESET_GRACE, expected_grace: float = EXPECTED_GRACE
    ) -> None:
        self._path = path
        self._grace = grace
        self._expected_grace = expected_grace
        self._entries: dict[str, _Registration] = {}
        self.on_save_error: Callable[[OSError], None] = lambda exc: None

    def restore(self, now: float) -> list[Node]:
        """Expect the workloads of the last run, in the order of their ids. Raises RegistrationsError."""
        if self._path is None or not self._path.exists():
            return []
        try:
            nodes = msgspec.json.decode(self._path.read_bytes(), type=list[Node])
        except (OSError, msgspec.DecodeError) as exc:
            raise RegistrationsError(f"{self._path}: {exc}; the agents will register again as they reconnect") from exc
        for node in nodes:
            self._entries[node.id] = _Registration(node, until=now + self._expected_grace, expected=True)
        return nodes

    def connect(self, node: Node, session: str) -> bool:
        """The agent is here, with one session more. True when the workload is new or has changed."""
        before = self._entries.get(node.id)
        sessions = before.sessions if before is not None else set()
        self._entries[node.id] = _Registration(node, sessions | {session})
        if before is not None and before.node == node:
            return False
        self._save()
        return True

    def disconnect(self, node_id: str, session: str, now: float, *, at_once: bool) -> Node | None:
        """A session of the agent ended. The node, when it is gone at once; None when it has a grace or other sessions:
        a newer one, or those of other workers."""
        entry = self._entries.get(node_id)
        if entry is None or session not in entry.sessions:
            return None
        entry.sessions.discard(session)
        if entry.sessions:
            return None
        if at_once:
            return self._remove(node_id)
        entry.until = now + self._grace
        return None

    def expire(self, now: float) -> list[Node]:
        """Remove and return those whose grace is over."""
        over = [id for id, entry in self._entries.items() if entry.until is not None and entry.until <= now]
        return [self._remove(id) for id in over]

    @property
    def next_expiry(self) -> float | None:
        """When `expire` will next have something to do."""
        return min((entry.until for entry in self._entries.values() if entry.until is not None), default=None)

    @property
    def expected(self) -> list[str]:
        """Ids that the last run knew and that have not come back yet."""
        return [id for id, entry in self._entries.items() if entry.expected]

    def _remove(self, node_id: str) -> Node:
        node = self._entries.pop(node_id).node
        self._save()
        return node

    def _save(self) -> None:
        if self._path is None:
            return
        nodes = [entry.node for _, entry in sorted(self._entries.items())]
        try:
            write_private(self._path, msgspec.json.encode(nodes))
        except OSError as exc:
            self.on_save_error(exc)
