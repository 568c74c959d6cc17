"""Which filter chain a connection gets, by what its first bytes said."""

from __future__ import annotations

from typing import Any

import pytest

from agent.downstream.chain import Chains, choose
from agent.downstream.sniff import ClientHello
from mesh import config

MESH = ClientHello("app", ("istio",))
OUTSIDER = ClientHello("app", ("h2", "http/1.1"))


def chains(*transports: str, server_names: tuple[str, ...] = ()) -> Chains:
    """Chains of these transports, named like them."""
    made: list[Any] = [config.FilterChain(t, t, server_names) for t in transports]  # type: ignore[arg-type]
    return Chains(tuple(made))


PERMISSIVE = chains("mtls", "raw")


@pytest.mark.parametrize(
    ("listener", "hello", "expected"),
    [
        (PERMISSIVE, MESH, "mtls"),
        (PERMISSIVE, None, "raw"),
        (PERMISSIVE, OUTSIDER, None),
        (chains("mtls"), MESH, "mtls"),
        (chains("mtls"), None, None),
        (chains("tls", "raw"), OUTSIDER, "tls"),
        (chains("raw", "any"), MESH, "any"),
        (chains(), None, None),
    ],
)
def test_pick(listener: Chains, hello: ClientHello | None, expected: str | None) -> None:
    assert [chain.name for chain in listener.candidates(hello)] == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("app", "app", True),
        ("app", "apps", False),
        ("*", "", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
    ],
)
def test_server_names(pattern: str, name: str, fits: bool) -> None:
    listener = chains("tls", server_names=(pattern,))
    assert bool(listener.candidates(ClientHello(name))) is fits


def test_only_a_choice_needs_the_first_bytes() -> None:
    assert not chains("any").sniffing
    assert PERMISSIVE.sniffing
    assert chains("any", server_names=("a",)).sniffing


TLS = config.DownstreamTls()
HTTP_PEER = ClientHello("app", ("istio-http/1.1", "istio", "http/1.1"))
TCP_PEER = ClientHello("app", ("istio-peer-exchange", "istio"))
AUTO = Chains(
    (
        config.FilterChain("mtls-http", "mtls", tls=TLS, application="http"),
        config.FilterChain("mtls-tcp", "mtls", tls=TLS),
        config.FilterChain("raw-http", "raw", application="http"),
        config.FilterChain("raw-tcp"),
    )
)


@pytest.mark.parametrize(
    ("hello", "expected"),
    [
        (HTTP_PEER, ["mtls-http", "mtls-tcp"]),
        (TCP_PEER, ["mtls-tcp"]),
        (OUTSIDER, ["raw-tcp"]),
        (None, ["raw-http", "raw-tcp"]),
    ],
)
def test_what_is_carried_decides_among_chains_of_one_transport(hello: ClientHello | None, expected: list[str]) -> None:
    assert [chain.name for chain in AUTO.candidates(hello)] == expected


def test_choose() -> None:
    candidates = AUTO.candidates(None)
    assert choose(candidates, "http") is candidates[0]
    assert choose(candidates, "tcp") is candidates[1]
    assert choose(candidates[:1], "tcp") is None
    assert choose((), "http") is None
