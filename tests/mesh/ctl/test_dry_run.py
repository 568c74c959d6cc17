import pytest

from mesh.ctl.dry_run import Answer, Request, ask, build_world
from mesh.errors import MeshError
from pilot.store import MeshSettings
from tests.pilot.worlds import deployment, istio, objects, service

RULES = istio(
    "DestinationRule",
    "reviews",
    "  host: reviews\n  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]",
)
SHOP = (
    service("reviews")
    + deployment("reviews-v1", app="reviews")
    + deployment("reviews-v2", app="reviews", version="v2")
    + deployment("web")
    + RULES
)
GATEWAY = istio(
    "Gateway",
    "gw",
    "  selector: {app: in}\n  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]",
)


def rules(http, hosts="[reviews]", gateways=""):
    return istio("VirtualService", "reviews", f"  hosts: {hosts}\n{gateways}  http:\n{http}")


def answer(text, url="http://reviews:9080/", settings=None, **request) -> Answer:
    return ask(build_world(objects(text), settings or MeshSettings()), Request(url=url, **request))


def test_a_request_to_a_service():
    found = answer(SHOP, from_="default/web")
    assert (found.status, found.error) == (200, None)
    assert (found.backend.host, found.backend.port) == ("reviews.default.svc.cluster.local", 9080)
    assert found.backend.workload == "reviews-v1"
    assert found.backend_workload == {"app": "reviews", "version": "v1", "namespace": "default"}
    assert found.mtls
    assert found.upstream.path == "/"
    assert found.upstream.protocol == "HTTP/1.1"
    assert found.decided_by[0].kind == "Service"


def test_weights_name_every_destination():
    text = SHOP + rules(
        "  - route:\n    - {destination: {host: reviews, subset: v1}, weight: 90}\n"
        "    - {destination: {host: reviews, subset: v2}}"
    )
    assert answer(text).weights == {
        "reviews.default.svc.cluster.local/v1": 100.0,
        "reviews.default.svc.cluster.local/v2": 0.0,
    }


def test_the_callers_labels_are_those_of_its_workload():
    text = SHOP + rules(
        "  - match: [{sourceLabels: {app: web}}]\n    directResponse: {status: 418}\n  - directResponse: {status: 204}"
    )
    assert answer(text, from_="default/web").status == 418
    assert answer(text, from_="default/reviews").status == 204
    assert answer(text, from_="default/*").status == 204
    assert answer(text, from_="default").status == 204
    assert answer(text, from_="default/nobody").status == 204
    assert answer(text.replace("name: web,", "name: web-1,"), from_="default/web").status == 418
    assert answer(text.replace("name: web,", "name: x,"), from_="default/web").status == 418


def test_the_port_asked_for_is_the_listener_whatever_the_host_header_says():
    found = answer(SHOP, "http://reviews:9080/", host="reviews:1234", port=9080)
    assert found.backend.port == 9080


def test_header_operations_show_on_both_sides():
    text = SHOP + rules(
        "  - headers: {request: {set: {x-a: b}}, response: {set: {x-c: d}}}\n"
        "    route: [{destination: {host: reviews}}]"
    )
    found = answer(text, headers={"x-many": ["1", "2"]}, backend_response_headers={"x-b": "y"})
    assert found.upstream.headers["x-a"] == "b"
    assert found.upstream.headers["x-many"] == "1,2"
    assert found.response_headers == {"x-b": "y", "x-c": "d"}


def test_a_redirect_has_its_location_in_parts():
    found = answer(SHOP + rules("  - redirect: {scheme: https, authority: a.com, port: 444, uri: /x}"))
    redirect = found.redirect
    assert (found.status, redirect.scheme, redirect.host, redirect.port, redirect.path) == (
        301,
        "https",
        "a.com",
        444,
        "/x",
    )


@pytest.mark.parametrize(
    ("abort", "status", "grpc"), [("httpStatus: 418", 418, None), ("grpcStatus: UNAVAILABLE", 200, 14)]
)
def test_a_fault_that_hits_every_request_is_the_answer(abort, status, grpc):
    text = SHOP + rules(
        f"  - fault: {{abort: {{{abort}, percentage: {{value: 100}}}}}}\n"
        "    route: [{destination: {host: reviews}}]"
    )
    found = answer(text)
    assert (found.status, found.grpc_status, found.flag, found.backend) == (status, grpc, "FI", None)


def test_a_fault_that_hits_some_requests_is_reported_only():
    text = SHOP + rules(
        "  - fault: {abort: {httpStatus: 500, percentage: {value: 50}}}\n    route: [{destination: {host: reviews}}]"
    )
    found = answer(text)
    assert found.status == 200
    assert found.fault.abort.percent == 50.0


def test_a_subset_that_is_not_there_is_503_and_reported():
    found = answer(SHOP + rules("  - route: [{destination: {host: reviews, subset: v9}}]"))
    assert (found.status, found.flag) == (503, "NC")
    assert [report.field for report in found.reports] == ["spec.http[0].route[0].destination.subset"]


def test_a_short_name_that_no_service_completes_is_shown_with_its_namespace():
    found = answer(rules("  - route: [{destination: {host: nobody}}]", "[x.com]"), "http://x.com/")
    assert found.backend.host == "nobody.default"
    assert found.backend_workload is None


def test_outside_the_mesh():
    assert answer(SHOP, "http://example.com:9080/").passthrough
    closed = MeshSettings(outbound_policy="REGISTRY_ONLY")
    found = answer(SHOP, "http://example.com:9080/", settings=closed)
    assert (found.blackhole, found.status) == (True, 502)
    assert answer(SHOP, "http://example.com:1/").passthrough


def test_opaque_connections_find_their_service_by_name_address_or_port():
    text = SHOP + service("db", 3306, port_name="mysql")
    host = "db.default.svc.cluster.local"
    assert answer(text, "tcp://db:3306", protocol="tcp").backend.host == host
    assert answer(text, "tcp://10.0.0.2:3306", protocol="tcp", address="10.0.0.2").backend.host == host
    assert answer(text, "tcp://10.9.9.9:3306", protocol="tcp", address="10.9.9.9").passthrough
    without = text.replace("clusterIP: 10.0.0.2", "sessionAffinity: None")
    assert answer(without, "tcp://10.9.9.9:3306", protocol="tcp", address="10.9.9.9").backend.host == host
    closed = MeshSettings(outbound_policy="REGISTRY_ONLY")
    found = answer(text, "tcp://10.9.9.9:1", protocol="tcp", settings=closed)
    assert (found.blackhole, found.status) == (True, None)


def test_an_opaque_service_without_workload_refuses():
    entry = istio(
        "ServiceEntry",
        "e",
        "  hosts: [x.com]\n  resolution: STATIC\n  ports: [{number: 9, name: tcp, protocol: TCP}]\n"
        "  workloadSelector: {labels: {app: none}}",
    )
    found = answer(entry, "tcp://x.com:9", protocol="tcp")
    assert (found.status, found.flag) == (None, "UH")


def test_an_entry_that_connects_where_the_request_says_is_still_its_service():
    entry = istio("ServiceEntry", "e", "  hosts: [x.com]\n  ports: [{number: 80, name: http, protocol: HTTP}]")
    found = answer(entry, "http://x.com/")
    assert found.backend.host == "x.com"
    assert not found.passthrough


def test_through_a_gateway():
    text = SHOP + GATEWAY + rules("  - route: [{destination: {host: reviews}}]", "[a.com]", "  gateways: [gw]\n")
    assert answer(text, "http://a.com/", gateway="default/gw").backend.port == 9080
    assert answer(text, "http://a.com/", gateway="gw").backend.port == 9080
    labelled = answer(text, "http://b.com/", via="gateway", gateway_labels={"app": "in"})
    assert (labelled.error, labelled.status) == ("no_route", 404)
    assert answer(text, "http://a.com:81/", gateway="default/gw").error == "no_listener"
    with pytest.raises(MeshError, match=r"no Gateway default/none in these files; .* default/gw"):
        answer(text, gateway="default/none")


@pytest.mark.parametrize("url", ["reviews:9080", "/x", "http://reviews:port/"])
def test_a_url_that_is_none_is_an_error(url):
    with pytest.raises(MeshError, match=r"URL|port"):
        answer(SHOP, url)


def test_the_answer_as_json_always_has_its_error():
    data = answer(SHOP).as_json()
    assert data["error"] is None
    assert data["mirrors"] == []
    assert data["decided_by"][0]["line"] > 0
    assert "explanation" not in data
