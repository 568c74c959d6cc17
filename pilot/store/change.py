"""What one step from a World to the next changed.

Pushes are decided by it: a change of endpoints alone takes the endpoints' own lane and is never debounced.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

Key: TypeAlias = tuple[str, str, str]
"""(kind, namespace, name)"""


class Change(Struct, frozen=True):
    """Keys of objects and ids of workloads that came, went or changed.

    `endpoints_only`: no cluster, route or listener of any proxy can differ, only the endpoints of the
    services in `hosts`. Otherwise `hosts` says nothing.
    """

    keys: frozenset[Key] = frozenset()
    workloads: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    endpoints_only: bool = False

    def __bool__(self) -> bool:
        """Whether anything changed at all."""
        return bool(self.keys or self.workloads or self.hosts)

    def __or__(self, other: Change) -> Change:
        """Both changes as one, for a proxy that gets them in one push."""
        if not other:
            return self
        if not self:
            return other
        return Change(
            keys=self.keys | other.keys,
            workloads=self.workloads | other.workloads,
            hosts=self.hosts | other.hosts,
            endpoints_only=self.endpoints_only and other.endpoints_only,
        )
