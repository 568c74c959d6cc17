"""Which proxies are to be pushed to, in order of first need. Requests for the same proxy merge into one."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

Key: TypeAlias = tuple[str, int]
"""A proxy's session: the node's id and which of its workers."""


class PushRequest(Struct, frozen=True):
    """Why a push is due. `full`: all resources; else endpoints alone. `since`: time of the oldest cause."""

    full: bool
    since: float
    triggers: frozenset[str] = frozenset()

    def merge(self, other: PushRequest) -> PushRequest:
        """One request that covers both."""
        return PushRequest(self.full or other.full, min(self.since, other.since), self.triggers | other.triggers)


class PushQueue:
    """First in, first out; a proxy stands in it once."""

    def __init__(self) -> None:
        self._waiting: dict[Key, PushRequest] = {}

    def put(self, proxy: Key, request: PushRequest) -> None:
        """Add a proxy, or widen the request that it waits with; its place stays."""
        waiting = self._waiting.get(proxy)
        self._waiting[proxy] = request if waiting is None else waiting.merge(request)

    def take(self) -> tuple[Key, PushRequest] | None:
        """The next proxy and its request."""
        if not self._waiting:
            return None
        proxy = next(iter(self._waiting))
        return proxy, self._waiting.pop(proxy)

    def forget(self, proxy: Key) -> None:
        """The proxy is gone."""
        self._waiting.pop(proxy, None)

    def __len__(self) -> int:
        return len(self._waiting)
