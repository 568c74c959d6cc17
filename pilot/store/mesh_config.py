"""Mesh-wide settings: the part of Istio's MeshConfig that translation acts on.

Every field that MeshConfig has is accepted; one that it does not have is an error with the nearest name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct

from mesh.config import RetryPolicy
from mesh.errors import ConfigError
from pilot.resources.duration import parse_duration

_SERVED = (
    "trustDomain",
    "trustDomainAliases",
    "rootNamespace",
    "enableAutoMtls",
    "outboundTrafficPolicy",
    "pathNormalization",
    "connectTimeout",
    "protocolDetectionTimeout",
    "defaultHttpRetryPolicy",
    "defaultServiceExportTo",
    "defaultVirtualServiceExportTo",
    "defaultDestinationRuleExportTo",
)
_ACCEPTED = (
    "accessLogEncoding",
    "accessLogFile",
    "accessLogFormat",
    "ca",
    "caCertificates",
    "certificates",
    "configSources",
    "defaultConfig",
    "defaultInboundHttpRetryPolicy",
    "defaultProviders",
    "defaultTrafficPolicy",
    "disableEnvoyListenerLog",
    "discoverySelectors",
    "dnsRefreshRate",
    "enableEnvoyAccessLogService",
    "enablePrometheusMerge",
    "enableTracing",
    "extensionProviders",
    "h2UpgradePolicy",
    "hboneIdleTimeout",
    "inboundClusterStatName",
    "inboundTrafficPolicy",
    "ingressClass",
    "ingressControllerMode",
    "ingressSelector",
    "ingressService",
    "localityLbSetting",
    "meshMTLS",
    "outboundClusterStatName",
    "proxyHttpPort",
    "proxyInboundListenPort",
    "proxyListenPort",
    "serviceEntryVisibility",
    "serviceScopeConfigs",
    "serviceSettings",
    "tcpKeepalive",
    "tlsDefaults",
    "verifyCertificateAtClient",
    "zoneAwareLbSetting",
)


PathNormalization = Literal["none", "base", "merge_slashes", "decode_and_merge_slashes"]
_NORMALIZATIONS: dict[str, PathNormalization] = {
    "DEFAULT": "base",
    "NONE": "none",
    "BASE": "base",
    "MERGE_SLASHES": "merge_slashes",
    "DECODE_AND_MERGE_SLASHES": "decode_and_merge_slashes",
}


class MeshSettings(Struct, frozen=True):
    """Istio's defaults. `default_retries` None: no retries unless a route asks for them."""

    trust_domain: str = "cluster.local"
    trust_domain_aliases: tuple[str, ...] = ()
    root_namespace: str = "istio-system"
    domain: str = "cluster.local"
    enable_auto_mtls: bool = True
    outbound_policy: Literal["ALLOW_ANY", "REGISTRY_ONLY"] = "ALLOW_ANY"
    path_normalization: PathNormalization = "base"
    connect_timeout: float = 10.0
    protocol_detection_timeout: float = 0.0
    """Seconds that the first bytes of a connection are waited for where they decide; 0 is no limit of Istio's."""
    gateway_proxy_protocol: Literal["off", "require"] = "off"
    """Whether connections to gateways begin with a PROXY header (defaultConfig.gatewayTopology.proxyProtocol)."""
    default_retries: RetryPolicy | None = RetryPolicy()
    service_export: tuple[str, ...] = ("*",)
    virtual_service_export: tuple[str, ...] = ("*",)
    destination_rule_export: tuple[str, ...] = ("*",)
    not_served: tuple[str, ...] = ()
    """Fields of MeshConfig that were given and have no effect yet."""


def decode_mesh_config(data: Mapping[str, Any]) -> MeshSettings:
    """Settings from a MeshConfig as parsed from YAML or JSON. Raises ConfigError with path and remedy."""
    known = (*_SERVED, *_ACCEPTED)
    for name in data:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else "see MeshConfig in Istio's reference for its fields"
            raise ConfigError("unknown field", remedy=remedy, path=name, kind="MeshConfig")
    defaults = MeshSettings()
    return MeshSettings(
        trust_domain=_text(data, "trustDomain", defaults.trust_domain),
        trust_domain_aliases=_texts(data, "trustDomainAliases", ()),
        root_namespace=_text(data, "rootNamespace", defaults.root_namespace),
        enable_auto_mtls=_flag(data, "enableAutoMtls", defaults.enable_auto_mtls),
        outbound_policy=_outbound(data),
        path_normalization=_normalization(data),
        connect_timeout=_duration(data, "connectTimeout", "connectTimeout", defaults.connect_timeout),
        protocol_detection_timeout=_duration(data, "protocolDetectionTimeout", "protocolDetectionTimeout", 0.0),
        gateway_proxy_protocol="off" if _gateway_topology(data).get("proxyProtocol") is None else "require",
        default_retries=_retries(data),
        service_export=_texts(data, "defaultServiceExportTo", defaults.service_export) or ("*",),
        virtual_service_export=_texts(data, "defaultVirtualServiceExportTo", ()) or ("*",),
        destination_rule_export=_texts(data, "defaultDestinationRuleExportTo", ()) or ("*",),
        not_served=tuple(sorted(_not_served(data))),
    )


def _not_served(data: Mapping[str, Any]) -> Iterator[str]:
    for name in data:
        if name not in _SERVED and not (name == "defaultConfig" and _only_proxy_protocol(data)):
            yield name


def _gateway_topology(data: Mapping[str, Any]) -> Mapping[str, Any]:
    defaults = data.get("defaultConfig")
    topology = defaults.get("gatewayTopology") if isinstance(defaults, Mapping) else None
    if topology is None:
        return {}
    if not isinstance(topology, Mapping):
        raise _wrong("defaultConfig.gatewayTopology", topology, "write a mapping")
    proxied = topology.get("proxyProtocol")
    if proxied is not None and proxied != {}:
        raise _wrong("defaultConfig.gatewayTopology.proxyProtocol", proxied, "write {} to ask for the header")
    return topology


def _only_proxy_protocol(data: Mapping[str, Any]) -> bool:
    return set(data["defaultConfig"]) <= {"gatewayTopology"} and set(_gateway_topology(data)) <= {"proxyProtocol"}


def _wrong(path: str, value: object, remedy: str) -> ConfigError:
    return ConfigError(f"not a valid value: {value!r}", remedy=remedy, path=path, kind="MeshConfig")


def _text(data: Mapping[str, Any], name: str, default: str) -> str:
    value = data.get(name, default)
    if not isinstance(value, str):
        raise _wrong(name, value, "write a string")
    return value or default


def _texts(data: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = data.get(name, default)
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise _wrong(name, value, "write a list of strings")
    return tuple(value)


def _flag(data: Mapping[str, Any], name: str, default: bool) -> bool:
    value = data.get(name, default)
    if not isinstance(value, bool):
        raise _wrong(name, value, "write true or false")
    return value


def _duration(data: Mapping[str, Any], name: str, path: str, default: float) -> float:
    value = data.get(name)
    if value is None:
        return default
    seconds = parse_duration(value) if isinstance(value, str) else None
    if seconds is None or seconds < 0:
        raise _wrong(path, value, "write a duration such as 10s")
    return seconds


def _block(data: Mapping[str, Any], name: str, fields: tuple[str, ...]) -> Mapping[str, Any] | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise _wrong(name, value, "write a mapping")
    for field in value:
        if field not in fields:
            near = difflib.get_close_matches(str(field), fields, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"its fields are {', '.join(fields)}"
            raise ConfigError("unknown field", remedy=remedy, path=f"{name}.{field}", kind="MeshConfig")
    return value


def _outbound(data: Mapping[str, Any]) -> Literal["ALLOW_ANY", "REGISTRY_ONLY"]:
    block = _block(data, "outboundTrafficPolicy", ("mode", "egressProxy"))
    mode = "ALLOW_ANY" if block is None else block.get("mode", "REGISTRY_ONLY")
    if mode == "ALLOW_ANY":
        return "ALLOW_ANY"
    if mode == "REGISTRY_ONLY":
        return "REGISTRY_ONLY"
    raise _wrong("outboundTrafficPolicy.mode", mode, "write ALLOW_ANY or REGISTRY_ONLY")


def _normalization(data: Mapping[str, Any]) -> PathNormalization:
    block = _block(data, "pathNormalization", ("normalization",))
    mode = "DEFAULT" if block is None else block.get("normalization", "DEFAULT")
    if not isinstance(mode, str) or mode not in _NORMALIZATIONS:
        raise _wrong("pathNormalization.normalization", mode, f"write one of {', '.join(_NORMALIZATIONS)}")
    return _NORMALIZATIONS[mode]


def _retries(data: Mapping[str, Any]) -> RetryPolicy | None:
    fields = ("attempts", "perTryTimeout", "retryOn", "retryRemoteLocalities", "retryIgnorePreviousHosts", "backoff")
    block = _block(data, "defaultHttpRetryPolicy", fields)
    if block is None:
        return RetryPolicy()
    attempts = block.get("attempts", 0)
    if not isinstance(attempts, int) or attempts < 0:
        raise _wrong("defaultHttpRetryPolicy.attempts", attempts, "write a number of retries, 0 for none")
    if attempts == 0:
        return None
    words, codes = split_conditions(_text(block, "retryOn", ""))
    base = _duration(block, "backoff", "defaultHttpRetryPolicy.backoff", 0.025)
    return RetryPolicy(
        attempts=attempts,
        retry_on=words or RetryPolicy().retry_on,
        status_codes=codes,
        backoff_base=base,
        backoff_max=base * 10,
        ignore_previous_hosts=_flag(block, "retryIgnorePreviousHosts", True),
    )


def split_conditions(retry_on: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Envoy's condition words and status codes of an Istio `retryOn`; a code brings retriable-status-codes with it."""
    words: list[str] = []
    codes: list[int] = []
    for part in retry_on.split(","):
        word = part.strip()
        if word.isdigit():
            codes.append(int(word))
        elif word:
            words.append(word)
    if codes and "retriable-status-codes" not in words:
        words.append("retriable-status-codes")
    return tuple(words), tuple(codes)
