"""Pick the filter chain for a connection, by what its first bytes said. Compiled once per push, synchronous."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.downstream.sniff import Application, ClientHello
from mesh import config

MESH_ALPN: Final = frozenset({"istio-http/1.0", "istio-http/1.1", "istio-h2", "istio", "istio-peer-exchange"})
"""ALPN names by which a mesh peer announces itself (semantics of Istio's inbound chains)."""


_MESH_HTTP: Final = frozenset({"istio-http/1.0", "istio-http/1.1", "istio-h2"})
"""Those of a mesh peer that has requests to send; one that offers none of them relays opaque bytes."""


class Chains:
    """A listener's filter chains. `sniffing` False: transport decides nothing, and no byte is looked at for it."""

    __slots__ = ("_chains", "_named", "_unnamed", "sniffing")

    def __init__(self, chains: tuple[config.FilterChain, ...]) -> None:
        self._chains = chains
        self._named: dict[str, list[config.FilterChain]] = {}
        for chain in chains:
            for pattern in chain.server_names:
                self._named.setdefault(pattern, []).append(chain)
        self._unnamed = tuple(chain for chain in chains if not chain.server_names)
        self.sniffing = any(chain.transport != "any" or chain.server_names for chain in chains)

    def candidates(self, hello: ClientHello | None) -> tuple[config.FilterChain, ...]:
        """The chains that fit a ClientHello, or None for a connection that does not begin with one.

        More than one: what the connection carries decides among them (`choose`); they terminate the same TLS. Those
        that name the server best come first: exactly, then by the longest wildcard, then not at all (Envoy's order).
        None at all: the connection is closed (flag NR, `filter_chain_not_found`).
        """
        found: list[config.FilterChain] = []
        for chain in self._ranked(hello):
            if (found and chain.tls != found[0].tls) or not _fits(chain, hello):
                continue
            found.append(chain)
            if chain.application == "any":
                break
        return tuple(found)

    def _ranked(self, hello: ClientHello | None) -> Iterator[config.FilterChain]:
        if hello is not None and self._named:
            for pattern in _patterns(hello.server_name):
                yield from self._named.get(pattern, ())
        yield from self._unnamed


def choose(candidates: tuple[config.FilterChain, ...], carried: Application) -> config.FilterChain | None:
    """The first of the candidates for what the connection carries."""
    for chain in candidates:
        if chain.application in ("any", carried):
            return chain
    return None


def _fits(chain: config.FilterChain, hello: ClientHello | None) -> bool:
    if chain.transport == "any":
        return True
    if hello is None or chain.transport == "raw":
        return hello is None and chain.transport == "raw"
    of_mesh = not MESH_ALPN.isdisjoint(hello.alpn)
    if chain.application == "http" and of_mesh and _MESH_HTTP.isdisjoint(hello.alpn):
        return False
    return chain.transport == "tls" or of_mesh


def _patterns(name: str) -> Iterator[str]:
    """What may stand for the name, best first."""
    yield name
    _, dot, rest = name.partition(".")
    while dot:
        yield f"*.{rest}"
        _, dot, rest = rest.partition(".")
    yield "*"
