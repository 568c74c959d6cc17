from pilot.store.change import Change

OBJECTS = Change(keys=frozenset({("Service", "default", "a")}))
ENDPOINTS = Change(workloads=frozenset({"n"}), hosts=frozenset({"a"}), endpoints_only=True)


def test_an_empty_change_is_false_and_adds_nothing():
    assert not Change()
    assert Change() | ENDPOINTS is ENDPOINTS
    assert ENDPOINTS | Change() is ENDPOINTS


def test_a_merged_change_is_of_endpoints_only_when_both_are():
    both = OBJECTS | ENDPOINTS
    assert not both.endpoints_only
    assert both.keys == OBJECTS.keys
    assert both.hosts == {"a"}
    assert (ENDPOINTS | Change(hosts=frozenset({"b"}), endpoints_only=True)).endpoints_only
