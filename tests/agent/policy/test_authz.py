"""What policies decide, on facts alone: value syntax, identities, addresses, and what cannot be judged."""

import pytest

from agent.policy.authz import Authz, Facts, parse_ip
from mesh import config

PEER = {
    "principal": "cluster.local/ns/shop/sa/front",
    "trust_domain": "cluster.local",
    "namespace": "shop",
    "service_account": "front",
}


def condition(attribute, *values, negated=False, name=""):
    return config.AuthzCondition(attribute, values, negated, name)


def policy(*conditions, action="ALLOW", name="p", **parts):
    rule = config.AuthzRule(conditions=conditions, **parts)
    return config.AuthzPolicy(name, "default", action, (rule,))


def compiled(*policies, http=True, port=9080):
    return Authz(policies, http=http, destination_port=port)


def facts(
    path=b"/",
    *,
    method=b"GET",
    authority=b"app",
    headers=None,
    source="10.0.0.1:5000",
    destination="10.0.0.2:80",
    **more,
):
    return Facts(source, destination, method=method, authority=authority, path=path, headers=headers or {}, **more)


def allows(given, asked, **how):
    return compiled(policy(given), **how).check(asked).allowed


@pytest.mark.parametrize(
    ("value", "path", "expected"),
    [
        ("/a", b"/a", True),
        ("/a", b"/a?b=/c", True),
        ("/a", b"/a/", False),
        ("/a", b"/A", False),
        ("/a*", b"/ab/c", True),
        ("/a*", b"/b", False),
        ("*.txt", b"/x/y.txt?z", True),
        ("*.txt", b"/x.txt/y", False),
        ("*", b"/", True),
        ("/a*b", b"/axb", False),
        ("/a*b", b"/a*b", True),
        ("/a/{*}/c", b"/a/b/c", True),
        ("/a/{*}/c", b"/a/b/b/c", False),
        ("/a/{*}/c", b"/a//c", False),
        ("/a/{**}", b"/a/b/c", True),
        ("/a/{**}", b"/a/", True),
        ("/a/{**}", b"/b/c", False),
        ("/a.b/{*}", b"/axb/c", False),
    ],
)
def test_paths(value, path, expected):
    assert allows(condition("request.path", value), facts(path)) is expected
    assert allows(condition("request.path", value, negated=True), facts(path)) is not expected


@pytest.mark.parametrize(
    ("value", "authority", "expected"),
    [
        ("a.example.com", b"A.Example.com", True),
        ("A.example.com", b"a.example.com:8080", True),
        ("a.example.com:8080", b"a.example.com:8080", True),
        ("a.example.com:8080", b"a.example.com", False),
        ("*.example.com", b"b.example.com:80", True),
        ("a.*", b"a.org", True),
        ("*", b"", False),
        ("*", b"x", True),
    ],
)
def test_hosts_in_any_case_and_on_any_port(value, authority, expected):
    assert allows(condition("request.host", value), facts(authority=authority)) is expected
    assert allows(condition("request.header", value, name=":authority"), facts(authority=authority)) is expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (condition("request.method", "GET", "PUT"), True),
        (condition("request.method", "get"), False),
        (condition("request.header", "GET", name=":method"), True),
        (condition("request.header", "/x?y", name=":path"), True),
        (condition("request.header", "1", name="x-a"), True),
        (condition("request.header", "2", name="x-a"), False),
        (condition("request.header", "*", name="x-empty"), True),
        (condition("request.header", "*", name="x-none"), False),
        (condition("request.header", "2", name="x-none", negated=True), True),
        (condition("request.header", "x", name=":odd"), False),
        (condition("destination.port", "80", "9080"), True),
        (condition("destination.port", "80"), False),
        (condition("connection.sni", "app.*"), True),
        (condition("connection.sni", "web.*"), False),
    ],
)
def test_requests(given, expected):
    asked = facts(b"/x?y", headers={b"x-a": b"1", b"x-empty": b""}, sni="app.example.com")
    assert allows(given, asked) is expected


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        ("source.principal", "cluster.local/ns/shop/sa/front", True),
        ("source.principal", "cluster.local/ns/shop/*", True),
        ("source.principal", "*/sa/front", True),
        ("source.principal", "*", True),
        ("source.principal", "other/ns/shop/sa/front", False),
        ("source.namespace", "shop", True),
        ("source.namespace", "s*p", True),
        ("source.namespace", "sho", False),
        ("source.serviceAccount", "shop/front", True),
        ("source.serviceAccount", "default/front", False),
        ("source.trustDomain", "cluster.*", True),
        ("source.trustDomain", "other", False),
    ],
)
def test_peers(attribute, value, expected):
    assert allows(condition(attribute, value), facts(**PEER)) is expected
    assert not allows(condition(attribute, value), facts())
    assert allows(condition(attribute, value, negated=True), facts())


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        ("source.ip", "10.0.0.1", True),
        ("source.ip", "10.0.0.0/31", True),
        ("source.ip", "10.0.0.2/31", False),
        ("source.ip", "::/0", False),
        ("destination.ip", "10.0.0.2", True),
        ("remote.ip", "203.0.113.0/24", True),
        ("remote.ip", "198.51.100.7", False),
        ("odd.ip", "0.0.0.0/0", False),
        ("source.ip", "nonsense", False),
    ],
)
def test_addresses(attribute, value, expected):
    asked = facts(headers={b"x-forwarded-for": b"198.51.100.7, 203.0.113.9"})
    assert allows(condition(attribute, value), asked) is expected


def test_who_is_not_named_by_others_is_the_peer():
    for forwarded in ({}, {b"x-forwarded-for": b"unknown"}):
        assert allows(condition("remote.ip", "10.0.0.1"), facts(headers=forwarded))
    assert not allows(condition("source.ip", "0.0.0.0/0"), facts(source="nowhere"))


def test_addresses_are_read_with_and_without_ports():
    assert parse_ip("1.2.3.4") == parse_ip("1.2.3.4:80") == parse_ip("[::ffff:1.2.3.4]:80") == (4, 0x01020304)
    assert parse_ip("[::1]:80") == parse_ip("::1") == (6, 1)
    assert parse_ip("") is None


def test_deny_comes_before_allow_and_says_who_decided():
    asked = compiled(
        policy(),
        policy(condition("request.path", "/admin*"), action="DENY", name="no-admin"),
        policy(condition("request.path", "/x"), action="DENY", name="other"),
    )
    verdict = asked.check(facts(b"/admin/x"))
    assert (verdict.allowed, verdict.policy, verdict.rule) == (False, "default/no-admin", 0)
    assert verdict.reason == "rbac_access_denied_matched_policy[ns[default]-policy[no-admin]-rule[0]]"
    verdict = asked.check(facts(b"/"))
    assert (verdict.allowed, verdict.policy) == (True, "default/p")


def test_without_a_match_only_an_allow_policy_denies():
    verdict = compiled(config.AuthzPolicy("nothing", "default")).check(facts())
    assert not verdict.allowed
    assert verdict.reason == "rbac_access_denied_matched_policy[none]"
    assert compiled(policy(condition("request.path", "/x"), action="DENY")).check(facts()).allowed


def test_a_rule_takes_one_source_one_operation_and_every_condition():
    rule = config.AuthzRule(
        sources=((condition("source.namespace", "a"),), (condition("source.namespace", "shop"),)),
        operations=(
            (condition("request.method", "GET"), condition("request.path", "/a"), condition("request.host", "app")),
            (condition("request.method", "PUT"),),
        ),
        conditions=(condition("destination.port", "9080"), condition("source.ip", "10.0.0.1")),
    )
    asked = compiled(config.AuthzPolicy("p", "default", "ALLOW", (rule,)))
    assert asked.check(facts(b"/a", **PEER)).allowed
    assert asked.check(facts(b"/b", method=b"PUT", **PEER)).allowed
    assert not asked.check(facts(b"/b", **PEER)).allowed
    assert not asked.check(facts(b"/a", source="10.9.9.9:1", **PEER)).allowed
    assert not asked.check(facts(b"/a")).allowed


@pytest.mark.parametrize("negated", [False, True])
def test_what_cannot_be_judged_lets_nobody_in(negated):
    token = condition("request.auth.principal", "*", negated=negated)
    assert not allows(token, facts())
    deny = compiled(policy(token, condition("request.path", "/x"), action="DENY"))
    assert not deny.check(facts(b"/x")).allowed
    assert deny.check(facts(b"/y")).allowed


def test_an_alternative_that_cannot_be_judged_leaves_the_others():
    sources = ((condition("request.auth.principal", "*"),), (condition("source.namespace", "shop"),))
    asked = compiled(policy(sources=sources))
    assert asked.check(facts(**PEER)).allowed
    assert not asked.check(facts()).allowed


def test_opaque_bytes_have_no_path():
    path, port = condition("request.path", "/x"), condition("destination.port", "3306")
    sources = ((path,), (port,))
    assert not compiled(policy(sources=sources), http=False, port=3306).check(facts()).allowed
    deny = policy(path, port, action="DENY")
    assert not compiled(deny, http=False, port=3306).check(facts()).allowed
    assert compiled(deny, http=False, port=1).check(facts()).allowed


def repeated(*values):
    """Facts of a request that repeats x-role."""
    fields = [(b"X-Role", value) for value in values]
    return facts(headers={b"x-role": b", ".join(values)}, fields=fields)


@pytest.mark.parametrize("values", [(b"guest", b"admin"), (b"admin", b"guest"), (b"admin",)])
def test_repeating_a_header_hides_it_from_no_denial(values):
    asked = condition("request.header", "admin", name="x-role")
    assert not compiled(policy(asked, action="DENY")).check(repeated(*values)).allowed
    others = condition("request.header", "admin", name="x-role", negated=True)
    assert not compiled(policy(others)).check(repeated(*values)).allowed


def test_an_allowed_header_must_be_the_whole_value():
    asked = condition("request.header", "admin", name="x-role")
    assert compiled(policy(asked)).check(repeated(b"admin")).allowed
    assert not compiled(policy(asked)).check(repeated(b"admin", b"guest")).allowed
