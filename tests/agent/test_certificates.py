"""Certificates as the admin port shows them, against what a cryptography library reads."""

from __future__ import annotations

import pytest

from agent.certificates import shown_certificates, shown_secrets
from agent.credentials import Material
from mesh import config
from mesh.identity.pki import read_certificate
from tests.rig import NOW, mesh_identity
from tests.tls_material import pair, roots


@pytest.mark.parametrize("account", [f"app-{n}" for n in range(8)])
def test_the_leaf_and_the_root(account: str) -> None:
    identity = mesh_identity(account)
    leaf, root = shown_certificates(identity)
    assert int(leaf.serial, 16) == int(read_certificate(identity.certificate.chain_pem).serial, 16)
    assert leaf.uris == (f"spiffe://cluster.local/ns/default/sa/{account}",)
    assert (leaf.not_before, leaf.not_after, leaf.is_authority) == (NOW, NOW + 3600, False)
    assert int(root.serial, 16) == int(read_certificate(identity.roots_pem).serial, 16)
    assert root.is_authority
    assert root.not_before < NOW < root.not_after
    assert leaf.serial == leaf.serial.upper()


def test_what_secrets_hold() -> None:
    chain, key = pair("a.test")
    both = Material(chain.encode(), key.encode(), roots().encode())
    leaf, root = shown_secrets([(config.Secret("web"), both), (config.Secret("broken"), None)])
    assert int(leaf.serial, 16) == int(read_certificate(chain.encode()).serial, 16)
    assert (leaf.secret, leaf.is_authority) == ("web", False)
    assert int(root.serial, 16) == int(read_certificate(roots().encode()).serial, 16)
    assert (root.secret, root.is_authority) == ("web", True)
    assert root.not_after == read_certificate(roots().encode()).not_after
