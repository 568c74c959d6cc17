"""Rules of a VirtualService beyond its schema: hosts, gateways, and which parts go together.

The HTTP rules' own parts stand in validate_http_route.py. Source: Istio's validating webhook.
"""

from __future__ import annotations

from pilot.resources.meta import ObjectMeta, covers, overlaps
from pilot.resources.names import domain_fault, is_ip, label_fault, port_fault
from pilot.resources.report import Report
from pilot.resources.rules import (
    check_export_to,
    check_gateway_names,
    check_labels,
    check_subnets,
    tell,
)
from pilot.resources.validate_http_route import check_destination, check_http_route, check_weights, is_claim
from pilot.resources.virtual_service import (
    L4MatchAttributes,
    RouteDestination,
    TcpRoute,
    TlsMatchAttributes,
    TlsRoute,
    VirtualService,
)
from pilot.resources.yaml import Path


def validate(spec: VirtualService, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    root: Path = ("spec",)
    check_export_to(spec.export_to, meta, (*root, "exportTo"), report)
    check_gateway_names(spec.gateways, (*root, "gateways"), report)
    if not (spec.http or spec.tls or spec.tcp):
        report(root, "no rules: none of http, tls and tcp is given", "write at least one rule")
    if spec.hosts:
        _check_hosts(spec, root, report)
    else:
        _check_delegate(spec, root, report)
    for index, http in enumerate(spec.http):
        check_http_route(http, (*root, "http", index), report, delegated=not spec.hosts)
    for index, tls in enumerate(spec.tls):
        _check_tls_route(tls, spec, (*root, "tls", index), report)
    for index, tcp in enumerate(spec.tcp):
        _check_tcp_route(tcp, (*root, "tcp", index), report)
    _check_claims(spec, root, report)


def _check_hosts(spec: VirtualService, root: Path, report: Report) -> None:
    in_mesh = not spec.gateways or "mesh" in spec.gateways
    sni = not in_mesh and bool(spec.tls)
    sound = True
    for index, host in enumerate(spec.hosts):
        path = (*root, "hosts", index)
        if not is_ip(host) and tell(report, path, domain_fault(host, wildcard=True, sni=sni)):
            sound = False
        elif host == "*" and in_mesh:
            report(path, "* is not allowed on the gateway mesh", "name the hosts, or bind the rules to a gateway")
            sound = False
    if not sound:
        return
    for index, host in enumerate(spec.hosts):
        if other := next((h for h in spec.hosts[:index] if overlaps(h, host)), None):
            report((*root, "hosts", index), f"{host} overlaps {other}", "keep one of the two")


def _check_delegate(spec: VirtualService, root: Path, report: Report) -> None:
    for name, value in (("gateways", spec.gateways), ("tls", spec.tls), ("tcp", spec.tcp)):
        if value:
            report((*root, name), "a VirtualService without hosts is a delegate and has http rules only", "add hosts")


def _check_claims(spec: VirtualService, root: Path, report: Report) -> None:
    """The webhook looks at the VirtualService's own gateways only, not at those of the match."""
    if spec.gateways and "mesh" not in spec.gateways:
        return
    for index, http in enumerate(spec.http):
        for number, match in enumerate(http.match):
            for field, names in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
                for name in filter(is_claim, names):
                    path = (*root, "http", index, "match", number, field, name)
                    report(path, "claims of a token can be matched at gateways only", "bind the rules to a gateway")


def _check_tls_route(route: TlsRoute, spec: VirtualService, path: Path, report: Report) -> None:
    if not route.match:
        report((*path, "match"), "a TLS rule needs a match", "give sniHosts")
    for index, match in enumerate(route.match):
        here = (*path, "match", index)
        if not match.sni_hosts:
            report((*here, "sniHosts"), "no SNI host", "name at least one")
        for number, sni in enumerate(match.sni_hosts):
            _check_sni(sni, spec, (*here, "sniHosts", number), report)
        _check_l4_match(match, here, report)
    _check_route(route.route, "TLS", path, report)


def _check_sni(sni: str, spec: VirtualService, path: Path, report: Report) -> None:
    if is_ip(sni):
        report.warn(path, f"{sni} is an address; clients send no SNI for those", "name a host")
    elif tell(report, path, domain_fault(sni, wildcard=True, sni="mesh" not in spec.gateways)):
        return
    elif not any(covers(host, sni) for host in spec.hosts):
        report(path, f"{sni} is not covered by the VirtualService's hosts", "add it to hosts")


def _check_tcp_route(route: TcpRoute, path: Path, report: Report) -> None:
    for index, match in enumerate(route.match):
        _check_l4_match(match, (*path, "match", index), report)
    _check_route(route.route, "TCP", path, report)


def _check_l4_match(match: L4MatchAttributes | TlsMatchAttributes, path: Path, report: Report) -> None:
    check_subnets(match.destination_subnets, (*path, "destinationSubnets"), report)
    if match.port:
        tell(report, (*path, "port"), port_fault(match.port))
    check_labels(match.source_labels, (*path, "sourceLabels"), report)
    check_gateway_names(match.gateways, (*path, "gateways"), report)
    if match.source_namespace:
        tell(report, (*path, "sourceNamespace"), label_fault(match.source_namespace))


def _check_route(route: tuple[RouteDestination, ...], name: str, path: Path, report: Report) -> None:
    if not route:
        report((*path, "route"), f"a {name} rule needs a route", "name its destinations")
    check_weights([item.weight for item in route], (*path, "route"), report)
    for index, item in enumerate(route):
        check_destination(item.destination, (*path, "route", index, "destination"), report)
