"""Where the world is replaced."""

from mesh.feed.node import InboundPort
from pilot.ledger import Ledger
from pilot.resources.object import Object
from pilot.resources.registry import load
from pilot.store.mesh_config import MeshSettings
from tests.feed_rig import node


def service(name: str, port: int = 80, file: str = "f.yaml") -> Object:
    spec = f"spec: {{selector: {{app: {name}}}, ports: [{{port: {port}, name: http}}]}}"
    text = f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n{spec}\n"
    [obj] = load(text, file).objects
    return obj


class Rig:
    def __init__(self) -> None:
        self.ledger = Ledger(MeshSettings())
        self.told: list[tuple[str, bool, bool]] = []
        self.ledger.changed = self.changed

    def changed(self, trigger: str, *, endpoints_only: bool = False, at_once: bool = False) -> int:
        self.told.append((trigger, endpoints_only, at_once))
        return len(self.told)


def test_changes_of_files_are_debounced_and_applied_ones_are_not() -> None:
    rig = Rig()
    obj = service("a")
    assert rig.ledger.update("files", [(obj.key, obj)]) == 1
    assert rig.ledger.update("files", [(obj.key, obj)]) == 1, "nothing changed"
    other = service("b")
    assert rig.ledger.update("applied", [(other.key, other)], at_once=True) == 2
    assert rig.told == [("config", False, False), ("config", False, True)]


def test_applied_objects_stand_before_files() -> None:
    rig = Rig()
    of_file, applied = service("a", 80), service("a", 81, "applied.yaml")
    key = of_file.key
    rig.ledger.update("files", [(key, of_file)])
    rig.ledger.update("applied", [(key, applied)])
    assert rig.ledger.world.get(key) is applied
    assert rig.ledger.layer_of(key) == "applied"
    assert rig.ledger.holds("files", key) is of_file
    newer = service("a", 82)
    rig.ledger.update("files", [(key, newer)])
    assert rig.ledger.world.get(key) is applied
    rig.ledger.update("applied", [(key, None)])
    assert rig.ledger.world.get(key) is newer
    rig.ledger.update("files", [(key, None)])
    assert rig.ledger.world.get(key) is None
    assert rig.ledger.layer_of(key) is None


def test_workloads_of_a_known_service_are_endpoints() -> None:
    rig = Rig()
    obj = service("a")
    rig.ledger.update("files", [(obj.key, obj)])
    one = node("one", service="a", ports=(InboundPort(80, "127.0.0.1", 1001),))
    two = node("two", service="a", ports=(InboundPort(80, "127.0.0.1", 1002),))
    rig.ledger.workload(one, None)
    rig.ledger.workload(two, None)
    rig.ledger.health(two, healthy=False)
    rig.ledger.workload(None, two)
    assert [endpoints_only for _, endpoints_only, _ in rig.told[2:]] == [True, True, True]
    assert list(rig.ledger.world.workloads) == ["one"]


def test_equal_proxies_have_one_scope_and_translation() -> None:
    rig = Rig()
    obj = service("a")
    rig.ledger.update("files", [(obj.key, obj)])
    one, two = node("one"), node("two")
    assert rig.ledger.scope(one) == rig.ledger.scope(two)
    assert rig.ledger.translate(one).snapshot == rig.ledger.translate(two).snapshot
    assert any("a.default" in name for name in rig.ledger.translate(one).snapshot.clusters)


def test_the_order_of_arrival_does_not_show() -> None:
    obj = service("a")
    nodes = [node(id, service="a", ports=(InboundPort(80, "127.0.0.1", port),)) for id, port in (("x", 1), ("b", 2))]
    snapshots = []
    for order in (nodes, nodes[::-1]):
        rig = Rig()
        rig.ledger.update("files", [(obj.key, obj)])
        for each in order:
            rig.ledger.workload(each, None)
        snapshots.append(rig.ledger.translate(node("asker")).snapshot)
    assert snapshots[0] == snapshots[1], "or agents could not resume by hash after a restart"


def test_without_a_fleet_nothing_breaks() -> None:
    obj = service("a")
    assert Ledger(MeshSettings()).update("files", [(obj.key, obj)]) == 0


def test_who_checks_its_app_serves_once_it_reports_health() -> None:
    rig = Rig()
    obj = service("a")
    rig.ledger.update("files", [(obj.key, obj)])
    checked = node("a", labels={"app": "a"}, ports=(InboundPort(80, "127.0.0.1", 1),), health_check="tcp")
    rig.ledger.workload(checked, None)
    assert not rig.ledger.world.workloads["a"].healthy
    rig.ledger.health(checked, healthy=True)
    assert rig.ledger.world.workloads["a"].healthy
    assert rig.told[-1] == ("endpoint", True, False)
    known = len(rig.told)
    rig.ledger.health(checked, healthy=True)
    assert len(rig.told) == known, "the same again is no change"


def test_an_agent_of_the_last_run_is_taken_for_well_until_it_tells() -> None:
    rig = Rig()
    checked = node("a", labels={"app": "a"}, health_check="tcp")
    rig.ledger.expect(checked)
    assert rig.ledger.world.workloads["a"].healthy
