import pytest

from pilot.resources.names import (
    domain_fault,
    header_fault,
    header_value_fault,
    is_ip,
    label_fault,
    label_key_fault,
    label_value_fault,
    name_fault,
    partial_wildcard_fault,
    port_fault,
    port_name_fault,
    strict_header_fault,
    subnet_fault,
)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (name_fault, ["a", "a-b.c", "0"], ["", "A", "-a", "a_b", "a" * 254]),
        (label_fault, ["a", "v1", "A-b"], ["", "a.b", "-a", "a-", "a" * 64]),
        (
            domain_fault,
            ["a", "a.b", "a.b.", "A1.x", "1.a"],
            ["", "*.a", "a.1", "1", "a..b", "a_b", "a.-b", "a" * 64, "a." * 200],
        ),
        (label_key_fault, ["app", "a/b", "k8s.io/x_y.z"], ["", "/a", "a/", "a b", "x" * 64, "a_b/c", "*"]),
        (label_value_fault, ["", "v1", "a_b.c-d"], ["-", "a b", "*", "x" * 64]),
        (header_fault, ["x-a", "X_y", "*"], ["", "a b", ":path", "::", "a:b"]),
        (strict_header_fault, ["x-a", "A1"], ["", "x_a", "a b"]),
        (partial_wildcard_fault, ["*", "*.a", "a"], ["*a", "*-a.b"]),
        (port_fault, [1, 65535], [0, -1, 65536]),
        (port_name_fault, ["http", "a-1"], ["", "@", "-a", "a" * 64]),
        (subnet_fault, ["10.0.0.1", "10.0.0.0/8", "::1/128"], ["", "a", "1.2.3.4/33", "::/129", "1.2.3/8", "1.2.3.4/"]),
    ],
)
def test_names(check, good, bad):
    assert [check(value) for value in good] == [None] * len(good)
    for value in bad:
        fault = check(value)
        assert fault is not None, value
        assert all(fault)


def test_wildcards_start_the_first_label():
    for good in ("*", "*.a.com", "*a.com", "*-a.com", "a.com", "1"):
        assert domain_fault(good, wildcard=True) is None
    for bad in ("a.*.com", "a*.com", "**.com", "*.*", "*.1"):
        assert domain_fault(bad, wildcard=True)


def test_istio_sni_names():
    assert domain_fault("outbound_.80_._.a.b", sni=True) is None
    assert domain_fault("outbound_.80_._.a.b")
    for bad in ("outbound_.80_", "outbound_.http_._.a.b", "outbound_.80_._.1"):
        assert domain_fault(bad, sni=True)


def test_namespaces_are_labels():
    assert name_fault("a-b", label=True) is None
    assert name_fault("a.b", label=True)


def test_addresses():
    assert is_ip("10.0.0.1")
    assert is_ip("2001:db8::")
    assert not is_ip("fe80::1%eth0")
    assert not is_ip("10.0.0.256")


@pytest.mark.parametrize("value", ["", "plain", "100%%", "%PROTOCOL%", "a %REQ(x-a?y):10% b", "%START_TIME(%Y/%m)%"])
def test_header_values(value):
    assert header_value_fault(value) is None


@pytest.mark.parametrize("value", ["100%", "%PROTOCOL", "%REQ(x%", "a%b c", "%REQ(x)", "% %", "a\nb", "%REQ:x%"])
def test_bad_header_values(value):
    assert header_value_fault(value) is not None
