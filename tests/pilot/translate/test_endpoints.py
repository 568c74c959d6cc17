from mesh import config
from pilot.translate import Proxy, translate, translate_endpoints
from tests.pilot.worlds import istio, node, service, sidecar, world

HOST = "reviews.default.svc.cluster.local"
RULE = istio(
    "DestinationRule",
    "reviews",
    "  host: reviews\n  subsets: [{name: v1, labels: {version: v1}}, {name: v9, labels: {version: v9}}]",
)


def mesh(text=""):
    made = world(service("reviews") + RULE + text)
    for version in ("v1", "v2"):
        made, _ = made.with_workload(node("reviews", sidecar_port=4000 + int(version[1]), version=version))
    return made


def test_endpoints_carry_their_workload_and_speak_mesh_mtls():
    found = translate_endpoints(mesh(), sidecar(), [f"outbound|9080||{HOST}"])
    (endpoints,) = found.values()
    assert [item.port for item in endpoints.endpoints] == [4001, 4002]
    first = endpoints.endpoints[0]
    assert first.tls == "istio"
    assert first.workload == config.Workload(
        name="reviews-4001", namespace="default", app="reviews", version="v1", service_account="default"
    )


def test_a_subset_has_the_endpoints_with_its_labels():
    found = translate_endpoints(mesh(), sidecar(), [f"outbound|9080|v1|{HOST}", f"outbound|9080|v9|{HOST}"])
    assert [len(item.endpoints) for item in found.values()] == [1, 0]


def test_workloads_that_refuse_mtls_are_spoken_to_in_plaintext():
    made = mesh(istio("PeerAuthentication", "p", "  mtls: {mode: DISABLE}"))
    (endpoints,) = translate_endpoints(made, sidecar(), [f"outbound|9080||{HOST}"]).values()
    assert {item.tls for item in endpoints.endpoints} == {""}


def test_names_without_a_cluster_are_left_out():
    names = ["PassthroughCluster", "outbound|1||" + HOST, "outbound|9080||nobody", f"outbound|9080|none|{HOST}"]
    assert translate_endpoints(mesh(), sidecar(), names) == {}


def test_the_app_is_its_sidecars_inbound_endpoint():
    proxy = Proxy(node("reviews"))
    (endpoints,) = translate_endpoints(mesh(), proxy, ["inbound|9080||"]).values()
    assert endpoints.endpoints == (config.Endpoint("127.0.0.1", 9080),)


def test_the_short_lane_says_the_same_as_a_whole_translation():
    made = mesh()
    proxy = Proxy(node("reviews", sidecar_port=4001, version="v1"))
    whole = translate(made, proxy).snapshot.endpoints
    assert translate_endpoints(made, proxy, list(whole)) == whole
