"""Pick the filter chain for a connection, by what its first bytes said. Compiled once per push, synchronous."""

from __future__ import annotations

from typing import Final

from agent.downstream.sniff import Application, ClientHello
from mesh import config

MESH_ALPN: Final = frozenset({"istio-http/1.0", "istio-http/1.1", "istio-h2", "istio", "istio-peer-exchange"})
"""ALPN names by which a mesh peer announces itself (semantics of Istio's inbound chains)."""


_MESH_HTTP: Final = frozenset({"istio-http/1.0", "istio-http/1.1", "istio-h2"})
"""Those of a mesh peer that has requests to send; one that offers none of them relays opaque bytes."""


class Chains:
    """A listener's filter chains. `sniffing` False: transport decides nothing, and no byte is looked at for it."""

    __slots__ = ("_chains", "sniffing")

    def __init__(self, chains: tuple[config.FilterChain, ...]) -> None:
        self._chains = chains
        self.sniffing = any(chain.transport != "any" or chain.server_names for chain in chains)

    def candidates(self, hello: ClientHello | None) -> tuple[config.FilterChain, ...]:
        """The chains that fit a ClientHello, or None for a connection that does not begin with one.

        More than one: what the connection carries decides among them (`choose`); they terminate the same TLS.
        None at all: the connection is closed (flag NR, `filter_chain_not_found`).
        """
        found: list[config.FilterChain] = []
        for chain in self._chains:
            if (found and chain.tls != found[0].tls) or not _fits(chain, hello):
                continue
            found.append(chain)
            if chain.application == "any":
                break
        return tuple(found)


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
    if chain.transport == "mtls" and MESH_ALPN.isdisjoint(hello.alpn):
        return False
    if chain.application == "http" and not MESH_ALPN.isdisjoint(hello.alpn) and _MESH_HTTP.isdisjoint(hello.alpn):
        return False
    return not chain.server_names or _names_fit(chain.server_names, hello.server_name)


def _names_fit(patterns: tuple[str, ...], name: str) -> bool:
    return any(
        pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:])) for pattern in patterns
    )
