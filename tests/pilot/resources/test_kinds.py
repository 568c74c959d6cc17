from msgspec import Struct

from pilot.resources.kinds import BY_GROUP_KIND, KINDS, OWNED_GROUPS


def test_no_two_kinds_are_one():
    assert len(BY_GROUP_KIND) == len(KINDS) == len({kind.name for kind in KINDS})


def test_every_kind_is_decoded_or_says_what_happens_instead():
    for kind in KINDS:
        assert kind.spec is not None or kind.instead
        assert kind.api_versions


def test_models_of_owned_groups_are_strict_and_those_of_kubernetes_tolerant():
    for kind in KINDS:
        if kind.spec is not None:
            assert issubclass(kind.spec, Struct)
            assert kind.spec.__struct_config__.forbid_unknown_fields is (kind.group in OWNED_GROUPS)


def test_both_gateways_are_told_apart():
    assert BY_GROUP_KIND["networking.istio.io", "Gateway"].name == "Gateway"
    assert BY_GROUP_KIND["gateway.networking.k8s.io", "Gateway"].name == "K8sGateway"
    assert BY_GROUP_KIND["", "Service"].api_versions == ["v1"]
