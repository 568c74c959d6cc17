"""VirtualService http rules -> routes, in the order they are written: the first match wins.

Which virtual host the routes end in is sidecar_hosts.py's and gateways.py's business; where a destination's
cluster comes from, destinations.py's.
"""

from __future__ import annotations

import base64
from typing import Literal, cast

from mesh import config
from pilot.resources.meta import covers_labels
from pilot.resources.object import Object
from pilot.resources.virtual_service import (
    HeaderOperations,
    Headers,
    HttpFaultInjection,
    HttpMatchRequest,
    HttpRedirect,
    HttpRetry,
    HttpRewrite,
    HttpRoute,
    StringMatch,
    VirtualService,
)
from pilot.store.index import gateway_name
from pilot.store.mesh_config import split_conditions
from pilot.translate.destinations import cluster_of
from pilot.translate.visibility import View

_NOT_HEADERS = frozenset({"uri", "scheme", "method", "authority"})

GRPC_STATUS = {
    name: number
    for number, name in enumerate(
        (
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        )
    )
}


def translate_rules(view: View, obj: Object, port: int, gateway: str) -> list[config.Route]:
    """Routes of a VirtualService as seen at a listener port, on the gateway `mesh` or `ns/name`.

    Nothing after the first catch-all rule can be reached, so translation ends there. Rules that only
    delegate have no action of their own and give no route.
    """
    routes: list[config.Route] = []
    for position, rule in enumerate(cast(VirtualService, obj.spec).http):
        path = f"spec.http[{position}]"
        if not rule.route and rule.redirect is None and rule.direct_response is None:
            continue
        matches = rule.match or (HttpMatchRequest(),)
        for number, match in enumerate(matches):
            if not _applies(view, obj, match, port, gateway):
                continue
            where = f"{path}.match[{number}]" if rule.match else path
            route = _route(view, obj, rule, match, path, where, port)
            routes.append(route)
            if is_catch_all(route):
                return routes
    return routes


def is_catch_all(route: config.Route) -> bool:
    """Whether every request matches, as Istio judges it: by path, headers and query alone."""
    match = route.match
    path = match.path
    any_path = path is None or (path.kind, path.value) in (("prefix", "/"), ("prefix", ""), ("regex", ".*"))
    others = (match.method, match.scheme, match.authority)
    return (
        any_path
        and not (match.headers or match.without_headers or match.query)
        and all(item is None for item in others)
    )


def _applies(view: View, obj: Object, match: HttpMatchRequest, port: int, gateway: str) -> bool:
    """The conditions that are known before any request: port, gateways, else labels and namespace of the client."""
    if match.port and match.port != port:
        return False
    if match.gateways:
        return gateway in {gateway_name(written, obj.namespace) for written in match.gateways}
    if match.source_namespace and match.source_namespace != view.namespace:
        return False
    return covers_labels(match.source_labels, view.labels)


def _route(
    view: View, obj: Object, rule: HttpRoute, match: HttpMatchRequest, path: str, where: str, port: int
) -> config.Route:
    action: config.RouteAction | config.Redirect | config.DirectResponse
    if rule.redirect is not None:
        action = translate_redirect(rule.redirect, port)
    elif rule.direct_response is not None:
        body = rule.direct_response.body
        content = b""
        if body is not None:
            content = base64.b64decode(body.bytes) if body.bytes is not None else (body.string or "").encode()
        action = config.DirectResponse(rule.direct_response.status, content)
    else:
        action = _forward(view, obj, rule, path, port)
    return config.Route(
        name=f"{rule.name}.{match.name}" if match.name else rule.name,
        match=translate_match(match),
        action=action,
        request_headers=_operations(rule.headers, "request"),
        response_headers=_operations(rule.headers, "response"),
        fault=translate_fault(rule.fault) if rule.fault is not None else None,
        origin=obj.origin(where),
    )


def _forward(view: View, obj: Object, rule: HttpRoute, path: str, port: int) -> config.RouteAction:
    clusters = []
    for number, target in enumerate(rule.route):
        name = cluster_of(view, obj, target.destination, f"{path}.route[{number}].destination", port)
        clusters.append(
            config.WeightedCluster(
                name,
                target.weight if len(rule.route) > 1 else 1,
                _operations(target.headers, "request"),
                _operations(target.headers, "response"),
            )
        )
    return config.RouteAction(
        clusters=tuple(clusters),
        timeout=float(rule.timeout or 0.0),
        retries=translate_retries(rule.retries) if rule.retries is not None else view.settings.default_retries,
        rewrite=_rewrite(rule.rewrite) if rule.rewrite is not None else None,
    )


def translate_match(match: HttpMatchRequest) -> config.RouteMatch:
    """The conditions that need a request."""
    path = _string(match.uri, ignore_case=match.ignore_uri_case) if match.uri is not None else None
    return config.RouteMatch(
        path=None if path is not None and path.kind == "present" else path,
        method=_string(match.method) if match.method is not None else None,
        scheme=_string(match.scheme) if match.scheme is not None else None,
        authority=_string(match.authority) if match.authority is not None else None,
        headers=_strings(match.headers),
        without_headers=_strings(match.without_headers),
        query=tuple((name, _string(value)) for name, value in match.query_params.items()),
    )


def _strings(values: dict[str, StringMatch]) -> tuple[tuple[str, config.StringMatch], ...]:
    return tuple((name.lower(), _string(value)) for name, value in values.items() if name not in _NOT_HEADERS)


def _string(value: StringMatch, *, ignore_case: bool = False) -> config.StringMatch:
    if value.exact is not None:
        return config.StringMatch("exact", value.exact, ignore_case)
    if value.prefix is not None:
        return config.StringMatch("prefix", value.prefix, ignore_case)
    if value.regex is not None and value.regex != "*":
        return config.StringMatch("regex", value.regex)
    return config.StringMatch("present")


def _operations(headers: Headers | None, direction: Literal["request", "response"]) -> config.HeaderOps | None:
    operations: HeaderOperations | None = getattr(headers, direction) if headers is not None else None
    if operations is None:
        return None
    return config.HeaderOps(
        remove=operations.remove,
        set=tuple(sorted(operations.set.items())),
        add=tuple(sorted(operations.add.items())),
    )


def translate_redirect(redirect: HttpRedirect, listener_port: int) -> config.Redirect:
    """A redirect; 301 unless it says otherwise.

    A port taken from the request is the listener's, which is known here; where it is the scheme's own there is
    nothing to write and the request's Host stays as it is, as in Istio.
    """
    port = redirect.port or 0
    if redirect.derive_port == "FROM_REQUEST_PORT":
        own = 443 if redirect.scheme == "https" else 80
        port = 0 if listener_port == own else listener_port
    return config.Redirect(
        status=redirect.redirect_code or 301,
        scheme=redirect.scheme,
        authority=redirect.authority,
        port=port,
        port_from="protocol" if redirect.derive_port == "FROM_PROTOCOL_DEFAULT" else "",
        path=redirect.uri or None,
        prefix=redirect.prefix_rewrite or None,
    )


def _rewrite(rewrite: HttpRewrite) -> config.Rewrite:
    regex = rewrite.uri_regex_rewrite
    return config.Rewrite(
        prefix=rewrite.uri or None,
        regex=regex.match if regex is not None else "",
        substitution=regex.rewrite if regex is not None else "",
        authority=rewrite.authority,
    )


def translate_retries(retry: HttpRetry) -> config.RetryPolicy | None:
    """A route's own retries; the user's conditions replace the default ones. None: no retries."""
    if retry.attempts <= 0:
        return None
    words, codes = split_conditions(retry.retry_on)
    default = config.RetryPolicy()
    base = float(retry.backoff or default.backoff_base)
    return config.RetryPolicy(
        attempts=retry.attempts,
        retry_on=words or default.retry_on,
        status_codes=codes,
        per_try_timeout=float(retry.per_try_timeout or 0.0),
        backoff_base=base,
        backoff_max=base * 10,  # Envoy's default maximum
        ignore_previous_hosts=retry.retry_ignore_previous_hosts is not False,
    )


def translate_fault(fault: HttpFaultInjection) -> config.Fault:
    """Delay and abort; a missing percentage is 0."""
    delay = abort = None
    if fault.delay is not None and fault.delay.fixed_delay is not None:
        percent = fault.delay.percentage.value if fault.delay.percentage is not None else float(fault.delay.percent)
        delay = config.FaultDelay(float(fault.delay.fixed_delay), percent)
    if fault.abort is not None:
        percent = fault.abort.percentage.value if fault.abort.percentage is not None else 0.0
        grpc = GRPC_STATUS.get(fault.abort.grpc_status.upper()) if fault.abort.grpc_status else None
        abort = config.FaultAbort(fault.abort.http_status or 0, grpc, percent)
    return config.Fault(delay, abort)
