from pilot.resources.registry import load
from pilot.sources.source import Change


def test_a_change_is_deletes_and_upserts():
    (obj,) = load("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n", "f.yaml").objects
    gone = ("Service", "ns", "s")
    assert list(Change(upserts=(obj,), deletes=(gone,)).items()) == [(gone, None), (obj.key, obj)]
