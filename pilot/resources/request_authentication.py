"""RequestAuthentication: which tokens (JWT) a workload takes, and where they stand in a request."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from pilot.resources.fields import Duration, Text
from pilot.resources.meta import MatchLabels
from pilot.resources.target_ref import TargetRef

_Url = Annotated[str, Meta(min_length=1, max_length=2048)]


class JwtHeader(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A header that holds a token behind `prefix`."""

    name: Text
    prefix: str = ""


class ClaimToHeader(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A claim of the token that is told to the application; `claim` may be nested with dots."""

    header: Text
    claim: Text


class JwtRule(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Tokens of one issuer. `jwks_uri_snake` is the older spelling of `jwks_uri`."""

    issuer: Text = ""
    audiences: tuple[Text, ...] = ()
    jwks_uri: _Url = ""
    jwks_uri_snake: _Url = field(name="jwks_uri", default="")
    jwks: str = ""
    from_headers: tuple[JwtHeader, ...] = ()
    from_params: tuple[Text, ...] = ()
    from_cookies: tuple[Text, ...] = ()
    output_payload_to_header: str = ""
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    forward_original_token: bool = False
    timeout: Duration | None = None
    space_delimited_claims: Annotated[tuple[Text, ...], Meta(max_length=64)] = ()
    presence: Literal["OPTIONAL", "REQUIRED"] = "OPTIONAL"


class RequestAuthentication(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a RequestAuthentication."""

    selector: MatchLabels | None = None
    target_ref: TargetRef | None = None
    target_refs: tuple[TargetRef, ...] = ()
    jwt_rules: Annotated[tuple[JwtRule, ...], Meta(max_length=4096)] = ()
