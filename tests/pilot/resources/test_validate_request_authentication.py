import pytest

from tests.pilot.faults import paths, warnings

KEY = '{"kty":"RSA","n":"AQAB","e":"AQAB"%s}'


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("{issuer: a}", []),
        ("{jwksUri: 'https://a/keys'}", []),
        ("{}", [""]),
        ("{jwks: '{\"keys\": []}'}", [""]),
        ("{issuer: a, jwksUri: a.com}", ["jwksUri"]),
        ("{issuer: a, jwks_uri: 'ftp://a.com'}", ["jwks_uri"]),
        ("{issuer: a, jwksUri: 'https://a/keys', jwks: '{\"keys\": []}'}", ["jwks"]),
        ("{issuer: a, jwksUri: 'https://a', jwks_uri: 'https://a'}", ["jwks_uri"]),
        ("{issuer: a, jwks: 'no'}", ["jwks"]),
        ("{issuer: a, outputClaimToHeaders: [{header: x_sub, claim: sub}]}", ["outputClaimToHeaders[0].header"]),
        ("{issuer: a, timeout: 1us}", ["timeout"]),
    ],
)
def test_rules(rule, expected):
    found = paths("RequestAuthentication", f"jwtRules: [{rule}]")
    assert [path.removeprefix("jwtRules[0]").removeprefix(".") for path in found] == expected


def test_a_private_key_in_the_open_is_told():
    rule = "jwtRules: [{issuer: a, jwks: '{\"keys\": [%s]}'}]"
    assert warnings("RequestAuthentication", rule % (KEY % ',"d":"AQAB"')) == ["jwtRules[0].jwks"]
    assert warnings("RequestAuthentication", rule % (KEY % "")) == []
