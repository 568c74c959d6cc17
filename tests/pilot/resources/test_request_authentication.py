from pilot.resources.request_authentication import ClaimToHeader, JwtHeader
from tests.pilot.faults import paths, spec


def test_every_field_decodes():
    made = spec(
        "RequestAuthentication",
        """
        selector: {matchLabels: {app: a}}
        jwtRules:
          - issuer: https://issuer
            audiences: [a]
            jwksUri: https://issuer/keys
            fromHeaders: [{name: x-token, prefix: 'Bearer '}]
            fromParams: [token]
            fromCookies: [session]
            outputPayloadToHeader: x-payload
            outputClaimToHeaders: [{header: x-sub, claim: sub}]
            forwardOriginalToken: true
            timeout: 2s
            spaceDelimitedClaims: [roles]
            presence: REQUIRED
          - jwks_uri: https://other/keys
        """,
    )
    rule, older = made.jwt_rules
    assert (rule.issuer, rule.audiences, rule.jwks_uri, rule.timeout) == (
        "https://issuer",
        ("a",),
        "https://issuer/keys",
        2,
    )
    assert rule.from_headers == (JwtHeader(name="x-token", prefix="Bearer "),)
    assert (rule.from_params, rule.from_cookies) == (("token",), ("session",))
    assert rule.output_claim_to_headers == (ClaimToHeader(header="x-sub", claim="sub"),)
    assert (rule.output_payload_to_header, rule.forward_original_token) == ("x-payload", True)
    assert (rule.space_delimited_claims, rule.presence) == (("roles",), "REQUIRED")
    assert older.jwks_uri_snake == "https://other/keys"


def test_texts_are_not_empty_and_lists_have_an_end():
    rule = "{issuer: '', audiences: [''], fromParams: [''], fromCookies: [''], fromHeaders: [{}], presence: MAYBE}"
    assert paths("RequestAuthentication", f"jwtRules: [{rule}]") == [
        "jwtRules[0].issuer",
        "jwtRules[0].audiences[0]",
        "jwtRules[0].fromParams[0]",
        "jwtRules[0].fromCookies[0]",
        "jwtRules[0].fromHeaders[0].name",
        "jwtRules[0].presence",
    ]
    claims = ", ".join(f"c{n}" for n in range(65))
    assert paths("RequestAuthentication", f"jwtRules: [{{issuer: a, spaceDelimitedClaims: [{claims}]}}]") == [
        "jwtRules[0].spaceDelimitedClaims"
    ]
