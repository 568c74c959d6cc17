import pytest

from pilot.resources.virtual_service import Destination, PortSelector
from pilot.translate.destinations import cluster_of
from pilot.translate.visibility import View
from tests.pilot.worlds import deployment, istio, objects, service, sidecar, world

TWO_PORTS = service("two").replace("ports: [", "ports: [{name: tcp, port: 1}, ")
RULES = istio(
    "DestinationRule",
    "reviews",
    "  host: reviews\n  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]",
)
MESH = service("reviews") + deployment("reviews-v1", app="reviews") + RULES + TWO_PORTS


def ask(host, *, subset="", port=0, listener=80, text=MESH, client="default"):
    (obj,) = objects(
        istio("VirtualService", "v", "  hosts: [x.com]\n  http: [{route: [{destination: {host: reviews}}]}]")
    )
    view = View(world(text, dry_run=True), sidecar(client))
    selector = PortSelector(port) if port else None
    path = "spec.http[0].route[0].destination"
    name = cluster_of(view, obj, Destination(host, subset, selector), path, listener)
    return name, [f"{report.field.rpartition('.')[2]}: {report.message}; {report.remedy}" for report in view.reports]


def test_the_only_port_of_a_service_needs_no_naming():
    assert ask("reviews") == ("outbound|9080||reviews.default.svc.cluster.local", [])


def test_of_several_ports_it_is_the_one_that_the_request_came_in_by():
    assert ask("two", listener=1)[0] == "outbound|1||two.default.svc.cluster.local"
    name, reports = ask("two", listener=80)
    assert name == "outbound|80||two.default.svc.cluster.local"
    assert reports == ["host: service two.default.svc.cluster.local has no port 80; its ports are: 1, 9080"]


def test_a_port_that_the_service_lacks_is_reported():
    assert ask("reviews", port=5)[1] == [
        "port: service reviews.default.svc.cluster.local has no port 5; its ports are: 9080"
    ]


def test_an_external_name_of_a_service_is_the_service():
    alias = """
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: reviews.default.svc.cluster.local}
"""
    assert ask("alias", text=MESH + alias) == ("outbound|9080||reviews.default.svc.cluster.local", [])


def test_a_known_subset_is_fine():
    assert ask("reviews", subset="v1") == ("outbound|9080|v1|reviews.default.svc.cluster.local", [])


@pytest.mark.parametrize(
    ("host", "subset", "message"),
    [
        ("reviews", "v9", 'subset: no DestinationRule defines subset "v9"'),
        ("reviews", "v2", 'subset "v2" of reviews.default.svc.cluster.local has no workload (version=v2)'),
        ("two", "v1", "define it in a DestinationRule for two.default"),
        ("nobody", "", "host: no service nobody.default.svc.cluster.local is known here"),
        ("nobody", "", "define a Service or a ServiceEntry"),
        ("reviews.default", "", "write reviews.default.svc.cluster.local"),
    ],
)
def test_a_route_to_nothing_keeps_its_cluster_and_is_reported(host, subset, message):
    name, (report,) = ask(host, subset=subset, listener=1)
    assert name.startswith("outbound|")
    assert message in report


def test_a_service_that_is_not_exported_to_the_client_is_reported_as_that():
    text = MESH.replace(
        "name: reviews, namespace: default}",
        'name: reviews, namespace: default, annotations: {networking.istio.io/exportTo: "."}}',
        1,
    )
    _, (report,) = ask("reviews.default.svc.cluster.local", text=text, client="other")
    assert "export it to namespace other" in report
