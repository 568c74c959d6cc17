"""tls and tcp rules of a gateway's VirtualServices."""

from __future__ import annotations

from pilot.translate.gateway_hosts import BoundServer
from pilot.translate.opaque_routes import sni_routes, tcp_route
from pilot.translate.visibility import View
from tests.pilot.worlds import gateway, istio, objects, service, world

GATEWAY = istio(
    "Gateway",
    "gw",
    "  servers: [{port: {number: 443, name: a, protocol: TLS}, hosts: ['*.test'], tls: {mode: PASSTHROUGH}}]",
)
DB = "outbound|5432||db.default.svc.cluster.local"


def bound() -> BoundServer:
    [obj] = objects(GATEWAY)
    return BoundServer(obj, 0, obj.spec.servers[0])


def to(host: str, weight: int | None = None) -> str:
    return f"{{destination: {{host: {host}}}{'' if weight is None else f', weight: {weight}'}}}"


def tls(name: str, *rules: str, hosts: str = "'*.test'", created: str = "") -> str:
    spec = f"  hosts: [{hosts}]\n  gateways: [default/gw]\n  tls: [{', '.join(rules)}]"
    return istio("VirtualService", name, spec, created=created)


def rule(match: str, *routes: str) -> str:
    return f"{{match: [{match}], route: [{', '.join(routes)}]}}"


def sni(text: str) -> list[tuple[tuple[str, ...], tuple[tuple[str, int], ...]]]:
    view = View(world(GATEWAY + service("db", 5432, port_name="tls") + text), gateway(app="in"))
    return [(names, chain.clusters) for names, chain in sni_routes(view, bound(), 443)]


def tcp(rules: str, hosts: str = "a.test") -> tuple[tuple[str, int], ...] | None:
    spec = f"  hosts: [{hosts}]\n  gateways: [default/gw]\n  tcp: [{rules}]"
    text = GATEWAY + service("db", 5432, port_name="tcp") + istio("VirtualService", "v", spec)
    found = tcp_route(View(world(text), gateway(app="in")), bound(), 443)
    return None if found is None else found.clusters


def test_names_lead_to_destinations() -> None:
    text = tls("v", rule("{sniHosts: [A.test, b.test]}", to("db", 75), to("other.com", 25)))
    assert sni(text) == [(("a.test", "b.test"), ((DB, 75), ("outbound|443||other.com", 25)))]


def test_a_destination_without_weight_among_others_gets_nothing() -> None:
    assert sni(tls("v", rule("{sniHosts: [a.test]}", to("db"), to("other.com", 100)))) == [
        (("a.test",), (("outbound|443||other.com", 100),))
    ]


def test_the_first_to_name_a_host_has_it() -> None:
    text = tls("new", rule("{sniHosts: [a.test, b.test]}", to("new.com")), created="2021-01-01T00:00:00Z") + tls(
        "old", rule("{sniHosts: [a.test]}", to("old.com")), created="2020-01-01T00:00:00Z"
    )
    assert sni(text) == [
        (("a.test",), (("outbound|443||old.com", 1),)),
        (("b.test",), (("outbound|443||new.com", 1),)),
    ]


def test_what_a_match_says_besides_names() -> None:
    for match in (
        "port: 444",
        "gateways: [default/other]",
        "sourceNamespace: elsewhere",
        "sourceLabels: {app: out}",
        "destinationSubnets: [10.0.0.0/8]",
    ):
        assert sni(tls("v", rule(f"{{sniHosts: [a.test], {match}}}", to("db")))) == [], match
    for match in ("port: 443", "gateways: [gw]", "sourceNamespace: istio-system", "sourceLabels: {app: in}"):
        assert len(sni(tls("v", rule(f"{{sniHosts: [a.test], {match}}}", to("db"))))) == 1, match


def test_names_outside_of_the_servers_hosts_have_no_route() -> None:
    assert sni(tls("v", rule("{sniHosts: [a.elsewhere]}", to("db")), hosts="'*.elsewhere'")) == []
    assert [names for names, _ in sni(tls("v", rule("{sniHosts: ['*.a.test']}", to("db"))))] == [("*.a.test",)]


def test_the_first_tcp_rule_that_applies() -> None:
    rules = f"{{match: [{{port: 444}}], route: [{to('a.com')}]}}, {{route: [{to('db')}]}}, {{route: [{to('b.com')}]}}"
    assert tcp(rules) == ((DB, 1),)
    assert tcp(f"{{match: [{{port: 444}}], route: [{to('a.com')}]}}") is None
    assert tcp(f"{{route: [{to('a.com')}]}}", hosts="a.elsewhere") is None


def test_the_idle_timeout_is_the_first_destinations() -> None:
    policy = "  host: db\n  trafficPolicy: {connectionPool: {tcp: {idleTimeout: 7s}}}"
    text = GATEWAY + service("db", 5432, port_name="tls") + istio("DestinationRule", "d", policy)
    text += tls("v", rule("{sniHosts: [a.test]}", to("db")), rule("{sniHosts: [b.test]}", to("gone.com")))
    view = View(world(text), gateway(app="in"))
    assert [chain.idle_timeout for _, chain in sni_routes(view, bound(), 443)] == [7.0, 3600.0]
