"""Which filter chain a connection gets, by what its first bytes said."""

from __future__ import annotations

from typing import Any

import pytest

from agent.downstream.chain import Chains
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
    chain = listener.pick(hello)
    assert (chain.name if chain else None) == expected


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
    assert (listener.pick(ClientHello(name)) is not None) is fits


def test_only_a_choice_needs_the_first_bytes() -> None:
    assert not chains("any").sniffing
    assert PERMISSIVE.sniffing
    assert chains("any", server_names=("a",)).sniffing


def test_first() -> None:
    first = chains("any").first()
    assert first is not None
    assert first.name == "any"
    assert chains().first() is None


def by_name(*names: str, transport: str = "tls") -> list[Any]:
    return [config.FilterChain(name, transport, (name,) if name else ()) for name in names]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.b.c.test", "a.b.c.test"),
        ("x.b.c.test", "*.b.c.test"),
        ("y.x.b.c.test", "*.b.c.test"),
        ("b.c.test", "*.c.test"),
        ("c.test", "*.test"),
        ("test", ""),
        ("", ""),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_best_name_wins_in_any_order(name: str, expected: str, reverse: bool) -> None:
    made = by_name("", "*.test", "*.c.test", "*.b.c.test", "a.b.c.test")
    listener = Chains(tuple(reversed(made) if reverse else made))
    chain = listener.pick(ClientHello(name))
    assert chain is not None
    assert chain.name == expected


def test_a_name_of_another_transport_falls_to_the_next_best() -> None:
    listener = Chains((*by_name("a.test", transport="mtls"), *by_name("*.test")))
    for alpn, expected in (((), "*.test"), (("istio",), "a.test")):
        chain = listener.pick(ClientHello("a.test", alpn))
        assert chain is not None
        assert chain.name == expected
