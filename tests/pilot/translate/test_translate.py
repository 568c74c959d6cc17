from mesh.config import decode_snapshot, encode
from pilot.translate import Proxy, scope_key, translate
from tests.pilot.worlds import istio, node, service, world

TEXT = service("reviews") + service("db", 3306, port_name="mysql")


def test_a_sidecars_snapshot_is_whole_and_travels():
    made, _ = world(TEXT).with_workload(node("reviews"))
    snapshot = translate(made, Proxy(node("reviews"))).snapshot
    assert snapshot.dangling() == []
    assert decode_snapshot(encode(snapshot)) == snapshot
    assert {name.partition("|")[0].partition("_")[0] for name in snapshot.listeners} == {"inbound", "http", "tcp"}


def test_translation_is_a_function_of_its_arguments():
    proxy = Proxy(node("reviews"))
    assert encode(translate(world(TEXT), proxy).snapshot) == encode(translate(world(TEXT), proxy).snapshot)


def test_sharing_changes_nothing_but_the_work():
    made = world(TEXT)
    shared = {}
    one = Proxy(node("reviews"))
    two = Proxy(node("reviews", sidecar_port=4001))
    first, second = translate(made, one, shared), translate(made, two, shared)
    assert second == translate(made, two)
    assert first.snapshot.routes["9080"] is second.snapshot.routes["9080"]
    assert scope_key(made, one) != scope_key(made, two)


def test_a_route_to_a_subset_that_is_not_there_is_reported_and_served():
    text = istio(
        "VirtualService", "v", "  hosts: [reviews]\n  http: [{route: [{destination: {host: reviews, subset: v9}}]}]"
    )
    translation = translate(world(TEXT + text), Proxy(node("web")))
    (report,) = translation.reports
    assert (report.kind, report.name, report.file) == ("VirtualService", "v", "in.yaml")
    assert report.field == "spec.http[0].route[0].destination.subset"
    assert report.line > 0
    assert {line.partition(" refers to ")[2] for line in translation.snapshot.dangling()} == {
        "cluster outbound|9080|v9|reviews.default.svc.cluster.local"
    }
