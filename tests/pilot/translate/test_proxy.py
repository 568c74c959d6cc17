import msgspec

from pilot.translate.proxy import Proxy, outbound_key, scope_key
from tests.pilot.worlds import istio, node, world

RULE = istio(
    "VirtualService",
    "v",
    "  hosts: [a]\n  http: [{match: [{sourceLabels: {version: v1}}], route: [{destination: {host: a}}]}]",
)


def test_labels_that_no_rule_asks_for_do_not_split_the_outbound_scope():
    made = world(RULE)
    one = Proxy(node("web", version="v1"))
    same = Proxy(node("other", version="v1", sidecar_port=4001))
    different = Proxy(node("web", version="v2"))
    assert outbound_key(made, one) == outbound_key(made, same)
    assert outbound_key(made, one) != outbound_key(made, different)
    assert outbound_key(made, one) != outbound_key(made, Proxy(node("web", namespace="x", version="v1")))


def test_the_whole_scope_depends_on_inbound_ports_and_labels():
    made = world(RULE)
    one = Proxy(node("web"))
    assert scope_key(made, one) == scope_key(made, Proxy(node("web", node_id="another")))
    assert scope_key(made, one) != scope_key(made, Proxy(node("web", sidecar_port=4001)))


def test_gateways_differ_by_labels_and_options():
    made = world()
    one = Proxy(node(role="gateway", app="in"))
    assert one.is_gateway
    assert scope_key(made, one) == scope_key(made, Proxy(node(role="gateway", app="in", node_id="b")))
    assert scope_key(made, one) != scope_key(made, Proxy(node(role="gateway", app="out")))
    assert scope_key(made, one) != scope_key(made, Proxy(node(role="gateway", app="in"), match_all_gateways=True))


def test_the_scope_depends_on_the_health_check():
    made = world()
    one = node("web")
    checked = msgspec.structs.replace(one, health_check="tcp")
    often = msgspec.structs.replace(checked, health_check_interval=1.0)
    assert len({scope_key(made, Proxy(each)) for each in (one, checked, often)}) == 3
