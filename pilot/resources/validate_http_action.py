"""Rules of what an HTTP rule does: redirect, direct response, rewrite, retries, faults, CORS."""

from __future__ import annotations

from http import HTTPStatus

from pilot.resources.decode import nearest
from pilot.resources.names import header_fault, port_fault
from pilot.resources.report import Report
from pilot.resources.rules import check_duration, check_one_of, check_regex, tell
from pilot.resources.virtual_service import (
    CorsPolicy,
    FaultAbort,
    FaultDelay,
    HttpDirectResponse,
    HttpFaultInjection,
    HttpRetry,
    HttpRewrite,
    HttpRoute,
    Percent,
)
from pilot.resources.yaml import Path

RETRY_ON = frozenset(
    {
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    }
)
GRPC_STATUS = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
"""By number: the index is the code (google.rpc.Code)."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"})
MAX_BODY = 1024 * 1024
LARGE_BODY = 100 * 1024


def check_redirect(route: HttpRoute, path: Path, report: Report) -> None:
    """Something to change, a code of 3xx, and a prefix to replace when prefixRewrite is used."""
    redirect, path = route.redirect, (*path, "redirect")
    if redirect is None:
        return
    given = (redirect.uri, redirect.prefix_rewrite, redirect.authority, redirect.scheme, redirect.derive_port)
    if not any(given) and redirect.port is None:
        report(path, "changes nothing", "give uri, prefixRewrite, authority, port or scheme")
    if redirect.uri and redirect.prefix_rewrite:
        report((*path, "prefixRewrite"), "cannot stand beside uri", "keep one of them")
    if redirect.prefix_rewrite and any(m.uri is not None and m.uri.prefix is None for m in route.match):
        report((*path, "prefixRewrite"), "needs a prefix match in every match of a uri", "match by prefix")
    if redirect.scheme and redirect.scheme not in ("http", "https"):
        report((*path, "scheme"), f"{redirect.scheme} is not a scheme of the web", "write http or https")
    if redirect.port is not None:
        if redirect.derive_port is not None:
            report((*path, "derivePort"), "cannot stand beside port", "keep one of them")
        if redirect.port:
            tell(report, (*path, "port"), port_fault(redirect.port))
    if redirect.redirect_code and not 300 <= redirect.redirect_code <= 399:
        report(
            (*path, "redirectCode"), f"{redirect.redirect_code} is not a redirect", "write 301, 302, 303, 307 or 308"
        )


def check_direct_response(response: HttpDirectResponse | None, path: Path, report: Report) -> None:
    """A status of an answer, one body, not too large."""
    if response is None:
        return
    _check_status(response.status, (*path, "status"), report)
    if response.body is None:
        return
    here = (*path, "body")
    if response.body.string is not None and response.body.bytes is not None:
        report((*here, "bytes"), "cannot stand beside string", "keep one of them")
    size = len((response.body.string or "").encode()) + len(response.body.bytes or "") * 3 // 4
    if size > MAX_BODY:
        report(here, f"the body has {size} bytes, over the limit of {MAX_BODY}", "serve it from a service")
    elif size > LARGE_BODY:
        report.warn(here, f"the body has {size} bytes, and every proxy holds it", "serve it from a service")


def _check_status(status: int, path: Path, report: Report) -> None:
    if not 200 <= status <= 600:
        report(path, f"{status} is not a status of an answer", "write 200 to 599")


def check_rewrite(rewrite: HttpRewrite | None, path: Path, report: Report) -> None:
    """Something to change; uri or uriRegexRewrite; both halves of the latter."""
    if rewrite is None:
        return
    if not rewrite.uri and not rewrite.authority and rewrite.uri_regex_rewrite is None:
        report(path, "changes nothing", "give uri, uriRegexRewrite or authority")
    if rewrite.uri_regex_rewrite is None:
        return
    here = (*path, "uriRegexRewrite")
    if rewrite.uri:
        report(here, "cannot stand beside uri", "keep one of them")
    if not rewrite.uri_regex_rewrite.match or not rewrite.uri_regex_rewrite.rewrite:
        report(here, "needs both match and rewrite", "write both")
    else:
        check_regex(rewrite.uri_regex_rewrite.match, (*here, "match"), report)


def check_retries(retries: HttpRetry | None, path: Path, report: Report) -> None:
    """Attempts, and conditions that a proxy knows."""
    if retries is None:
        return
    if retries.attempts < 0:
        report((*path, "attempts"), f"{retries.attempts} attempts", "write 0 or more")
    set_anyway = retries.per_try_timeout is not None or retries.retry_on or retries.retry_remote_localities is not None
    if retries.attempts == 0 and set_anyway:
        report(path, "retries are configured and switched off (attempts is 0)", "give attempts, or nothing else")
    check_duration(retries.per_try_timeout, (*path, "perTryTimeout"), report)
    check_duration(retries.backoff, (*path, "backoff"), report)
    for word in retries.retry_on.split(",") if retries.retry_on else ():
        condition = word.strip()
        if condition not in RETRY_ON and not _is_known_status(condition):
            report((*path, "retryOn"), f'"{condition}" is not a retry condition', nearest(condition, RETRY_ON))


def _is_known_status(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) == 3 and int(text) in {status.value for status in HTTPStatus}


def check_fault(fault: HttpFaultInjection | None, path: Path, report: Report) -> None:
    """A delay or an abort, and their parts."""
    if fault is None:
        return
    if fault.delay is None and fault.abort is None:
        report(path, "injects nothing", "give delay or abort")
    if fault.delay is not None:
        _check_delay(fault.delay, (*path, "delay"), report)
    if fault.abort is not None:
        _check_abort(fault.abort, (*path, "abort"), report)


def _check_delay(delay: FaultDelay, path: Path, report: Report) -> None:
    check_duration(delay.fixed_delay, (*path, "fixedDelay"), report)
    if delay.exponential_delay is not None:
        report((*path, "exponentialDelay"), "is not supported", "write fixedDelay")
    if not 0 <= delay.percent <= 100:
        report.warn((*path, "percent"), f"{delay.percent} is not a percentage", "write percentage: {value: 0..100}")
    _check_share(delay.percentage, path, report)
    if delay.percentage is None and not delay.percent:
        report.warn(path, "no percentage means 0 %: nobody is delayed", "write percentage: {value: 100}")


def _check_abort(abort: FaultAbort, path: Path, report: Report) -> None:
    if abort.http_status is not None:
        _check_status(abort.http_status, (*path, "httpStatus"), report)
    if abort.grpc_status is not None:
        if abort.grpc_status not in GRPC_STATUS:
            remedy = nearest(abort.grpc_status, GRPC_STATUS)
            report((*path, "grpcStatus"), f'"{abort.grpc_status}" is not the name of a gRPC status', remedy)
        if abort.http_status is not None:
            report((*path, "grpcStatus"), "cannot stand beside httpStatus", "keep one of them")
    if abort.http2_error is not None:
        report((*path, "http2Error"), "is not supported", "write httpStatus or grpcStatus")
    _check_share(abort.percentage, path, report)
    if abort.percentage is None:
        report.warn(path, "no percentage means 0 %: nothing is aborted", "write percentage: {value: 100}")


def _check_share(percentage: Percent | None, path: Path, report: Report) -> None:
    value = percentage.value if percentage else 0.0
    if value != 0 and not 0.0001 <= value <= 100:
        report((*path, "percentage", "value"), f"{value:g} is not a share", "write 0, or 0.0001 to 100")


def check_cors(cors: CorsPolicy | None, path: Path, report: Report) -> None:
    """Origins, methods, headers, and an age in whole seconds."""
    if cors is None:
        return
    for index, origin in enumerate(cors.allow_origins):
        here = (*path, "allowOrigins", index)
        check_one_of(origin, ("exact", "prefix", "regex"), here, report)
        if not (origin.exact or origin.prefix or origin.regex):
            report(here, "an origin needs exact, prefix or regex", 'write for example {exact: "https://example.com"}')
        elif origin.regex is not None:
            check_regex(origin.regex, (*here, "regex"), report)
    for index, method in enumerate(cors.allow_methods):
        if method not in METHODS:
            report((*path, "allowMethods", index), f'"{method}" is not an HTTP method', nearest(method, METHODS))
    for name, headers in (("allowHeaders", cors.allow_headers), ("exposeHeaders", cors.expose_headers)):
        for index, header in enumerate(headers):
            tell(report, (*path, name, index), header_fault(header))
    if cors.max_age is not None:
        check_duration(cors.max_age, (*path, "maxAge"), report)
        if cors.max_age >= 0.001 and not cors.max_age.is_integer():
            report((*path, "maxAge"), "is not a whole number of seconds", "round it to seconds")
