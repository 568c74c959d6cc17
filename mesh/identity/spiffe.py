"""SPIFFE ids of workloads: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

Parsing is strict (exactly these five parts); comparing is by value. No certificates here.
"""

from __future__ import annotations

import re

from msgspec import Struct

from mesh.errors import MeshError

DEFAULT_TRUST_DOMAIN = "cluster.local"  # MeshConfig trustDomain

_SCHEME = "spiffe://"
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,253}")


class SpiffeError(MeshError):
    """The text is not the SPIFFE id of a workload."""


class SpiffeId(Struct, frozen=True, order=True):
    """Who a workload is."""

    trust_domain: str
    namespace: str
    service_account: str

    @property
    def uri(self) -> str:
        """The form in certificates."""
        return f"{_SCHEME}{self.principal}"

    @property
    def principal(self) -> str:
        """The form in policies: the id without `spiffe://`."""
        return f"{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    def __str__(self) -> str:
        return self.uri


def make(trust_domain: str, namespace: str, service_account: str) -> SpiffeId:
    """Check the parts and join them; an `@` in the trust domain becomes `.`, as Istio does. Raises SpiffeError."""
    domain = trust_domain.replace("@", ".")
    if not _TRUST_DOMAIN.fullmatch(domain):
        raise SpiffeError(f"{trust_domain!r} is no trust domain; write lower-case letters, digits, '.', '-' or '_'")
    for what, value in (("namespace", namespace), ("service account", service_account)):
        if not _SEGMENT.fullmatch(value) or value in (".", ".."):
            raise SpiffeError(f"{value!r} is no {what}; write letters, digits, '.', '-' or '_'")
    return SpiffeId(domain, namespace, service_account)


def parse(uri: str) -> SpiffeId:
    """Inverse of SpiffeId.uri. Raises SpiffeError."""
    parts = uri.removeprefix(_SCHEME).split("/")
    if not uri.startswith(_SCHEME) or len(parts) != 5 or parts[1] != "ns" or parts[3] != "sa":
        raise SpiffeError(f"{uri!r} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")
    return make(parts[0], parts[2], parts[4])
