"""The policies in force for one filter chain, shared by its connections and exchanged in place at a push.

A connection keeps its chain for life but never its policies: what a push forbids is forbidden at once.
"""

from __future__ import annotations

from agent.policy.authz import Authz
from mesh import config


class Guard:
    """`authz` is None while no policy applies, which is all that a request then pays."""

    __slots__ = ("_http", "authz")

    def __init__(self, *, http: bool = True) -> None:
        self._http = http
        self.authz: Authz | None = None

    def guard(self, policies: tuple[config.AuthzPolicy, ...], destination_port: int) -> None:
        """Take the policies of a push."""
        self.authz = Authz(policies, http=self._http, destination_port=destination_port) if policies else None


OPEN = Guard()
"""For connections of no chain."""


def guards(settings: config.Listener, before: dict[str, Guard]) -> dict[str, Guard]:
    """A guard for each chain by name, those of `before` brought up to date.

    Connections of a chain that is gone come under the policies of the listener's first chain.
    """
    found = dict(before)
    for chain in settings.chains:
        if chain.name not in found:
            found[chain.name] = Guard(http=chain.http is not None)
    named = {chain.name: chain for chain in reversed(settings.chains)}
    for name, guard in found.items():
        current = named.get(name) or next(iter(settings.chains), None)
        if current is not None:
            guard.guard(current.policies, current.destination_port or settings.port)
    return found
