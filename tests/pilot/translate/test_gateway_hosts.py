import pytest

from pilot.resources.istio_gateway import Server
from pilot.translate.gateway_hosts import BoundServer, gateway_virtual_hosts, intersect, server_hosts
from pilot.translate.visibility import View
from tests.pilot.worlds import gateway, istio, objects, world


def bound(*hosts, extra=""):
    listed = ", ".join(f"'{host}'" for host in hosts)
    (obj,) = objects(
        istio(
            "Gateway",
            "gw",
            f"  selector: {{app: in}}\n  servers:\n"
            f"  - {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [{listed}]{extra}}}",
        )
    )
    server = obj.spec.servers[0]
    assert isinstance(server, Server)
    return BoundServer(obj, 0, server)


def rules(name, host, http, created="", namespace="default"):
    spec = f"  hosts: ['{host}']\n  gateways: [default/gw]\n  http: [{http}]"
    return istio("VirtualService", name, spec, created=created, namespace=namespace)


def to(name, match=""):
    return f"{{{match}route: [{{destination: {{host: {name}.com}}}}]}}"


def hosts(text, *servers):
    found = gateway_virtual_hosts(View(world(text), gateway()), list(servers), 80)
    return {
        host.domains[0]: [
            route.action.clusters[0].cluster.split("|")[3] if hasattr(route.action, "clusters") else route.action
            for route in host.routes
        ]
        for host in found
    }


@pytest.mark.parametrize(
    ("offered", "wanted", "expected"),
    [
        (["*"], ["a.com"], ["a.com"]),
        (["a.com"], ["*"], ["a.com"]),
        (["*.com"], ["*.a.com"], ["*.a.com"]),
        (["a.com"], ["b.com"], []),
        (["a.com", "*.com"], ["a.com"], ["a.com"]),
    ],
)
def test_the_more_specific_of_two_patterns_is_served(offered, wanted, expected):
    assert intersect(offered, wanted) == expected


def test_hosts_of_a_server_may_be_for_one_namespace_only():
    server = bound("a/x.com", "./y.com", "*/z.com", "w.com")
    assert server_hosts(server, "a") == ["x.com", "z.com", "w.com"]
    assert server_hosts(server, "default") == ["y.com", "z.com", "w.com"]


def test_virtual_services_of_a_host_merge_and_catch_alls_go_last():
    text = rules("old", "a.com", to("all"), "2020-01-01T00:00:00Z") + rules(
        "new", "a.com", to("path", "match: [{uri: {prefix: /p}}], "), "2021-01-01T00:00:00Z"
    )
    assert hosts(text, bound("*")) == {"a.com": ["path.com", "all.com"]}


def test_a_virtual_service_for_all_hosts_serves_the_servers_host():
    assert hosts(rules("v", "*", to("x")), bound("a.com", "b.com")) == {"a.com": ["x.com"], "b.com": ["x.com"]}


def test_two_servers_with_a_host_of_one_gateway_do_not_double_its_routes():
    assert hosts(rules("v", "a.com", to("x")), bound("*"), bound("a.com")) == {"a.com": ["x.com"]}


def test_a_redirect_to_https_takes_all_hosts_with_or_without_rules():
    server = bound("a.com", "b.com", extra=", tls: {httpsRedirect: true}")
    found = hosts(rules("v", "a.com", to("x")), server)
    assert set(found) == {"a.com", "b.com"}
    for actions in found.values():
        (redirect,) = actions
        assert (redirect.status, redirect.scheme) == (301, "https")


def test_a_virtual_service_whose_rules_are_for_another_port_gives_no_host():
    assert hosts(rules("v", "a.com", to("x", "match: [{port: 1}], ")), bound("*")) == {}
