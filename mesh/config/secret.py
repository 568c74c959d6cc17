"""Secrets: certificates with their keys, and roots to trust. They travel as a kind of their own, so that a renewed
certificate is one small change, and so that everything else can be shown without care."""

from __future__ import annotations

import msgspec
from msgspec import Struct

REDACTED = "[redacted]"


class Secret(Struct, frozen=True, omit_defaults=True):
    """What a TLS context is made of. Texts are PEM; a `*_file` is read by the agent from its own disk instead.

    `name` has Istio's form: `kubernetes://ns/name`, `kubernetes://ns/name-cacert`, `file-cert:CERT~KEY`,
    `file-root:PATH`. A secret that a listener or cluster names and that is not there fails its handshakes alone.
    """

    name: str
    certificate: str = ""
    """The chain, leaf first."""
    key: str = ""
    roots: str = ""
    crl: str = ""
    certificate_file: str = ""
    key_file: str = ""
    roots_file: str = ""
    crl_file: str = ""

    def redacted(self) -> Secret:
        """The same without the key: the form in which it may be shown."""
        return msgspec.structs.replace(self, key=REDACTED) if self.key else self

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"
