"""Rules of a RequestAuthentication beyond its schema (Istio's webhook and the CRD's expressions)."""

from __future__ import annotations

from pilot.resources import jwks
from pilot.resources.meta import ObjectMeta
from pilot.resources.names import strict_header_fault
from pilot.resources.report import Report
from pilot.resources.request_authentication import JwtRule, RequestAuthentication
from pilot.resources.rules import check_duration, tell
from pilot.resources.url import scheme_of
from pilot.resources.validate_target_ref import check_attachment
from pilot.resources.yaml import Path


def validate(spec: RequestAuthentication, meta: ObjectMeta, report: Report) -> None:
    """Report every broken rule."""
    check_attachment(spec.selector, spec.target_refs, ("spec",), report, target_ref=spec.target_ref)
    for index, rule in enumerate(spec.jwt_rules):
        _check_rule(rule, ("spec", "jwtRules", index), report)


def _check_rule(rule: JwtRule, path: Path, report: Report) -> None:
    keys = {"jwksUri": rule.jwks_uri, "jwks_uri": rule.jwks_uri_snake, "jwks": rule.jwks}
    given = [name for name, value in keys.items() if value]
    for name in given[1:]:
        report((*path, name), f"cannot stand beside {given[0]}", "keep one source of keys")
    if not rule.issuer and not rule.jwks_uri and not rule.jwks_uri_snake:
        report(path, "names neither issuer nor jwksUri", "write the issuer of the tokens")
    for name in ("jwksUri", "jwks_uri"):
        if keys[name] and scheme_of(keys[name]) not in ("http", "https"):
            report((*path, name), f'"{keys[name]}" is not a URL of the web', "write for example https://host/jwks.json")
    _check_keys(rule.jwks, (*path, "jwks"), report)
    for index, output in enumerate(rule.output_claim_to_headers):
        tell(report, (*path, "outputClaimToHeaders", index, "header"), strict_header_fault(output.header))
    check_duration(rule.timeout, (*path, "timeout"), report)


def _check_keys(text: str, path: Path, report: Report) -> None:
    if not text:
        return
    try:
        keys = jwks.parse(text)
    except ValueError as exc:
        report(path, str(exc), 'write {"keys": [{"kty": "RSA", "kid": …, "n": …, "e": …}]}')
        return
    for index, key in enumerate(keys):
        if jwks.is_private(key):
            report.warn(path, f"key {index} is private", "write its public members only, and use a new key")
