"""Many requests over a few kept connections, for the acceptance script. Threads and the standard library suffice."""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

_TIMEOUT = 10.0


class Reply(NamedTuple):
    """One answer; status 0 when there was none, the reason then being the text."""

    status: int
    text: str


class Caller:
    """One kept connection to HOST:PORT."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT)

    def ask(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Reply:
        """One request; never raises for what the peer or the network does."""
        try:
            self._connection.request(method, path, headers=dict(headers or {}))
            response = self._connection.getresponse()
            return Reply(response.status, response.read().decode("utf-8", "replace"))
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            return Reply(0, f"{type(exc).__name__}: {exc}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def ask(address: str, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Reply:
    """One request over a connection of its own."""
    caller = Caller(address)
    try:
        return caller.ask(path, headers, method)
    finally:
        caller.close()


def volley(
    address: str, path: str, count: int, *, callers: int = 4, headers: Mapping[str, str] | None = None
) -> list[Reply]:
    """`count` requests, shared among `callers` connections."""
    shares = [count // callers + (index < count % callers) for index in range(callers)]

    def fire(share: int) -> list[Reply]:
        caller = Caller(address)
        try:
            return [caller.ask(path, headers) for _ in range(share)]
        finally:
            caller.close()

    with ThreadPoolExecutor(callers) as pool:
        return [reply for replies in pool.map(fire, shares) for reply in replies]


def statuses(replies: list[Reply]) -> str:
    """`498 x 200, 2 x 503 (no healthy upstream)`: how often each status came, with the text of one that failed."""
    parts = []
    for status, count in sorted(Counter(reply.status for reply in replies).items()):
        text = next(reply.text for reply in replies if reply.status == status)
        parts.append(f"{count} x {status}" + ("" if 200 <= status < 300 else f" ({' '.join(text.split())[:80]})"))
    return ", ".join(parts)
