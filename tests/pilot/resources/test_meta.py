import pytest

from pilot.resources.meta import (
    LabelRequirement,
    LabelSelector,
    MatchLabels,
    covers,
    expand_host,
    is_wildcard,
    overlaps,
    specificity,
)


def test_only_a_name_without_a_dot_is_short():
    assert expand_host("reviews", "prod") == "reviews.prod.svc.cluster.local"
    assert expand_host("Reviews", "prod", "mesh.example") == "reviews.prod.svc.mesh.example"
    for host in ("reviews.prod", "*", "*.foo", "10.0.0.1", "::1", ""):
        assert expand_host(host, "prod") == host


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("*", "anything.at.all", True),
        ("*", "*.com", True),
        ("*.com", "foo.com", True),
        ("*.com", "a.b.com", True),
        ("*.com", "*.foo.com", True),
        ("*.foo.com", "*.com", False),
        ("*.foo.com", "foo.com", False),
        ("*.foo.com", "xfoo.com", False),
        ("*.FOO.com", "a.foo.COM", True),
        ("foo.com", "foo.com", True),
        ("foo.com", "*.com", False),
        ("*", "*", True),
    ],
)
def test_covers(pattern, host, expected):
    assert covers(pattern, host) is expected


def test_overlap_is_symmetric():
    assert overlaps("foo.com", "*.com")
    assert overlaps("*.com", "foo.com")
    assert not overlaps("a.com", "b.com")


def test_specific_first():
    hosts = ["*", "*.com", "b.com", "*.b.com", "a.com", "aa.com"]
    assert sorted(hosts, key=specificity) == ["aa.com", "a.com", "b.com", "*.b.com", "*.com", "*"]
    assert is_wildcard("*.a")
    assert not is_wildcard("a.*")


def test_match_labels():
    assert MatchLabels().matches({"a": "b"})
    assert MatchLabels(match_labels={"a": "b"}).matches({"a": "b", "c": "d"})
    assert not MatchLabels(match_labels={"a": "b"}).matches({"a": "c"})


@pytest.mark.parametrize(
    ("operator", "values", "labels", "expected"),
    [
        ("In", ("x", "y"), {"k": "y"}, True),
        ("In", ("x",), {}, False),
        ("NotIn", ("x",), {"k": "x"}, False),
        ("NotIn", ("x",), {"k": "z"}, True),
        ("NotIn", ("x",), {}, True),
        ("Exists", (), {"k": ""}, True),
        ("Exists", (), {}, False),
        ("DoesNotExist", (), {}, True),
        ("DoesNotExist", (), {"k": "v"}, False),
    ],
)
def test_requirements(operator, values, labels, expected):
    requirement = LabelRequirement(key="k", operator=operator, values=values)
    assert requirement.matches(labels) is expected
    selector = LabelSelector(match_labels={}, match_expressions=(requirement,))
    assert selector.matches(labels) is expected
