"""Access control: who may use a chain, and for what. Neutral of where it was written; the agent compiles it.

Values are Istio's: `abc`, `abc*`, `*abc`, `*` (present); `{*}` and `{**}` in paths; CIDR blocks for addresses.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from mesh.config.route import Origin


class AuthzCondition(Struct, frozen=True, omit_defaults=True):
    """One attribute against values: one of them matches or, `negated`, none does.

    `attribute` is a word of Istio's conditions (`source.principal`, `destination.port`, …) or request.host,
    request.method, request.path, request.header (whose lower-case `name` is given). What an agent does not know
    is never met in an ALLOW rule, and is left out of a DENY rule.
    """

    attribute: str
    values: tuple[str, ...] = ()
    negated: bool = False
    name: str = ""


class AuthzRule(Struct, frozen=True, omit_defaults=True):
    """All of one of `sources`, all of one of `operations`, all of `conditions`; an empty part always holds."""

    sources: tuple[tuple[AuthzCondition, ...], ...] = ()
    operations: tuple[tuple[AuthzCondition, ...], ...] = ()
    conditions: tuple[AuthzCondition, ...] = ()


class AuthzPolicy(Struct, frozen=True, omit_defaults=True):
    """Rules of one author. A match of any DENY refuses; where there is an ALLOW, one must match."""

    name: str
    namespace: str = ""
    action: Literal["ALLOW", "DENY"] = "ALLOW"
    rules: tuple[AuthzRule, ...] = ()
    origin: Origin = Origin()
