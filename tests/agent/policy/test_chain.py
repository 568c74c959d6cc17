"""Guards: policies follow their chain's name from push to push, and reach the connections that are open."""

import pytest

from agent.policy.authz import Facts
from agent.policy.chain import OPEN, guards
from mesh import config

HTTP = config.HttpChain("web")
TCP = config.TcpChain((("app", 1),))
NOBODY = config.AuthzPolicy("nobody", "default")


def listener(*chains):
    return config.Listener("in", "inbound", port=15006, chains=chains)


def to_port(port):
    rule = config.AuthzRule(conditions=(config.AuthzCondition("destination.port", (str(port),)),))
    return config.AuthzPolicy("port", "default", "ALLOW", (rule,))


def test_no_policies_cost_nothing():
    assert guards(listener(config.FilterChain("a", http=HTTP)), {})["a"].authz is None
    assert OPEN.authz is None


def test_a_push_reaches_open_connections():
    held = guards(listener(config.FilterChain("a", http=HTTP)), {})
    later = guards(listener(config.FilterChain("a", http=HTTP, policies=(NOBODY,))), held)
    assert later["a"] is held["a"]
    assert not held["a"].authz.check(Facts()).allowed
    guards(listener(config.FilterChain("a", http=HTTP)), later)
    assert held["a"].authz is None


def test_connections_of_a_chain_that_is_gone_are_under_the_listeners_policies():
    held = guards(listener(config.FilterChain("mtls", http=HTTP), config.FilterChain("raw", http=HTTP)), {})
    guards(listener(config.FilterChain("mtls", http=HTTP, policies=(NOBODY,))), held)
    assert not held["raw"].authz.check(Facts()).allowed
    before = held["raw"].authz
    guards(listener(), held)
    assert held["raw"].authz is before


@pytest.mark.parametrize(("destination", "port"), [(3306, 3306), (0, 15006)])
def test_ports_are_the_apps(destination, port):
    chain = config.FilterChain("a", tcp=TCP, policies=(to_port(port),), destination_port=destination)
    assert guards(listener(chain), {})["a"].authz.check(Facts()).allowed
