"""Pick the filter chain for a connection, by what its first bytes said. Compiled once per push, synchronous."""

from __future__ import annotations

from typing import Final

from agent.downstream.sniff import ClientHello
from mesh import config

MESH_ALPN: Final = frozenset({"istio-http/1.0", "istio-http/1.1", "istio-h2", "istio", "istio-peer-exchange"})
"""ALPN names by which a mesh peer announces itself (semantics of Istio's inbound chains)."""


class Chains:
    """A listener's filter chains. `sniffing` False: one chain takes everything and no byte is looked at."""

    __slots__ = ("_chains", "sniffing")

    def __init__(self, chains: tuple[config.FilterChain, ...]) -> None:
        self._chains = chains
        self.sniffing = any(chain.transport != "any" or chain.server_names for chain in chains)

    def first(self) -> config.FilterChain | None:
        """The chain of a listener that needs no sniffing."""
        return self._chains[0] if self._chains else None

    def pick(self, hello: ClientHello | None) -> config.FilterChain | None:
        """First chain that fits; `hello` is None for a connection that does not begin with a ClientHello.

        None: the connection is closed (flag NR, `filter_chain_not_found`).
        """
        for chain in self._chains:
            if chain.transport == "any":
                return chain
            if chain.transport == "raw":
                if hello is None:
                    return chain
                continue
            if hello is None or (chain.transport == "mtls" and MESH_ALPN.isdisjoint(hello.alpn)):
                continue
            if not chain.server_names or _names_fit(chain.server_names, hello.server_name):
                return chain
        return None


def _names_fit(patterns: tuple[str, ...], name: str) -> bool:
    return any(
        pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:])) for pattern in patterns
    )
