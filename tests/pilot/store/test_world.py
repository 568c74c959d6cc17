from pilot.store import Change, MeshSettings, World
from tests.pilot.worlds import deployment, node, objects, service, world

REVIEWS = ("Service", "default", "reviews")
HOST = "reviews.default.svc.cluster.local"
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-1, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.1]}]
ports: [{name: http, port: 8080}]
"""


def upserts(text):
    return [(obj.key, obj) for obj in objects(text)]


def test_a_step_gives_a_new_world_and_leaves_the_old_one():
    before = world(service("reviews"))
    after, change = before.apply(upserts(service("ratings")))
    assert change == Change(keys=frozenset({("Service", "default", "ratings")}))
    assert len(before) == 1
    assert len(after) == 2
    assert {obj.name for obj in after} == {"reviews", "ratings"}
    assert after.get(REVIEWS) is before.get(REVIEWS)


def test_a_deletion_and_one_of_what_is_not_there():
    before = world(service("reviews"))
    after, change = before.apply([(REVIEWS, None), (("Service", "default", "none"), None)])
    assert change.keys == {REVIEWS}
    assert after.get(REVIEWS) is None
    assert list(after.of_kind("Service")) == []
    same, nothing = after.apply([(REVIEWS, None)])
    assert same is after
    assert not nothing


def test_the_last_word_on_a_key_counts():
    (upsert,) = upserts(service("reviews"))
    after, _ = World().apply([upsert, (REVIEWS, None)])
    assert after.get(REVIEWS) is None
    after, _ = world(service("reviews")).apply([(REVIEWS, None), upsert])
    assert after.get(REVIEWS) is not None


def test_an_equal_object_is_no_change_but_brings_its_new_lines():
    before = world(service("reviews"))
    after, change = before.apply(upserts("\n\n# moved\n" + service("reviews")))
    assert not change
    assert after.get(REVIEWS).origin("spec").line == before.get(REVIEWS).origin("spec").line + 3


def test_a_workload_that_comes_and_goes():
    before, _ = world(service("reviews")).with_workload(node("reviews"))
    after, change = before.with_workload(node("reviews", sidecar_port=4001))
    assert change.endpoints_only
    assert change.hosts == {HOST}
    assert len(after.workloads) == 2
    again, nothing = after.with_workload(node("reviews", sidecar_port=4001))
    assert again is after
    assert not nothing
    gone, change = after.without_workload(node("reviews", sidecar_port=4001).id)
    assert change.endpoints_only
    assert gone.workloads.keys() == before.workloads.keys()
    same, nothing = gone.without_workload("nobody")
    assert same is gone
    assert not nothing


def test_health_is_a_matter_of_endpoints():
    before, _ = world(service("reviews")).with_workload(node("reviews"))
    _, change = before.with_workload(node("reviews"), healthy=False)
    assert change.endpoints_only
    assert change.hosts == {HOST}


def test_a_new_service_account_or_service_is_more_than_endpoints():
    before, first = world(service("reviews")).with_workload(node("reviews"))
    assert not first.endpoints_only
    _, change = before.with_workload(node("reviews", sidecar_port=4001, account="other"))
    assert not change.endpoints_only
    _, change = before.with_workload(node("ratings", sidecar_port=4002))
    assert not change.endpoints_only


def test_an_endpoint_slice_is_a_matter_of_endpoints():
    _, change = world(service("reviews")).apply(upserts(SLICE))
    assert change.endpoints_only
    assert change.hosts == {HOST}


def test_a_slice_together_with_a_service_is_not():
    _, change = world(service("reviews")).apply(upserts(SLICE + service("ratings")))
    assert not change.endpoints_only


def test_a_pod_template_changes_nothing_outside_a_dry_run():
    _, change = world(service("reviews")).apply(upserts(deployment("reviews")))
    assert change.endpoints_only
    assert change.hosts == frozenset()


def test_settings_are_part_of_the_world():
    before = World()
    after, change = before.with_settings(MeshSettings(trust_domain="x"))
    assert change
    assert not change.endpoints_only
    assert before.settings.trust_domain == "cluster.local"
    assert after.settings.trust_domain == "x"
    assert after.with_settings(after.settings) == (after, Change())
