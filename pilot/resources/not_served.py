"""The fields that Istio knows, that decode, and that this mesh does not act on yet.

One table: for each kind, paths below `spec` (lists are walked through, a part with * matches keys of a
map) and what happens instead. A field leaves this table when it is served; docs take it from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from pilot.resources.report import Finding
from pilot.resources.yaml import Path


class Unserved(NamedTuple):
    """A field by its path, what happens instead, and for which values (all, when None)."""

    path: str
    instead: str
    when: Callable[[Any], bool] | None = None


class _Is:
    """Values that are not served, whatever their case; str() names them."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def __call__(self, value: Any) -> bool:
        return str(value).upper() in self._words

    def __str__(self) -> str:
        return ", ".join(self._words)


class _Starts:
    """Values that are not served, by how they begin; str() names them."""

    def __init__(self, *prefixes: str) -> None:
        self._prefixes = prefixes

    def __call__(self, value: Any) -> bool:
        return str(value).upper().startswith(self._prefixes)

    def __str__(self) -> str:
        return ", ".join(f"{prefix.lower()}*" for prefix in self._prefixes)


_is, _starts = _Is, _Starts
_UNKNOWN = "it is not known: an ALLOW alternative with it never matches, a DENY one matches without it"
_OPAQUE = "sidecars relay connections by the service's own address; gateways act on it"
_SIMPLE_LB = "the default load balancer (LEAST_REQUEST) chooses"
_POLICY_BLOCKS = (
    Unserved("loadBalancer.consistentHash", _SIMPLE_LB),
    Unserved("loadBalancer.simple", _SIMPLE_LB, _is("PASSTHROUGH")),
    Unserved("loadBalancer.warmup", "new endpoints get their full share at once"),
    Unserved("loadBalancer.warmupDurationSecs", "new endpoints get their full share at once"),
    Unserved("loadBalancer.localityLbSetting", "localities are not looked at"),
    Unserved("loadBalancer.zoneAwareLbSetting", "localities are not looked at"),
    Unserved("outlierDetection.outlierDetectionHttpErrorCodes", "every 5xx counts as an error"),
    Unserved("tls.credentialName", "gateways act on it; sidecars refuse connections to the destination"),
)


def _prefixed(prefix: str) -> tuple[Unserved, ...]:
    return tuple(row._replace(path=f"{prefix}.{row.path}") for row in _POLICY_BLOCKS)


def _policy(prefix: str) -> tuple[Unserved, ...]:
    return (
        *_prefixed(prefix),
        *_prefixed(f"{prefix}.portLevelSettings"),
        Unserved(f"{prefix}.tunnel", "connections go to the destination directly"),
        Unserved(f"{prefix}.retryBudget", "connectionPool.http.maxRetries is the limit"),
    )


NOT_SERVED: dict[str, tuple[Unserved, ...]] = {
    "VirtualService": (
        Unserved("tls", _OPAQUE),
        Unserved("tcp", _OPAQUE),
        Unserved("tls.match.destinationSubnets", "the match never holds"),
        Unserved("tcp.match.destinationSubnets", "the match never holds"),
        Unserved("http.delegate", "requests that match this rule get 404"),
        Unserved("http.mirror", "nothing is mirrored"),
        Unserved("http.mirrors", "nothing is mirrored"),
        Unserved("http.corsPolicy", "the service's own CORS headers apply"),
        Unserved("http.match.statPrefix", "there are no statistics for this match"),
        Unserved("http.match.headers.@request.auth.*", "the match never holds"),
        Unserved("http.match.withoutHeaders.@request.auth.*", "the match never holds"),
        Unserved("http.retries.retryRemoteLocalities", "localities are not looked at", _is("TRUE")),
    ),
    "DestinationRule": (
        *_policy("trafficPolicy"),
        *_policy("subsets.trafficPolicy"),
        Unserved("workloadSelector", "the rule applies to all clients of its namespace"),
    ),
    "Gateway": (
        Unserved("servers.port.protocol", "gRPC-Web passes through untranslated", _is("GRPC-WEB")),
        Unserved("servers.tls.mode", "the server takes no connection", _is("AUTO_PASSTHROUGH")),
        Unserved("servers.tls.insecureSkipVerify", "client certificates are verified", _is("TRUE")),
        Unserved("servers.tls.minProtocolVersion", "TLS 1.2 is the least", _is("TLSV1_0", "TLSV1_1")),
        Unserved("servers.tls.maxProtocolVersion", "TLS 1.2 is offered", _is("TLSV1_0", "TLSV1_1")),
        Unserved("servers.bind", "the gateway's own address is bound"),
    ),
    "AuthorizationPolicy": (
        Unserved("action", "nothing is audited; the policy decides nothing", _is("AUDIT")),
        Unserved("action", "no authorizer is asked: what the rules match is denied", _is("CUSTOM")),
        Unserved("targetRef", "the policy applies to no proxy"),
        Unserved("targetRefs", "the policy applies to no proxy"),
        Unserved("rules.from.source.requestPrincipals", _UNKNOWN),
        Unserved("rules.from.source.notRequestPrincipals", _UNKNOWN),
        Unserved("rules.when.key", _UNKNOWN, _starts("REQUEST.AUTH.", "EXPERIMENTAL.")),
    ),
    "ServiceEntry": (
        Unserved("resolution", "the host has no endpoints", _is("DYNAMIC_DNS")),
        Unserved("subjectAltNames", "originated TLS acts on it; mesh mTLS accepts any identity of the trust domain"),
        Unserved("endpoints.network", "the address is used directly"),
        Unserved("endpoints.locality", "localities are not looked at"),
    ),
    "WorkloadEntry": (
        Unserved("network", "the address is used directly"),
        Unserved("locality", "localities are not looked at"),
    ),
}


def not_served(kind: str, spec: dict[str, Any], root: Path) -> Iterator[Finding]:
    """A finding for each place of `spec` (plain data) that is not acted on."""
    for row in NOT_SERVED.get(kind, ()):
        for path, value in _places(spec, row.path.split("."), root):
            if row.when is None or row.when(value):
                yield Finding(path, "accepted, not served yet", row.instead)


def _places(value: Any, parts: list[str], path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, list):
        if not parts:
            yield path, value
            return
        for index, item in enumerate(value):
            yield from _places(item, parts, (*path, index))
    elif not parts:
        if value is not None:
            yield path, value
    elif isinstance(value, dict):
        name, rest = parts[0], parts[1:]
        if name.startswith("@"):
            name, rest = ".".join(parts), []
        for key in (key for key in value if key == name or ("*" in name and fnmatchcase(key, name))):
            yield from _places(value[key], rest, (*path, key))
