"""PeerAuthentication: which traffic a workload takes, plaintext or mutual TLS."""

from typing import Annotated, Literal

from msgspec import Struct

from pilot.resources.fields import NonEmptyMap, UInt32
from pilot.resources.meta import MatchLabels


class MutualTls(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Mode of a scope; UNSET inherits from the wider scope."""

    mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] = "UNSET"


class PeerAuthentication(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a PeerAuthentication; `port_level_mtls` is keyed by the workload's own port."""

    selector: MatchLabels | None = None
    mtls: MutualTls | None = None
    port_level_mtls: Annotated[dict[UInt32, MutualTls], NonEmptyMap] = {}
