from pilot.resources.peer_authentication import MutualTls
from tests.pilot.faults import spec


def test_every_field_decodes():
    made = spec(
        "PeerAuthentication",
        "selector: {matchLabels: {app: a}}\nmtls: {mode: STRICT}\nportLevelMtls: {8080: {mode: DISABLE}, '81': {}}",
    )
    assert made.selector.match_labels == {"app": "a"}
    assert made.mtls == MutualTls(mode="STRICT")
    assert made.port_level_mtls == {8080: MutualTls(mode="DISABLE"), 81: MutualTls()}
