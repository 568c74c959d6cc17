"""One word of health out of three sources."""

from __future__ import annotations

import pytest

from agent.upstream.endpoint import Endpoint
from mesh import config


def test_identity_and_name() -> None:
    endpoint = Endpoint(config.Endpoint("10.0.0.1", 80, weight=0))
    assert endpoint.key == ("10.0.0.1", 80)
    assert endpoint.name == "10.0.0.1:80"
    assert endpoint.weight == 1
    assert Endpoint(config.Endpoint("::1", 80)).name == "[::1]:80"
    assert repr(endpoint) == "<Endpoint 10.0.0.1:80 healthy>"


@pytest.mark.parametrize(
    ("health", "checked", "ejected", "state"),
    [
        ("healthy", True, False, "healthy"),
        ("healthy", False, False, "unhealthy"),
        ("healthy", True, True, "ejected"),
        ("healthy", False, True, "unhealthy"),
        ("unhealthy", True, True, "unhealthy"),
        ("draining", True, False, "unhealthy"),
    ],
)
def test_states(health: str, checked: bool, ejected: bool, state: str) -> None:
    endpoint = Endpoint(config.Endpoint("a", 1, health=health))  # type: ignore[arg-type]
    endpoint.set_checked(checked)
    if ejected:
        endpoint.eject(9.0)
    assert endpoint.state == state
    assert endpoint.healthy is (state == "healthy")
    assert endpoint.ejected is ejected


def test_methods_tell_whether_the_answer_changed() -> None:
    endpoint = Endpoint(config.Endpoint("a", 1))
    assert endpoint.eject(9.0)
    assert not endpoint.set_checked(False)
    assert not endpoint.uneject()
    assert endpoint.set_checked(True)
    assert not endpoint.set_checked(True)
    assert endpoint.reconfigure(config.Endpoint("a", 1, weight=2))
    assert not endpoint.reconfigure(config.Endpoint("a", 1, weight=2, locality="r"))
    assert endpoint.reconfigure(config.Endpoint("a", 1, weight=2, health="unhealthy"))


def test_an_ejection_can_be_set_and_lifted_by_hand() -> None:
    endpoint = Endpoint(config.Endpoint("a", 1))
    endpoint.ejected = True
    assert endpoint.state == "ejected"
    endpoint.ejected = False
    assert endpoint.healthy
