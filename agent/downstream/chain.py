"""Pick the filter chain for a connection, by what its first bytes said. Compiled once per push, synchronous."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.downstream.sniff import ClientHello
from mesh import config

MESH_ALPN: Final = frozenset({"istio-http/1.0", "istio-http/1.1", "istio-h2", "istio", "istio-peer-exchange"})
"""ALPN names by which a mesh peer announces itself (semantics of Istio's inbound chains)."""


class Chains:
    """A listener's filter chains. `sniffing` False: one chain takes everything and no byte is looked at."""

    __slots__ = ("_chains", "_named", "_unnamed", "sniffing")

    def __init__(self, chains: tuple[config.FilterChain, ...]) -> None:
        self._chains = chains
        self._named: dict[str, list[config.FilterChain]] = {}
        for chain in chains:
            for pattern in chain.server_names:
                self._named.setdefault(pattern, []).append(chain)
        self._unnamed = tuple(chain for chain in chains if not chain.server_names)
        self.sniffing = any(chain.transport != "any" or chain.server_names for chain in chains)

    def first(self) -> config.FilterChain | None:
        """The chain of a listener that needs no sniffing."""
        return self._chains[0] if self._chains else None

    def pick(self, hello: ClientHello | None) -> config.FilterChain | None:
        """First chain that fits, among those that name the server best: exactly, then by the longest wildcard, then
        not at all (Envoy's order). `hello` is None for a connection that does not begin with a ClientHello.

        None: the connection is closed (flag NR, `filter_chain_not_found`).
        """
        if hello is not None and self._named:
            for pattern in _patterns(hello.server_name):
                for chain in self._named.get(pattern, ()):
                    if _fits(chain, hello):
                        return chain
        return next((chain for chain in self._unnamed if _fits(chain, hello)), None)


def _fits(chain: config.FilterChain, hello: ClientHello | None) -> bool:
    if chain.transport == "any":
        return True
    if hello is None or chain.transport == "raw":
        return hello is None and chain.transport == "raw"
    return chain.transport == "tls" or not MESH_ALPN.isdisjoint(hello.alpn)


def _patterns(name: str) -> Iterator[str]:
    """What may stand for the name, best first."""
    yield name
    _, dot, rest = name.partition(".")
    while dot:
        yield f"*.{rest}"
        _, dot, rest = rest.partition(".")
    yield "*"
