import pytest

from mesh.config import RetryPolicy
from mesh.errors import ConfigError
from pilot.store.mesh_config import MeshSettings, decode_mesh_config, split_conditions


def test_nothing_given_is_istios_defaults():
    assert decode_mesh_config({}) == MeshSettings()
    assert MeshSettings().default_retries == RetryPolicy()


def test_every_served_field_is_taken():
    settings = decode_mesh_config(
        {
            "trustDomain": "example.org",
            "trustDomainAliases": ["old.org"],
            "rootNamespace": "mesh",
            "enableAutoMtls": False,
            "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
            "connectTimeout": "3s",
            "protocolDetectionTimeout": "100ms",
            "defaultHttpRetryPolicy": {"attempts": 4, "retryOn": "5xx,429", "backoff": "50ms"},
            "defaultServiceExportTo": ["."],
        }
    )
    assert settings.trust_domain == "example.org"
    assert settings.trust_domain_aliases == ("old.org",)
    assert settings.root_namespace == "mesh"
    assert not settings.enable_auto_mtls
    assert settings.outbound_policy == "REGISTRY_ONLY"
    assert settings.connect_timeout == 3.0
    assert settings.protocol_detection_timeout == 0.1
    assert settings.default_retries == RetryPolicy(
        attempts=4, retry_on=("5xx", "retriable-status-codes"), status_codes=(429,), backoff_base=0.05, backoff_max=0.5
    )
    assert settings.service_export == (".",)


def test_an_outbound_policy_without_mode_is_registry_only():
    assert decode_mesh_config({"outboundTrafficPolicy": {}}).outbound_policy == "REGISTRY_ONLY"


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ({}, "base"),
        ({"normalization": "DEFAULT"}, "base"),
        ({"normalization": "NONE"}, "none"),
        ({"normalization": "MERGE_SLASHES"}, "merge_slashes"),
        ({"normalization": "DECODE_AND_MERGE_SLASHES"}, "decode_and_merge_slashes"),
    ],
)
def test_path_normalization(written, taken):
    settings = decode_mesh_config({"pathNormalization": written})
    assert settings.path_normalization == taken
    assert not settings.not_served


@pytest.mark.parametrize(
    ("written", "expected", "not_served"),
    [
        ({}, "off", ()),
        ({"gatewayTopology": {}}, "off", ()),
        ({"gatewayTopology": {"proxyProtocol": {}}}, "require", ()),
        ({"gatewayTopology": {"proxyProtocol": {}, "numTrustedProxies": 2}}, "require", ("defaultConfig",)),
        ({"holdApplicationUntilProxyStarts": True}, "off", ("defaultConfig",)),
    ],
)
def test_gateways_may_ask_for_a_proxy_header(written, expected, not_served):
    settings = decode_mesh_config({"defaultConfig": written})
    assert settings.gateway_proxy_protocol == expected
    assert settings.not_served == not_served


def test_default_retries_of_zero_attempts_are_none():
    assert decode_mesh_config({"defaultHttpRetryPolicy": {"attempts": 0}}).default_retries is None


def test_fields_without_effect_are_named():
    assert decode_mesh_config({"accessLogFile": "/dev/stdout"}).not_served == ("accessLogFile",)


@pytest.mark.parametrize(
    ("data", "path", "remedy"),
    [
        ({"trustDomian": "x"}, "trustDomian", "did you mean trustDomain?"),
        ({"zzz": 1}, "zzz", "see MeshConfig"),
        ({"trustDomain": 1}, "trustDomain", "string"),
        ({"trustDomainAliases": "x"}, "trustDomainAliases", "list"),
        ({"enableAutoMtls": "yes"}, "enableAutoMtls", "true or false"),
        ({"pathNormalization": {"normalization": "MERGE"}}, "pathNormalization.normalization", "MERGE_SLASHES"),
        ({"pathNormalization": {"mode": "NONE"}}, "pathNormalization.mode", "normalization"),
        ({"connectTimeout": "soon"}, "connectTimeout", "10s"),
        ({"connectTimeout": 5}, "connectTimeout", "10s"),
        ({"defaultConfig": {"gatewayTopology": 1}}, "defaultConfig.gatewayTopology", "mapping"),
        (
            {"defaultConfig": {"gatewayTopology": {"proxyProtocol": {"version": "V2"}}}},
            "defaultConfig.gatewayTopology.proxyProtocol",
            "{}",
        ),
        ({"outboundTrafficPolicy": {"mode": "MAYBE"}}, "outboundTrafficPolicy.mode", "ALLOW_ANY"),
        ({"outboundTrafficPolicy": {"mod": "x"}}, "outboundTrafficPolicy.mod", "did you mean mode?"),
        ({"outboundTrafficPolicy": {"qqq": "x"}}, "outboundTrafficPolicy.qqq", "its fields are"),
        ({"outboundTrafficPolicy": "x"}, "outboundTrafficPolicy", "mapping"),
        ({"defaultHttpRetryPolicy": {"attempts": -1}}, "defaultHttpRetryPolicy.attempts", "number"),
    ],
)
def test_a_wrong_field_is_an_error_with_its_path_and_a_remedy(data, path, remedy):
    with pytest.raises(ConfigError) as caught:
        decode_mesh_config(data)
    assert caught.value.path == path
    assert remedy in caught.value.remedy


def test_retry_conditions_are_words_and_codes():
    assert split_conditions(" connect-failure, 503 ,5xx") == (
        ("connect-failure", "5xx", "retriable-status-codes"),
        (503,),
    )
