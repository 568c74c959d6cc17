from pilot.resources.meta import MatchLabels, ObjectMeta
from pilot.resources.report import Report
from pilot.resources.rules import (
    check_duration,
    check_export_to,
    check_gateway_names,
    check_labels,
    check_match_labels,
    check_percent,
    check_port,
    check_port_map,
    check_regex,
    check_selector,
    check_subnets,
    check_unix_address,
    is_host_address,
)
from pilot.resources.virtual_service import PortSelector


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


def test_gateway_names():
    assert not faults(check_gateway_names, ("mesh", "gw", "ns/gw", "./gw", "gw.ns.svc.cluster.local"))
    assert [f[0] for f in faults(check_gateway_names, ("g@w", "n@/gw", "ns/", "a/b/c"))] == [(0,), (1,), (2,), (3,)]


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
