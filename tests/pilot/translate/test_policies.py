import pytest

from pilot.translate.policies import peer_mode
from tests.pilot.worlds import istio, world


def policy(name, spec, namespace="default", created=""):
    return istio("PeerAuthentication", name, spec, namespace=namespace, created=created)


MESH = policy("mesh", "  mtls: {mode: STRICT}", "istio-system")
NAMESPACE = policy("ns", "  mtls: {mode: DISABLE}")
WORKLOAD = policy(
    "w",
    "  selector: {matchLabels: {app: a}}\n  mtls: {mode: PERMISSIVE}\n  portLevelMtls: {9080: {mode: STRICT}}",
)
UNSET = policy("u", "  selector: {matchLabels: {app: a}}\n  mtls: {mode: UNSET}")


@pytest.mark.parametrize(
    ("texts", "port", "expected"),
    [
        ((), 80, "PERMISSIVE"),
        ((MESH,), 80, "STRICT"),
        ((MESH, NAMESPACE), 80, "DISABLE"),
        ((MESH, NAMESPACE, WORKLOAD), 80, "PERMISSIVE"),
        ((MESH, NAMESPACE, WORKLOAD), 9080, "STRICT"),
        ((MESH, UNSET), 80, "STRICT"),
    ],
)
def test_the_narrowest_scope_with_a_mode_wins(texts, port, expected):
    assert peer_mode(world("".join(texts)), "default", {"app": "a"}, port) == expected


def test_selectors_of_the_root_namespace_select_its_own_workloads_only():
    text = policy("r", "  selector: {matchLabels: {app: a}}\n  mtls: {mode: STRICT}", "istio-system")
    assert peer_mode(world(text), "default", {"app": "a"}, 80) == "PERMISSIVE"
    assert peer_mode(world(text), "istio-system", {"app": "a"}, 80) == "STRICT"


def test_of_several_in_a_scope_the_oldest_counts():
    text = policy("a", "  mtls: {mode: STRICT}", created="2022-01-01T00:00:00Z") + policy(
        "b", "  mtls: {mode: DISABLE}", created="2020-01-01T00:00:00Z"
    )
    assert peer_mode(world(text), "default", {}, 80) == "DISABLE"
