from pilot.translate.visibility import Report, View, is_exported, visible_services, visible_virtual_services
from tests.pilot.worlds import istio, objects, service, sidecar, world

RULE = "  hosts: [a]\n  http: [{route: [{destination: {host: a}}]}]"


def test_export_lists_decide():
    assert is_exported("a", (), ("*",), "b")
    assert is_exported("a", (".",), ("*",), "a")
    assert not is_exported("a", (".",), ("*",), "b")
    assert not is_exported("a", ("~",), ("*",), "a")


def test_a_service_of_the_own_namespace_hides_one_of_another():
    entry = "  hosts: [x.com]\n  resolution: STATIC\n  ports: [{number: %s, name: http, protocol: HTTP}]"
    text = istio("ServiceEntry", "a", entry % 80, namespace="a") + istio("ServiceEntry", "b", entry % 81, namespace="b")
    made = world(text)
    assert visible_services(made, "b")["x.com"].ports[0].number == 81
    assert visible_services(made, "c")["x.com"].ports[0].number == 80


def test_a_kubernetes_service_hides_an_entry_of_another_namespace():
    entry = "  hosts: [a.default.svc.cluster.local]\n  resolution: STATIC\n  ports: [{number: 99, name: http}]"
    made = world(service("a") + istio("ServiceEntry", "a", entry, namespace="aaa"))
    assert visible_services(made, "x")["a.default.svc.cluster.local"].ports[0].number == 9080


def test_a_service_that_is_not_exported_is_not_seen():
    text = service("a").replace(
        "namespace: default}", 'namespace: default, annotations: {networking.istio.io/exportTo: "."}}'
    )
    assert visible_services(world(text), "x") == {}
    assert len(visible_services(world(text), "default")) == 1


def test_virtual_services_private_ones_first_then_named_then_public():
    text = (
        istio("VirtualService", "public", RULE, created="2019-01-01T00:00:00Z")
        + istio("VirtualService", "named", RULE + "\n  exportTo: [default]", namespace="other")
        + istio("VirtualService", "private", RULE + "\n  exportTo: ['.']")
        + istio("VirtualService", "hidden", RULE + "\n  exportTo: ['.']", namespace="other")
    )
    assert [obj.name for obj in visible_virtual_services(world(text), "default", "mesh")] == [
        "private",
        "named",
        "public",
    ]


def test_shared_results_are_made_once():
    shared = {}
    made = world(service("a"))
    one, two = View(made, sidecar(), shared), View(made, sidecar(), shared)
    assert one.services is two.services


def test_a_report_is_made_once_and_reads_as_a_line():
    view = View(world(), sidecar())
    (obj,) = objects(istio("VirtualService", "v", RULE))
    view.report(obj, "spec.hosts[0]", "is odd", "write another")
    view.report(obj, "spec.hosts[0]", "is odd", "write another")
    (report,) = view.reports
    assert str(report) == "in.yaml:7 VirtualService/default/v spec.hosts[0]: is odd; write another"
    assert str(Report("K", "n", "x", "f", "", 0, "m")) == "K/n/x f: m"
