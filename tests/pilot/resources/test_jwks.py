import json

import pytest

from pilot.resources import jwks

RSA = {"kty": "RSA", "n": "AQAB", "e": "AQAB"}


def test_a_set_and_a_key_by_itself():
    assert jwks.parse(json.dumps({"keys": [RSA]})) == [RSA]
    assert jwks.parse(json.dumps(RSA)) == [RSA]
    assert jwks.parse('{"keys": []}') == []


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ("keys", "is not JSON"),
        ("[]", "is not a key set"),
        ('{"keys": 1}', "is not a key set"),
        ("{}", "key 0 has no kty"),
        ('{"keys": [1]}', "key 0 has no kty"),
        ('{"keys": [{"kty": "DSA"}]}', "key 0 has no kty"),
        ('{"keys": [{"kty": "RSA", "n": "AQAB"}]}', "key 0 (RSA) lacks e"),
        ('{"keys": [{"kty": "EC", "crv": "P-256", "x": ""}]}', "key 0 (EC) lacks x, y"),
    ],
)
def test_what_is_wrong_is_told(document, what):
    with pytest.raises(ValueError) as raised:
        jwks.parse(document)
    assert what in str(raised.value)


def test_private_members():
    assert not jwks.is_private(RSA)
    assert jwks.is_private({**RSA, "d": "AQAB"})
    assert not jwks.is_private({"kty": "oct", "k": "AQAB"})
