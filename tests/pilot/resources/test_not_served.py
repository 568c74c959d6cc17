import msgspec
import pytest

from pilot.resources.kinds import KINDS
from pilot.resources.not_served import NOT_SERVED
from pilot.resources.registry import load
from tests.pilot.resources.test_destination_rule import FULL as RULE
from tests.pilot.resources.test_virtual_service import FULL as SERVICE

SPECS = {kind.name: kind.spec for kind in KINDS}


def notices(kind, spec):
    body = "".join(f"  {line}\n" for line in spec.splitlines())
    loaded = load(f"apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: it}}\nspec:\n{body}", "f.yaml")
    return [n for n in loaded.notices if n.level == "not_served"]


def test_fields_that_do_not_act_are_told_with_what_happens_instead():
    found = notices("VirtualService", SERVICE)
    assert [n.path for n in found] == [
        "spec.tls",
        "spec.tcp",
        "spec.tls[0].match[0].destinationSubnets",
        "spec.http[4].delegate",
        "spec.http[0].mirror",
        "spec.http[0].corsPolicy",
        "spec.http[0].match[0].statPrefix",
    ]
    assert str(found[0]) == (
        "f.yaml:50:3 VirtualService/default/it spec.tls: accepted, not served yet; "
        "sidecars relay connections by the service's own address; gateways act on it"
    )


def test_policies_of_destinations_ports_and_subsets():
    found = {n.path.removeprefix("spec.") for n in notices("DestinationRule", RULE)}
    assert found == {
        "workloadSelector",
        "trafficPolicy.loadBalancer.warmup",
        "trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes",
        "trafficPolicy.portLevelSettings[0].loadBalancer.consistentHash",
        "trafficPolicy.tunnel",
        "trafficPolicy.retryBudget",
        "subsets[0].trafficPolicy.loadBalancer.localityLbSetting",
        "subsets[1].trafficPolicy.loadBalancer.consistentHash",
        "subsets[1].trafficPolicy.loadBalancer.zoneAwareLbSetting",
    }


def test_only_some_values_are_not_served():
    assert not notices("DestinationRule", "host: a\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL}}")
    assert not notices("DestinationRule", "host: a\ntrafficPolicy: {tls: {mode: SIMPLE}}")
    assert notices("DestinationRule", "host: a\ntrafficPolicy: {tls: {mode: SIMPLE, credentialName: a}}")
    assert not notices("Gateway", "servers: [{hosts: ['*'], port: {number: 80, name: http, protocol: HTTP}}]")
    through = "servers: [{hosts: ['*'], port: {number: 443, name: tls, protocol: TLS}, tls: {mode: %s}}]"
    assert not notices("Gateway", through % "PASSTHROUGH")
    assert notices("Gateway", through % "AUTO_PASSTHROUGH")
    claim = "hosts: [a]\nhttp: [{match: [{headers: {'@request.auth.claims.x': {exact: y}}}]}]"
    assert [n.path for n in notices("VirtualService", claim)] == [
        'spec.http[0].match[0].headers["@request.auth.claims.x"]'
    ]


@pytest.mark.parametrize("kind", NOT_SERVED)
def test_the_table_names_fields_that_exist(kind):
    for row in NOT_SERVED[kind]:
        current = SPECS[kind]
        for part in row.path.split("."):
            if part.startswith("@"):
                break
            fields = {f.encode_name: f.type for f in msgspec.structs.fields(current)}
            assert part in fields, row.path
            current = next((t for t in _structs(fields[part])), None)


def _structs(kind):
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for argument in getattr(kind, "__args__", ()):
        yield from _structs(argument)
