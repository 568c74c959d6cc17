"""Names and labels of the control plane's metrics."""

from mesh.telemetry.metrics import Registry
from pilot.push.stats import PushStats


def test_names_are_istiods() -> None:
    registry = Registry()
    stats = PushStats(registry, version="1.2")
    stats.pushed(["cluster", "cluster", "endpoints"])
    stats.rejected("route")
    stats.triggered(["config"])
    stats.refused("token")
    stats.event("connected")
    stats.config_event("Service", "add", 2)
    stats.signed("")
    stats.signed("no")
    stats.stale_answer()
    stats.watch_connected(lambda: [("1", 3)])
    stats.watch_root_expiry(9.0)
    lines = registry.exposition().decode().splitlines()
    for line in (
        'pilot_xds_pushes{type="cds"} 1',
        'pilot_xds_pushes{type="eds"} 1',
        'pilot_total_xds_rejects{type="rds"} 1',
        'pilot_push_triggers{type="config"} 1',
        'trioweave_feed_refusals_total{reason="token"} 1',
        'trioweave_feed_events_total{event="connected"} 1',
        'pilot_k8s_cfg_events{type="Service",event="add"} 2',
        "citadel_server_csr_count 2",
        "citadel_server_success_cert_issuance_count 1",
        "citadel_server_csr_sign_err_count 1",
        "pilot_xds_expired_nonce 1",
        'pilot_xds{version="1"} 3',
        "citadel_server_root_cert_expiry_timestamp 9",
        'pilot_info{version="1.2"} 1',
    ):
        assert line in lines
