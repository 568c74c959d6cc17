"""The pilot's own server certificate: signed by its authority, renewed at half of its life, swapped whole."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import trio

from mesh.feed.log import Log
from mesh.identity.contexts import feed_server_context
from pilot.ca.authority import Authority
from pilot.ca.signing import server_certificate

_LOOK = 3600.0  # the wall clock may jump; an hour is little of a month


class ServingCertificate:
    """`context` is the TLS context of the moment."""

    def __init__(self, authority: Authority, names: tuple[str, ...], *, wall: Callable[[], float], log: Log) -> None:
        self._authority = authority
        self._names = names
        self._wall = wall
        self._log = log
        self.renewals = 0
        self.context, self.not_after = self._issue()
        self._issued_at = wall()

    async def keep(self) -> None:
        """Renew until cancelled."""
        while True:
            await trio.sleep(_LOOK)
            self.renew_if_due()

    def renew_if_due(self) -> bool:
        """Renew when half of the life is over; True when it did."""
        now = self._wall()
        if now < (self._issued_at + self.not_after) / 2:
            return False
        self.context, self.not_after = self._issue()
        self._issued_at = now
        self.renewals += 1
        self._log.info("server certificate renewed", names=",".join(self._names))
        return True

    def _issue(self) -> tuple[ssl.SSLContext, float]:
        chain, key, not_after = server_certificate(self._authority, self._names, now=self._wall())
        return feed_server_context(chain, key, self._authority.roots_pem), not_after
