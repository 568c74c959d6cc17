"""VirtualService: the whole field set of networking.istio.io v1.

Attribute names are Istio's in snake_case, durations are float seconds, an absent message is None and
an absent list or text is empty. What the proxy does not serve yet is listed in not_served.py; the
rules between fields stand in validate_virtual_service.py.
"""

from typing import Literal

from msgspec import Struct, field

from pilot.resources.fields import Duration, Int32, UInt32


class StringMatch(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """At most one of the three; none of them means "present" where a map of matches holds it."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class PortSelector(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A port by number; 0 is "not given"."""

    number: UInt32 = 0


class Destination(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A service, perhaps a subset and a port of it. `host` is as written: not expanded."""

    host: str
    subset: str = ""
    port: PortSelector | None = None


class HeaderOperations(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Header changes of one direction."""

    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class Headers(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Header changes of both directions."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class HttpMatchRequest(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """All given conditions hold. `port` 0 and empty texts mean "any"."""

    name: str = ""
    uri: StringMatch | None = None
    scheme: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: dict[str, StringMatch] = {}
    port: UInt32 = 0
    source_labels: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    query_params: dict[str, StringMatch] = {}
    ignore_uri_case: bool = False
    without_headers: dict[str, StringMatch] = {}
    source_namespace: str = ""
    stat_prefix: str = ""


class HttpRouteDestination(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One destination of an HTTP rule; `weight` counts only among several."""

    destination: Destination
    weight: Int32 = 0
    headers: Headers | None = None


class RouteDestination(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One destination of a TLS or TCP rule."""

    destination: Destination
    weight: Int32 = 0


class HttpRedirect(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Answer with Location. `redirect_code` 0 is 301."""

    uri: str = ""
    prefix_rewrite: str = ""
    authority: str = ""
    port: UInt32 | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    scheme: str = ""
    redirect_code: UInt32 = 0


class HttpBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Body of a direct response: text, or `bytes` in base64."""

    string: str | None = None
    bytes: str | None = None


class HttpDirectResponse(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Answer without an upstream."""

    status: UInt32
    body: HttpBody | None = None


class Delegate(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Another VirtualService that holds the routes."""

    name: str = ""
    namespace: str = ""


class RegexRewrite(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """RE2 search and replace on the path."""

    match: str = ""
    rewrite: str = ""


class HttpRewrite(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """New path and authority."""

    uri: str = ""
    authority: str = ""
    uri_regex_rewrite: RegexRewrite | None = None


class HttpRetry(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Retries; `attempts` 0 switches them off."""

    attempts: Int32 = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration | None = None


class Percent(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """0..100."""

    value: float = 0.0


class FaultDelay(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Wait before routing. `percent` is the deprecated whole number."""

    fixed_delay: Duration | None = None
    exponential_delay: Duration | None = None
    percentage: Percent | None = None
    percent: Int32 = 0


class FaultAbort(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Answer instead of routing."""

    http_status: Int32 | None = None
    grpc_status: str | None = None
    http2_error: str | None = field(name="http2Error", default=None)
    percentage: Percent | None = None


class HttpFaultInjection(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Delay and abort roll independently."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class HttpMirrorPolicy(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One shadow destination; no percentage is 100 %."""

    destination: Destination
    percentage: Percent | None = None


class CorsPolicy(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Cross-origin rules. `allow_origin` is the deprecated list of exact origins."""

    allow_origin: tuple[str, ...] = ()
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"


class HttpRoute(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One HTTP rule: a match list (OR) and one action."""

    name: str = ""
    match: tuple[HttpMatchRequest, ...] = ()
    route: tuple[HttpRouteDestination, ...] = ()
    redirect: HttpRedirect | None = None
    direct_response: HttpDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HttpRewrite | None = None
    timeout: Duration | None = None
    retries: HttpRetry | None = None
    fault: HttpFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HttpMirrorPolicy, ...] = ()
    mirror_percent: UInt32 | None = None
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers | None = None


class TlsMatchAttributes(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Conditions on an unterminated TLS connection."""

    sni_hosts: tuple[str, ...]
    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_labels: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class TlsRoute(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One rule for unterminated TLS."""

    match: tuple[TlsMatchAttributes, ...]
    route: tuple[RouteDestination, ...] = ()


class L4MatchAttributes(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Conditions on an opaque connection."""

    destination_subnets: tuple[str, ...] = ()
    port: UInt32 = 0
    source_subnet: str = ""
    source_labels: dict[str, str] = {}
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""


class TcpRoute(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One rule for opaque connections."""

    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()


class VirtualService(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Spec of a VirtualService; rules are in order of precedence."""

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HttpRoute, ...] = ()
    tls: tuple[TlsRoute, ...] = ()
    tcp: tuple[TcpRoute, ...] = ()
    export_to: tuple[str, ...] = ()
