"""Secrets of the snapshot made by an authority of the tests."""

from __future__ import annotations

import functools
import ssl

import trustme

from mesh import config


@functools.cache
def authority(name: str = "ours") -> trustme.CA:
    """A root; each name has its own."""
    return trustme.CA(organization_name=name)


def pair(*names: str, of: str = "ours", common_name: str | None = None) -> tuple[str, str]:
    """Chain and key in PEM."""
    leaf = authority(of).issue_cert(*names, common_name=common_name)
    chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
    return chain.decode(), leaf.private_key_pem.bytes().decode()


def roots(of: str = "ours") -> str:
    """The root in PEM."""
    return authority(of).cert_pem.bytes().decode()


def certificate(name: str, *hosts: str, of: str = "ours") -> config.Secret:
    """A secret with a certificate for these hosts."""
    chain, key = pair(*hosts, of=of)
    return config.Secret(name, chain, key)


def trust(name: str, of: str = "ours") -> config.Secret:
    """A secret with roots."""
    return config.Secret(name, roots=roots(of))


def client_context(
    *, of: str = "ours", leaf: trustme.LeafCert | None = None, alpn: tuple[str, ...] = ()
) -> ssl.SSLContext:
    """A client that trusts an authority."""
    context = ssl.create_default_context(cadata=roots(of))
    if leaf is not None:
        leaf.configure_cert(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
