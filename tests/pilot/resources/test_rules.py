from pilot.resources.meta import MatchLabels, ObjectMeta
from pilot.resources.report import Report
from pilot.resources.rules import (
    check_duration,
    check_export_to,
    check_gateway_names,
    check_labels,
    check_match_labels,
    check_one_of,
    check_percent,
    check_port,
    check_port_map,
    check_regex,
    check_selector,
    check_subnets,
    check_unique,
    check_unix_address,
    is_host_address,
)
from pilot.resources.virtual_service import PortSelector, StringMatch


def faults(check, *arguments):
    report = Report()
    check(*arguments, ("p",), report)
    return [(f.path[1:], f.what) for f in report.faults]


def test_durations():
    assert not faults(check_duration, None)
    assert not faults(check_duration, 0.001)
    assert faults(check_duration, 0.0)
    assert faults(check_duration, -1.0)
    assert faults(check_duration, 1.0005)


def test_numbers():
    assert not faults(check_percent, 100)
    assert faults(check_percent, 100.1)
    assert not faults(check_port, None)
    assert faults(check_port, PortSelector(number=0)) == [(("number",), "port 0 is out of range")]
    assert [f[0] for f in faults(check_port_map, {"a": 1, "b": 0, "@": 1})] == [("b",), ("@",)]


def test_regexes():
    assert not faults(check_regex, ".*")
    assert faults(check_regex, "")
    assert faults(check_regex, "[")


def test_labels():
    assert not faults(check_labels, {"a/b": "c"})
    assert [f[0] for f in faults(check_labels, {"a b": "c", "d": "e f"})] == [("a b",), ("d",)]
    assert [f[0] for f in faults(check_selector, {"": "x", "a": "*", "b": "y" * 64})] == [("",), ("a",), ("b",)]
    assert not faults(check_match_labels, None)
    assert faults(check_match_labels, MatchLabels(match_labels={"*": "x"}))


def test_export_to():
    def check(*entries):
        report = Report()
        check_export_to(entries, ObjectMeta(namespace="ns"), ("p",), report)
        return [f.path[1:] for f in report.faults]

    for good in ((), (".",), ("*",), ("~",), (".", "other")):
        assert not check(*good)
    assert check("a.b") == [(0,)]
    assert check(".", "ns") == [(1,)]
    assert check("*", "a") == [()]
    assert check("~", "a") == [()]


def test_only_services_are_exported_to_nobody():
    def blemishes(**more):
        report = Report()
        check_export_to(("~",), ObjectMeta(), ("p",), report, **more)
        assert not report.faults
        return [f.path for f in report.blemishes]

    assert blemishes() == [("p", 0)]
    assert blemishes(nobody=True) == []


def test_one_of_several():
    report = Report()
    both = StringMatch(exact="a", regex="b")
    assert check_one_of(both, ("exact", "prefix", "regex"), ("p",), report)
    assert [f.path for f in report.faults] == [("p", "regex")]
    assert not check_one_of(StringMatch(), ("exact", "prefix"), ("p",), report)


def test_members_of_a_list_differ():
    report = Report()
    check_unique(["a", "b", "a"], ("p",), "name", report)
    assert [f.path for f in report.faults] == [("p", 2, "name")]


def test_a_gateway_of_the_own_namespace_is_written_by_name():
    report = Report()
    check_gateway_names(("./gw",), ("p",), report)
    assert [f.remedy for f in report.blemishes] == ["write gw, or namespace/gw"]


def test_gateway_names():
    assert not faults(check_gateway_names, ("mesh", "gw", "ns/gw", "./gw", "gw.ns.svc.cluster.local"))
    assert [f[0] for f in faults(check_gateway_names, ("g@w", "n@/gw", "ns/", "a/b/c", "ns/g.w", "*/g"))] == [
        (index,) for index in range(6)
    ]


def test_addresses():
    assert not faults(check_subnets, ("10.0.0.0/8",))
    assert [f[0] for f in faults(check_subnets, ("10.0.0.0/8", "x"))] == [(1,)]
    assert not faults(check_unix_address, "unix:///a/b")
    assert not faults(check_unix_address, "unix://@abstract")
    assert faults(check_unix_address, "unix://a")
    assert faults(check_unix_address, "unix:///a/")
    assert is_host_address("a.b")
    assert is_host_address("::1")
    assert not is_host_address("*.a")
