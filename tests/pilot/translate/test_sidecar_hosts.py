from pilot.translate import translate
from tests.pilot.worlds import istio, service, sidecar, world


def tables(text, client=None):
    translation = translate(world(text), client or sidecar())
    hosts = {
        name: {host.name: host for host in table.virtual_hosts} for name, table in translation.snapshot.routes.items()
    }
    return hosts, translation.reports


def virtual_service(name, host, to, created="", **extra):
    more = "".join(f"  {key}: {value}\n" for key, value in extra.items())
    rule = f"  hosts: [{host}]\n{more}  http: [{{route: [{{destination: {{host: {to}}}}}]}}]"
    return istio("VirtualService", name, rule, created=created)


def target(host):
    return host.routes[0].action.clusters[0].cluster


def test_a_service_without_virtual_service_has_a_default_route():
    hosts, _ = tables(service("reviews"))
    assert set(hosts) == {"9080"}
    host = hosts["9080"]["reviews.default.svc.cluster.local:9080"]
    assert host.domains == (
        "reviews.default.svc.cluster.local",
        "reviews.default.svc.cluster.local.",
        "10.0.0.7",
        "reviews",
        "reviews.default",
        "reviews.default.svc",
    )
    assert host.routes[0].name == "default"
    assert host.routes[0].origin.kind == "Service"
    assert target(host) == "outbound|9080||reviews.default.svc.cluster.local"


def test_a_virtual_service_takes_the_services_host():
    hosts, _ = tables(service("reviews") + service("ratings") + virtual_service("v", "reviews", "ratings"))
    assert target(hosts["9080"]["reviews.default.svc.cluster.local:9080"]).endswith("ratings.default.svc.cluster.local")


def test_hosts_that_are_no_service_act_on_port_80_only():
    hosts, _ = tables(service("reviews") + virtual_service("v", "example.com", "reviews"))
    assert set(hosts["80"]) == {"example.com:80"}
    assert set(hosts["9080"]) == {"reviews.default.svc.cluster.local:9080"}


def test_other_hosts_follow_a_service_to_its_port():
    hosts, _ = tables(service("reviews") + virtual_service("v", "reviews, example.com", "reviews"))
    assert "example.com:9080" in hosts["9080"]


def test_the_first_virtual_service_keeps_a_host_and_the_second_is_told():
    text = (
        service("reviews")
        + virtual_service("old", "reviews", "old.com", created="2020-01-01T00:00:00Z")
        + virtual_service("new", "reviews", "new.com", created="2021-01-01T00:00:00Z")
    )
    hosts, reports = tables(text)
    assert target(hosts["9080"]["reviews.default.svc.cluster.local:9080"]).endswith("|old.com")
    (lost,) = [report for report in reports if report.name == "new" and report.field == "spec.hosts"]
    assert "is routed by VirtualService default/old" in lost.message


def test_the_most_specific_wildcard_takes_a_service_that_none_names():
    text = (
        service("reviews")
        + service("ratings")
        + virtual_service("wide", "'*.cluster.local'", "wide.com")
        + virtual_service("narrow", "'*.default.svc.cluster.local'", "narrow.com")
        + virtual_service("exact", "ratings", "exact.com")
    )
    hosts = tables(text)[0]["9080"]
    assert target(hosts["reviews.default.svc.cluster.local:9080"]).endswith("|narrow.com")
    assert target(hosts["ratings.default.svc.cluster.local:9080"]).endswith("|exact.com")


def test_a_wildcard_that_covers_no_service_is_a_host_of_its_own():
    hosts, _ = tables(service("reviews") + virtual_service("v", "'*.example.com'", "reviews"))
    assert hosts["80"]["*.example.com:80"].domains == ("*.example.com",)


def test_virtual_services_of_gateways_do_not_act_on_sidecars():
    hosts, _ = tables(service("reviews") + virtual_service("v", "reviews", "x.com", gateways="[gw]"))
    assert hosts["9080"]["reviews.default.svc.cluster.local:9080"].routes[0].name == "default"


def test_a_virtual_service_whose_rules_do_not_apply_leaves_the_default_route():
    text = istio(
        "VirtualService",
        "v",
        "  hosts: [reviews]\n  http: [{match: [{port: 1}], route: [{destination: {host: reviews}}]}]",
    )
    hosts, _ = tables(service("reviews") + text)
    assert hosts["9080"]["reviews.default.svc.cluster.local:9080"].routes[0].name == "default"


def test_a_short_name_never_hides_a_service_that_is_called_so():
    entry = "  hosts: [reviews.default]\n  resolution: DNS\n  ports: [{number: 9080, name: http, protocol: HTTP}]"
    hosts, _ = tables(service("reviews") + istio("ServiceEntry", "odd", entry))
    assert "reviews.default" not in hosts["9080"]["reviews.default.svc.cluster.local:9080"].domains
    assert "reviews.default" in hosts["9080"]["reviews.default:9080"].domains


def test_ports_that_are_not_http_have_no_table():
    hosts, _ = tables(service("db", 3306, port_name="mysql"))
    assert hosts == {}


def test_tcp_rules_alone_leave_http_ports_alone():
    text = istio("VirtualService", "v", "  hosts: [reviews]\n  tcp: [{route: [{destination: {host: reviews}}]}]")
    hosts, _ = tables(service("reviews") + text)
    assert hosts["9080"]["reviews.default.svc.cluster.local:9080"].routes[0].name == "default"
