"""SPIFFE ids as text."""

import pytest

from mesh.identity.spiffe import SpiffeError, SpiffeId, make, parse


def test_round_trip() -> None:
    identity = make("cluster.local", "default", "bookinfo-reviews")
    assert identity.uri == "spiffe://cluster.local/ns/default/sa/bookinfo-reviews"
    assert identity.principal == "cluster.local/ns/default/sa/bookinfo-reviews"
    assert str(identity) == identity.uri
    assert parse(identity.uri) == identity == SpiffeId("cluster.local", "default", "bookinfo-reviews")


def test_at_sign_in_the_trust_domain_becomes_a_dot() -> None:
    assert make("me@example.com", "a", "b").trust_domain == "me.example.com"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "cluster.local/ns/a/sa/b",
        "spiffe://cluster.local/ns/a/sa",
        "spiffe://cluster.local/ns/a/sa/b/c",
        "spiffe://cluster.local/ns//sa/b",
        "spiffe:///ns/a/sa/b",
        "spiffe://cluster.local/sa/a/ns/b",
        "spiffe://cluster.local/ns/../sa/b",
        "spiffe://cluster.local/ns/a/sa/b?x",
        "spiffe://CLUSTER/ns/a/sa/b",
        "https://cluster.local/ns/a/sa/b",
    ],
)
def test_anything_else_is_refused(uri: str) -> None:
    with pytest.raises(SpiffeError):
        parse(uri)
