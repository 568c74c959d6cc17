"""Rules of one HTTP rule of a VirtualService: its match, its action, and what may stand together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pilot.resources.names import domain_fault, header_fault, header_value_fault, label_fault, port_fault
from pilot.resources.report import Report
from pilot.resources.rules import (
    check_duration,
    check_gateway_names,
    check_labels,
    check_percent,
    check_port,
    check_regex,
    tell,
)
from pilot.resources.validate_http_action import (
    check_cors,
    check_direct_response,
    check_fault,
    check_redirect,
    check_retries,
    check_rewrite,
)
from pilot.resources.virtual_service import (
    Destination,
    HeaderOperations,
    Headers,
    HttpMatchRequest,
    HttpRoute,
    StringMatch,
)
from pilot.resources.yaml import Path

_CLAIM: Final = re.compile(r"@request\.auth\.claims(?:\..+|\[.+\])\Z", re.IGNORECASE)
_PSEUDO: Final = (":method", ":scheme", ":authority", ":path", ":status")


def check_http_route(route: HttpRoute, path: Path, report: Report, *, delegated: bool) -> None:
    """Report every broken rule; `delegated`: the rule stands in a VirtualService without hosts."""
    _check_action(route, path, report, delegated)
    for index, match in enumerate(route.match):
        _check_match(match, (*path, "match", index), report)
    check_redirect(route, path, report)
    check_direct_response(route.direct_response, (*path, "directResponse"), report)
    check_rewrite(route.rewrite, (*path, "rewrite"), report)
    check_duration(route.timeout, (*path, "timeout"), report)
    check_retries(route.retries, (*path, "retries"), report)
    check_fault(route.fault, (*path, "fault"), report)
    check_cors(route.cors_policy, (*path, "corsPolicy"), report)
    check_headers(route.headers, (*path, "headers"), report)
    _check_authority(route, path, report)
    _check_mirrors(route, path, report)
    check_weights([item.weight for item in route.route], (*path, "route"), report)
    for index, item in enumerate(route.route):
        check_destination(item.destination, (*path, "route", index, "destination"), report)
        check_headers(item.headers, (*path, "route", index, "headers"), report)


def _check_action(route: HttpRoute, path: Path, report: Report, delegated: bool) -> None:
    given = {
        "route": bool(route.route),
        "redirect": route.redirect is not None,
        "directResponse": route.direct_response is not None,
    }
    present = [name for name, there in given.items() if there]
    if route.delegate is not None:
        if delegated:
            report((*path, "delegate"), "a delegate cannot delegate again", "write the routes here")
        for name in present:
            tell_it = report.warn if name == "directResponse" else report
            tell_it((*path, name), f"a rule with a delegate has no {name}", "write it in the delegate")
        return
    if not present:
        report(path, "no action: none of route, redirect and directResponse is given", "write one of them")
    for name in present[1:]:
        report((*path, name), f"a rule cannot have both {present[0]} and {name}", "split the rule")
    local = next((name for name in present if name != "route"), "")
    for name, value in (("fault", route.fault), ("rewrite", route.rewrite)):
        if local and value is not None:
            report((*path, name), f"a rule with {local} has no {name}", "remove it")


def _check_match(match: HttpMatchRequest, path: Path, report: Report) -> None:
    check_string_match(match.uri, (*path, "uri"), report, empty_prefix=True)
    for name, value in (("scheme", match.scheme), ("method", match.method), ("authority", match.authority)):
        check_string_match(value, (*path, name), report)
    for name, table in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
        _check_match_map(table, (*path, name), report, header=True)
    _check_match_map(match.query_params, (*path, "queryParams"), report, header=False)
    if match.port:
        tell(report, (*path, "port"), port_fault(match.port))
    check_labels(match.source_labels, (*path, "sourceLabels"), report)
    check_gateway_names(match.gateways, (*path, "gateways"), report)
    if match.source_namespace:
        tell(report, (*path, "sourceNamespace"), label_fault(match.source_namespace))


def _check_match_map(table: Mapping[str, StringMatch], path: Path, report: Report, *, header: bool) -> None:
    for name, value in table.items():
        if header and not is_claim(name) and name not in _PSEUDO:
            tell(report, (*path, name), header_fault(name))
        # Istio reads the regex * as "present" in these maps, though it is not a regex.
        if value.regex != "*":
            check_string_match(value, (*path, name), report)


def is_claim(name: str) -> bool:
    """Whether a header name of a match stands for a claim of a validated token: `….claims.a.b` or `….claims[a][b]`."""
    return _CLAIM.match(name) is not None


def check_string_match(match: StringMatch | None, path: Path, report: Report, *, empty_prefix: bool = False) -> None:
    """At most one of exact, prefix and regex; a prefix that is not empty; a regex that compiles."""
    if match is None:
        return
    given = [name for name in ("exact", "prefix", "regex") if getattr(match, name) is not None]
    for name in given[1:]:
        report((*path, name), f"cannot stand beside {given[0]}", "keep one of them")
    if match.prefix == "" and not empty_prefix:
        report((*path, "prefix"), "an empty prefix", "write a prefix, or {} for any value")
    if match.regex is not None:
        check_regex(match.regex, (*path, "regex"), report)


def check_headers(headers: Headers | None, path: Path, report: Report) -> None:
    """Names and values of header operations."""
    if headers is None:
        return
    for name, operations in (("request", headers.request), ("response", headers.response)):
        if operations is not None:
            _check_operations(operations, (*path, name), report, authority=name == "request")


def _check_operations(operations: HeaderOperations, path: Path, report: Report, *, authority: bool) -> None:
    for name, table in (("set", operations.set), ("add", operations.add)):
        for header, value in table.items():
            here = (*path, name, header)
            if not _check_operation_name(header, here, report, authority=authority):
                tell(report, here, header_value_fault(value))
    for index, header in enumerate(operations.remove):
        _check_operation_name(header, (*path, "remove", index), report, authority=False)


def _check_operation_name(name: str, path: Path, report: Report, *, authority: bool) -> bool:
    if authority and is_authority(name):
        return False
    if name.startswith(":") or name.lower() == "host":
        report(path, f"{name} cannot be changed", "use rewrite to change host or path")
        return True
    return tell(report, path, header_fault(name))


def is_authority(name: str) -> bool:
    """Whether a header name stands for the request's host."""
    return name.lower() in (":authority", "host")


def _check_authority(route: HttpRoute, path: Path, report: Report) -> None:
    request = route.headers.request if route.headers else None
    places: list[Path] = []
    if route.rewrite and route.rewrite.authority:
        places.append((*path, "rewrite", "authority"))
    for name, table in (("set", request.set), ("add", request.add)) if request else ():
        places.extend((*path, "headers", "request", name, header) for header in filter(is_authority, table))
    for place in places[1:]:
        report(place, "the authority is rewritten twice", "keep one of the places")


def _check_mirrors(route: HttpRoute, path: Path, report: Report) -> None:
    if route.mirror is not None:
        check_destination(route.mirror, (*path, "mirror"), report)
        if route.mirrors:
            report((*path, "mirrors"), "a rule cannot have both mirror and mirrors", "move mirror into mirrors")
    if route.mirror_percent is not None:
        check_percent(route.mirror_percent, (*path, "mirrorPercent"), report)
        report.warn((*path, "mirrorPercent"), "is deprecated", "write mirrorPercentage: {value: …}")
    if route.mirror_percentage is not None:
        check_percent(route.mirror_percentage.value, (*path, "mirrorPercentage", "value"), report)
    for index, mirror in enumerate(route.mirrors):
        here = (*path, "mirrors", index)
        check_destination(mirror.destination, (*here, "destination"), report)
        if mirror.percentage is not None:
            check_percent(mirror.percentage.value, (*here, "percentage", "value"), report)


def check_destination(destination: Destination, path: Path, report: Report) -> None:
    """A host that is one host, a subset's name, a port."""
    if destination.host == "*":
        report((*path, "host"), "* is not a destination", "name one host")
    else:
        tell(report, (*path, "host"), domain_fault(destination.host, wildcard=True))
    if destination.subset:
        tell(report, (*path, "subset"), label_fault(destination.subset))
    check_port(destination.port, (*path, "port"), report)


def check_weights(weights: list[int], path: Path, report: Report) -> None:
    """No negative weight, and among several destinations some weight."""
    for index, weight in enumerate(weights):
        if weight < 0:
            report((*path, index, "weight"), f"the weight {weight} is negative", "write 0 or more")
    if len(weights) > 1 and not any(weights):
        report(path, "the weights of all destinations are 0", "give at least one a weight")
